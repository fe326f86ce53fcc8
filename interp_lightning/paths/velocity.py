"""The network of how=flow, and how it learns."""

import copy
import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from interp_lightning.errors import Diverged
from interp_lightning.paths.base import Codes

FREQUENCIES = 32  # of the time's embedding, from 1 to 100
KEPT = 0.998  # share of the averaged weights that a step keeps


class Velocity(nn.Module):
    """Velocity of a flow: points (n, d) and times (n, 1) in [0, 1] → (n, d). It knows the codes' mean and scale."""

    mean: Tensor
    scale: Tensor
    frequencies: Tensor

    def __init__(self, latent_dim: int, width: int, depth: int) -> None:
        super().__init__()
        self.point, self.time = nn.Linear(latent_dim, width), nn.Linear(2 * FREQUENCIES, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(depth)
        )
        self.velocity = nn.Linear(width, latent_dim)
        self.register_buffer("frequencies", torch.logspace(0, 2, FREQUENCIES))
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Float[Tensor, "n d"], t: Float[Tensor, "n 1"]) -> Float[Tensor, "n d"]:
        phase = t * self.frequencies
        hidden = self.point(x) + self.time(torch.cat([phase.sin(), phase.cos()], dim=1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.velocity(F.silu(hidden))

    def standardised(self, codes: Codes) -> Codes:
        return (codes - self.mean) / self.scale

    def codes(self, standardised: Codes) -> Codes:
        return standardised * self.scale + self.mean


class Learning:
    """Training of a velocity network on codes: rectified flow, Adam with a cosine, averaged weights.

    The same codes and settings give the same weights, also after an interruption.

    Args:
        network: to train; its mean and scale become those of the codes.
        codes: (N, d).
        batch_size: codes in a step.
        lr: highest learning rate.
        steps: of the whole training.
    """

    def __init__(self, network: Velocity, codes: Codes, batch_size: int, lr: float, steps: int) -> None:
        self.generator = torch.Generator().manual_seed(0)
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=self.generator)
                nn.init.zeros_(layer.bias)
        network.mean.copy_(codes.mean(0))
        network.scale.copy_(codes.std(0).mean().clamp_min(torch.finfo(codes.dtype).tiny))
        self.network, self.averaged = network, copy.deepcopy(network)
        self.codes = network.standardised(codes)
        self.optimizer = torch.optim.Adam(network.parameters(), lr)
        self.batch_size, self.lr, self.steps, self.step = batch_size, lr, steps, 0
        self.loss = torch.zeros(())  # of the last step

    def take_step(self) -> None:
        """Take one step on a batch of codes, noise and times."""
        chosen = torch.randint(len(self.codes), (self.batch_size,), generator=self.generator)
        noise = torch.randn(self.batch_size, self.codes.shape[1], generator=self.generator).to(self.codes)
        t = torch.rand(self.batch_size, 1, generator=self.generator).to(self.codes)
        codes = self.codes[chosen.to(self.codes.device)]
        self.loss = F.mse_loss(self.network((1 - t) * noise + t * codes, t), codes - noise)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * (1 + math.cos(math.pi * self.step / self.steps)) / 2
        self.optimizer.zero_grad()
        self.loss.backward()
        self.optimizer.step()
        self.step += 1
        kept = min(KEPT, self.step / (self.step + 10))  # at first, forget the initial weights
        with torch.no_grad():
            for average, parameter in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                average.lerp_(parameter, 1 - kept)

    def check(self) -> None:
        """Raise Diverged if the last loss is NaN or infinite."""
        if not self.loss.isfinite():
            raise Diverged(
                f"the flow's training has diverged (loss {self.loss.item()} at step {self.step}); use a smaller lr in "
                "conf/path/flow.yaml, or another kind of path"
            )

    def state(self) -> dict[str, Tensor]:
        """Return everything that the rest of the training depends on."""
        moments = {
            f"optimizer.{number}.{name}": value
            for number, each in self.optimizer.state_dict()["state"].items()
            for name, value in each.items()
        }
        return {
            "step": torch.tensor(self.step),
            "generator": self.generator.get_state(),
            **{f"network.{name}": value for name, value in self.network.state_dict().items()},
            **{f"averaged.{name}": value for name, value in self.averaged.state_dict().items()},
            **moments,
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a state of a training with the same codes and settings; an empty one is its start."""
        if not state:
            return
        self.step = int(state["step"])
        self.generator.set_state(state["generator"])
        for name in ("network", "averaged"):
            getattr(self, name).load_state_dict(_below(state, name))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _below(state, "optimizer").items():
            number, name = key.split(".")
            moments.setdefault(int(number), {})[name] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the entries whose names begin with a prefix, without it."""
    return {name.removeprefix(f"{prefix}."): value for name, value in state.items() if name.startswith(f"{prefix}.")}
