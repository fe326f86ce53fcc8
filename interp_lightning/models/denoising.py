"""model=denoising: the denoising autoencoder, alone or with a penalty on the codes."""

from typing import Annotated, Any

from torch import Tensor

from interp_lightning.models.ae import AE
from interp_lightning.models.base import Pass
from interp_lightning.parameters import Positive, WayOut


class Denoising(AE):
    """Denoising autoencoder, Vincent et al. 2010, section 3.1: https://jmlr.org/papers/v11/vincent10a.html.

    It reconstructs an image from the image with Gaussian noise. In evaluation there is no noise.

    Args:
        noise: standard deviation σ > 0 of the noise, for images in [−1, 1]; 1.0 in ACAI's paper.
        network, penalty, …: see `Autoencoder`.
    """

    def __init__(self, noise: Annotated[Positive, WayOut("use model=ae for no noise")] = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.noise = noise

    def forward(self, x: Tensor) -> Pass:
        if not self.training:
            return super().forward(x)
        generator = self.generator()
        prior = self.draw_prior(len(x), generator)
        codes = self.embed(x + self.noise * self.draw_noise(x.shape, generator), generator)
        return Pass(x=x, x_hat=self.decode(codes["z"]), prior=prior, **codes)
