"""model=amr: adversarial mixup resynthesis, alone or with a penalty on the codes."""

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lightning.functional.codes import mix
from interp_lightning.functional.critics import squared_slope
from interp_lightning.models.mixing import MixedPass, MixingAutoencoder
from interp_lightning.parameters import WayOut, Weight

PAIRS = 8  # one of so many pairs of real images measures the critic's slope: all of them would triple a step's time


class AMR(MixingAutoencoder):
    """Adversarial mixup resynthesis, Beckham et al. 2019, section 2: https://arxiv.org/abs/1903.02709.

    A critic D tells real images from decoded ones, which are reconstructions and decoded mixes of two codes. The
    autoencoder is trained to make its decoded images pass for real. ACAI's critic tells how much an image is mixed.

    Both players have the losses of Goodfellow et al. 2014, the autoencoder's in the non-saturating form. The slope of D
    at real images is penalised (Mescheder et al. 2018, https://arxiv.org/abs/1801.04406), which the paper does not do.

    Args:
        lam: weight λ ≥ 0 of the autoencoder's adversarial term.
        mixing: "lerp" weighs whole codes, α·z₁ + (1 − α)·z₂; "bernoulli" takes each number from one of the two codes.
        r1: weight ≥ 0 of the mean squared slope.
        cycle, smoothness, network, penalty, …: see `MixingAutoencoder`.
    """

    critic_parts = ("critic",)

    def __init__(
        self,
        lam: Annotated[Weight, WayOut("use model=ae to switch the critic off")] = 0.002,
        mixing: Literal["lerp", "bernoulli"] = "lerp",
        r1: Weight = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.lam, self.mixing, self.r1 = lam, mixing, r1
        self.critic = kwargs["network"].critic()

    def forward(self, x: Tensor) -> MixedPass:
        generator = self.generator()
        prior = self.draw_prior(len(x), generator)
        alpha = self.draw_alpha(len(x), generator)
        codes = self.embed(x, generator)
        z = codes["z"]
        weights = self._draw_mask(alpha, generator) if self.mixing == "bernoulli" else alpha
        z_mix = mix(z, weights)
        x_hat, x_hat_mix = self.decode(torch.cat([z, z_mix])).chunk(2)
        return MixedPass(x=x, x_hat=x_hat, prior=prior, alpha=weights, z_mix=z_mix, x_hat_mix=x_hat_mix, **codes)

    def autoencoder_losses(self, p: MixedPass) -> dict[str, Tensor]:
        decoded = self.critic(torch.cat([p.x_hat, p.x_hat_mix]))
        return {
            "reconstruction": F.mse_loss(p.x_hat, p.x),
            "realism": self.lam * F.softplus(-decoded).mean(),
            **self.path_losses(p),
            "penalty": self.penalty.lam * self.divergence(p),
        }

    def critic_losses(self, p: MixedPass) -> dict[str, Tensor]:
        real, decoded = self._criticise(p)
        losses = {"real": F.softplus(-real).mean(), "decoded": F.softplus(decoded).mean()}
        if self.r1:
            losses["slope"] = self.r1 / 2 * self._slope(p.x)
        return losses | self.penalty_critic_losses(p)

    def critic_predictions(self, p: MixedPass) -> dict[str, tuple[Tensor, Tensor]]:
        real, decoded = self._criticise(p)
        target = torch.cat([torch.ones_like(real), torch.zeros_like(decoded)])
        return {"critic": (torch.cat([real, decoded]).sigmoid(), target), **super().critic_predictions(p)}

    def _criticise(self, p: MixedPass) -> tuple[Tensor, Tensor]:
        """Return the critic's logits for real images, (B,), and for reconstructions and mixes, (2B,)."""
        logits = self.critic(torch.cat([p.x, p.x_hat, p.x_hat_mix]))
        return logits[: len(p.x)], logits[len(p.x) :]

    def _slope(self, x: Tensor) -> Tensor:
        """Return the mean of ‖∇D‖² over every eighth pair of the global batch; the mean over devices is exact."""
        half, rank = len(x) // 2, self.global_rank if self.devices > 1 else 0
        mine = slice(-rank * half % PAIRS, half, PAIRS)
        some = torch.cat([x[mine], x.flip(0)[mine]])
        if not len(some):
            return x.new_zeros(())
        share = len(some) / 2 / -(-half * self.devices // PAIRS)
        return share * self.devices * squared_slope(self.critic, some)

    def _draw_mask(self, alpha: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the numbers that a mix takes from the first code, each with probability α: (B, d) of 0 and 1."""
        return (self.draw_uniform((len(alpha), self.latent_dim), generator) < alpha[:, None]).to(alpha)
