"""What models that decode mixed codes in training have in common: their pass, and two optional terms for paths."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interp_lightning.errors import ConfigError
from interp_lightning.functional.codes import mix
from interp_lightning.models.base import Autoencoder, Pass
from interp_lightning.parameters import Weight

STEP = 0.01  # of α, over which the change of an image is measured


@dataclass(frozen=True)
class MixedPass(Pass):
    """One pass of a batch that is decoded as mixes, too."""

    alpha: Tensor  # (B,) mixing coefficients α in [0, ½], or (B, d) of each number
    z_mix: Tensor  # (B, d) mixed codes
    x_hat_mix: Tensor  # (B, C, H, W) their images


class MixingAutoencoder(Autoencoder):
    """Autoencoder that decodes mixes of its codes in training: the base of ACAI and AMR.

    Two terms can be added, which are those of Oring et al. 2021, section 3 (https://arxiv.org/abs/2008.01487). On a CPU
    they take about 15 and 20 % more time per step.

    Args:
        cycle: weight ≥ 0 of ‖f(g(z_α)) − z_α‖² over the mean squared distance of two codes: mixed codes should come
            back. The paper's term is not divided, and codes can shrink it by shrinking.
        smoothness: weight ≥ 0 of ‖∂g(z_α)/∂α‖², a mean over pixels: an image should change little with α.
        network, penalty, …: see `Autoencoder`.
    """

    def __init__(self, cycle: Weight = 0.0, smoothness: Weight = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cycle, self.smoothness = cycle, smoothness

    def draw_alpha(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw the global batch's mixing coefficients α ~ U[0, ½] and return the n of this device: (n,)."""
        return 0.5 * self.draw_uniform((n,), generator)

    def path_losses(self, p: MixedPass) -> dict[str, Tensor]:
        """Return the weighted terms of cycle and smoothness; none whose weight is 0."""
        losses = {}
        if self.cycle:
            z, _ = self._codes_and_prior(p)
            error = (self.encode(p.x_hat_mix) - p.z_mix).square().sum(1).mean()
            losses["cycle"] = self.cycle * error / (2 * z.var(0, correction=0).sum())
        if self.smoothness:
            further = self.decode(mix(p.z, p.alpha + STEP))
            losses["smoothness"] = self.smoothness * ((further - p.x_hat_mix) / STEP).square().mean()
        return losses

    def check(self, batch_size: int) -> None:
        super().check(batch_size)
        if batch_size % 2:
            raise ConfigError(
                f"`data.batch_size` (={batch_size}) must be even for model={type(self).__name__.lower()}, which mixes "
                f"each image with its mirror image in the batch; use {batch_size + 1}"
            )
