"""model=rae: the regularised autoencoder, alone or with a penalty on the codes."""

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lightning.models.ae import AE
from interp_lightning.models.base import Pass
from interp_lightning.parameters import WayOut, Weight

STEP = 0.01  # of a code, over which the change of an image is measured


class RAE(AE):
    """Regularised autoencoder, Ghosh et al. 2020, eq. 6: https://arxiv.org/abs/1903.12436.

    Codes are kept small and the decoder smooth, instead of the noise of a VAE. Codes to decode come from a density that
    is fitted afterwards, as `evaluate` does with its mixture.

    Args:
        lam: weight ≥ 0 of ½‖z‖².
        smooth: what makes the decoder smooth. "gradient" is ‖∂g(z)/∂z‖²_F over the number of pixels, estimated along
            one random direction per code (RAE-GP); "l2" is the squared norm of the decoder's parameters (RAE-L2).
        weight: weight ≥ 0 of that.
        network, penalty, …: see `Autoencoder`.
    """

    def __init__(
        self,
        lam: Annotated[Weight, WayOut("use model=ae for codes of any size")] = 1e-4,
        smooth: Literal["gradient", "l2"] = "gradient",
        weight: Weight = 0.001,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.lam, self.smooth, self.weight = lam, smooth, weight

    def autoencoder_losses(self, p: Pass) -> dict[str, Tensor]:
        smoothness = self._slope(p) if self.smooth == "gradient" else self._squares()
        return {
            "reconstruction": F.mse_loss(p.x_hat, p.x),
            "size": self.lam * 0.5 * p.z.square().sum(1).mean(),
            "smoothness": self.weight * smoothness,
            "penalty": self.penalty.lam * self.divergence(p),
        }

    def _slope(self, p: Pass) -> Tensor:
        """Estimate the mean of ‖∂g/∂z‖²_F over images and pixels by E‖∂g/∂z·v‖², v ~ N(0, I), as a difference."""
        further = self.decode(p.z + STEP * self.draw_noise(p.z.shape, self.generator()))
        return ((further - p.x_hat) / STEP).square().mean()

    def _squares(self) -> Tensor:
        """Return the squared norm of the decoder's parameters."""
        return torch.stack([parameter.square().sum() for parameter in self.decoder.parameters()]).sum()
