"""model=acai: adversarially constrained interpolation, alone or with a penalty on the codes."""

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lightning.functional.codes import mix
from interp_lightning.models.mixing import MixedPass, MixingAutoencoder
from interp_lightning.parameters import Share, WayOut, Weight


class ACAI(MixingAutoencoder):
    """ACAI, Berthelot et al. 2018, eq. 1 and 2: https://arxiv.org/abs/1807.07543.

    A critic d predicts the mixing coefficient of a decoded mix. The autoencoder is trained to make it predict 0, the
    target that the critic learns for images that are not mixed.

    Args:
        lam: weight λ ≥ 0 of the autoencoder's adversarial term; 0.5 in the paper.
        gamma: share γ in [0, 1] of the image in γ·x + (1 − γ)·x̂, for which the critic's target is 0.
        cycle, smoothness, network, penalty, …: see `MixingAutoencoder`.
    """

    critic_parts = ("critic",)

    def __init__(
        self,
        lam: Annotated[Weight, WayOut("use model=ae to switch the critic off")] = 0.1,
        gamma: Share = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.lam = lam
        self.gamma = gamma
        self.critic = kwargs["network"].critic()

    def forward(self, x: Tensor) -> MixedPass:
        generator = self.generator()
        prior = self.draw_prior(len(x), generator)
        alpha = self.draw_alpha(len(x), generator)
        codes = self.embed(x, generator)
        z = codes["z"]
        z_mix = mix(z, alpha)
        x_hat, x_hat_mix = self.decode(torch.cat([z, z_mix])).chunk(2)  # together, which a GPU does in one go
        return MixedPass(x=x, x_hat=x_hat, prior=prior, alpha=alpha, z_mix=z_mix, x_hat_mix=x_hat_mix, **codes)

    def autoencoder_losses(self, p: MixedPass) -> dict[str, Tensor]:
        return {
            "reconstruction": F.mse_loss(p.x_hat, p.x),
            "interpolation": self.lam * self.critic(p.x_hat_mix).square().mean(),
            **self.path_losses(p),
            "penalty": self.penalty.lam * self.divergence(p),
        }

    def critic_losses(self, p: MixedPass) -> dict[str, Tensor]:
        mixed, unmixed = self._criticise(p).chunk(2)
        return {
            "alpha": F.mse_loss(mixed, p.alpha),
            "realism": unmixed.square().mean(),
            **self.penalty_critic_losses(p),
        }

    def critic_predictions(self, p: MixedPass) -> dict[str, tuple[Tensor, Tensor]]:
        target = torch.cat([p.alpha, torch.zeros_like(p.alpha)])
        return {"critic": (self._criticise(p), target), **super().critic_predictions(p)}

    def _criticise(self, p: MixedPass) -> Tensor:
        """Return the critic's predictions for mixed images and for those whose target is 0: (2B,)."""
        unmixed = self.gamma * p.x + (1 - self.gamma) * p.x_hat
        return self.critic(torch.cat([p.x_hat_mix, unmixed]))
