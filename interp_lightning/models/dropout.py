"""model=dropout: an autoencoder with dropout on its codes, alone or with a penalty on them."""

from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from interp_lightning.models.ae import AE
from interp_lightning.models.base import Pass
from interp_lightning.parameters import WayOut

Rate = Annotated[float, Field(gt=0, lt=1), WayOut("use model=ae for no dropout")]


class Dropout(AE):
    """Autoencoder with dropout on codes, Srivastava et al. 2014: https://jmlr.org/papers/v15/srivastava14a.html.

    In training each number of a code is set to 0 with probability `rate`, and the others are divided by 1 − `rate`
    before they are decoded. The penalty sees whole codes, and so does evaluation.

    Args:
        rate: probability in (0, 1) with which a number is dropped; 0.5 in ACAI's paper.
        network, penalty, …: see `Autoencoder`.
    """

    def __init__(self, rate: Rate = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate

    def forward(self, x: Tensor) -> Pass:
        if not self.training:
            return super().forward(x)
        generator = self.generator()
        prior = self.draw_prior(len(x), generator)
        uniform = self.draw_uniform((len(x), self.latent_dim), generator)
        codes = self.embed(x, generator)
        kept = (uniform >= self.rate).to(codes["z"]) / (1 - self.rate)
        return Pass(x=x, x_hat=self.decode(codes["z"] * kept), prior=prior, **codes)
