"""Test after training if a fresh critic can tell how much of two codes is mixed in an image."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from interp_lightning.errors import ConfigError
from interp_lightning.metrics.base import Collected, scores
from interp_lightning.system.machine import reproducible

LEAST = 10  # images
EPOCHS, BATCH, RATE = 8, 50, 3e-3
HELD_OUT = 5  # every fifth image
WIDTHS = 16, 32, 64


def alpha_r2(images: Float[Tensor, "n C H W"], alpha: Float[Tensor, " n"], seed: int = 0) -> float:
    """Train a critic to predict α from decoded mixtures (1 − α)·z_a + α·z_b, α in [0, ½], and return R² on others.

    It is ACAI's own criterion, by a critic that the model has never played against: 0 or less where it cannot tell a
    mixture from a reconstruction, 1 where it always knows α. A small convolutional network on pixels sees traces that
    no judge of digits looks for. Deterministic on one device. Criterion: Berthelot et al. 2018, eq. 1 and 2,
    https://arxiv.org/abs/1807.07543.

    Args:
        images: in [−1, 1]; the critic never sees every fifth.
        alpha: of each image.
        seed: of the critic's weights and batches.

    Returns:
        1 − mean squared error / variance of α, of the images held out.

    Raises:
        ConfigError: there are fewer than 10 images.

    Example:
        >>> alpha = torch.rand(500, generator=torch.Generator().manual_seed(0)) / 2
        >>> grey = (4 * alpha - 1).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
        >>> alpha_r2(grey, alpha) > 0.9
        True
    """
    if len(images) < LEAST:
        raise ConfigError(f"{len(images)} images are too few to train a critic; use at least {LEAST}")
    held_out = torch.arange(len(images), device=images.device) % HELD_OUT == 0
    images, alpha = images.float(), alpha.float()
    mean, deviation = alpha[~held_out].mean(), alpha[~held_out].std().clamp_min(1e-8)
    x, y = images[~held_out], (alpha[~held_out] - mean) / deviation
    with reproducible(seed):
        critic = _critic(images.shape[1]).to(images.device)
        steps = EPOCHS * -(-len(x) // BATCH)
        optimizer = torch.optim.Adam(critic.parameters(), lr=RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in tqdm(range(EPOCHS), desc="Fresh critic", leave=False, disable=None):
            for items in torch.randperm(len(x)).to(x.device).split(BATCH):
                optimizer.zero_grad()
                F.mse_loss(critic(x[items])[:, 0], y[items]).backward()
                optimizer.step()
                schedule.step()
    critic.eval()
    with torch.no_grad():
        predicted = torch.cat([critic(part)[:, 0] for part in images[held_out].split(500)]) * deviation + mean
    error = (predicted - alpha[held_out]).double().square().mean()
    return (1 - error / alpha[held_out].double().var(correction=0)).item()


def _critic(channels: int) -> nn.Module:
    layers: list[nn.Module] = []
    for width_in, width in zip((channels, *WIDTHS), WIDTHS, strict=False):
        layers += [nn.Conv2d(width_in, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], 1))


class AlphaTest(Collected):
    """`alpha_r2`, which gives protocol and source, of all updates on all devices.

    `update` takes decoded mixtures of two codes and their α; `compute` gives {"alpha_r2": ()}, below 10 images {}.
    """

    higher_is_better = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("images", "alpha", **kwargs)

    def update(self, images: Float[Tensor, "n C H W"], alpha: Float[Tensor, " n"]) -> None:
        """Add images."""
        self.add("images", images)
        self.add("alpha", alpha)

    def compute(self) -> dict[str, Tensor]:
        images, alpha = self.whole("images"), self.whole("alpha")
        return scores(alpha_r2=alpha_r2(images, alpha)) if len(images) >= LEAST else {}
