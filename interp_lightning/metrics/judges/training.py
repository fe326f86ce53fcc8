"""Train a judge on a data set's own images."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from interp_lightning.functional.images import to_unit_range
from interp_lightning.metrics.judges.own import OwnJudge
from interp_lightning.system.machine import reproducible

RECIPE = 1  # its version: another one makes other judges of the same images
BATCH, LEARNING_RATE = 128, 4e-3
MOST_SEEN, SEEN_PER_ROOT = 120_000, 500  # images seen in training: 500·√N, so that few images take few steps
SHIFT = 1 / 16  # of the image's size, at most
FIT_TO = 5_000  # images of which features are the principal components
GRAINS = (1, 4, 8, 16)  # cells of noise to a side; one more grain is as fine as the pixels
TEMPERATURE = 0.2
LEAST_FEATURES, MOST_FEATURES = 8, 64


def dimension(images: int) -> int:
    """Return the number of features that sets of so many images can be compared in: half as many, 8 to 64.

    Example:
        >>> dimension(15), dimension(100), dimension(10_000)
        (8, 49, 64)
    """
    return max(LEAST_FEATURES, min(MOST_FEATURES, (images - 1) // 2))


def order(images: int, seed: int = 0) -> list[Tensor]:
    """Return the positions of the images of each training batch.

    Example:
        >>> len(order(60_000)), len(order(400)), [sorted(batch.tolist()) for batch in order(2)[:2]]
        (937, 78, [[0, 1], [0, 1]])
    """
    batch, generator = min(BATCH, images), torch.Generator().manual_seed(seed)
    steps = max(1, min(MOST_SEEN, int(SEEN_PER_ROOT * images**0.5)) // BATCH)
    epochs = -(-steps // (images // batch))
    whole = images // batch * batch
    return [part for _ in range(epochs) for part in torch.randperm(images, generator=generator)[:whole].split(batch)][
        :steps
    ]


def train(
    judge: OwnJudge, batches: Iterable[tuple[Tensor, Tensor]], steps: int, sample: Iterable[Tensor], seed: int = 0
) -> None:
    """Train a judge, and freeze it. The same images and seed make the same judge, on one thread of the CPU.

    With labels it learns to classify, as the digit network does: images with small random shifts; blends of two, with
    both labels in proportion; noise and plain colours, with uniform labels. So neither an overlay nor a blot is
    recognised. Without labels it learns to find an image among the others of its batch in the same way, blends and
    noise included: instance discrimination (SimCLR, https://arxiv.org/abs/2002.05709) with mixed targets (i-Mix,
    https://arxiv.org/abs/2010.08887). Its features are then the principal components of the last maps.

    Args:
        judge: untrained.
        batches: images (B, C, H, W), uint8 or in [−1, 1], and labels (B,).
        steps: number of batches.
        sample: batches of images to fit the principal components to.
        seed: of all random draws.
    """
    with reproducible(seed):
        for module in judge.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        judge.train().requires_grad_(True)
        optimizer = torch.optim.AdamW(judge.parameters(), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=max(2, steps))
        for images, labels in tqdm(batches, desc="Judge", total=steps, leave=False, disable=None):
            x = to_unit_range(images.cpu()).clamp(-1, 1)
            loss = _classifying(judge, x, labels.cpu()) if judge.classes else _telling_apart(judge, x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        judge.eval().requires_grad_(False)
        judge.fit_components(torch.cat([judge.body(to_unit_range(x.cpu()).clamp(-1, 1)) for x in sample]))


def _classifying(judge: OwnJudge, x: Tensor, labels: Tensor) -> Tensor:
    x, target = shifted(x), F.one_hot(labels, judge.classes).float()
    return _cross_entropy(judge, x, target)


def _telling_apart(judge: OwnJudge, x: Tensor) -> Tensor:
    target = torch.eye(len(x))
    return _cross_entropy(judge, shifted(x), target, keys=shifted(x))


def _cross_entropy(judge: OwnJudge, x: Tensor, target: Tensor, keys: Tensor | None = None) -> Tensor:
    """Return the loss of images with targets (B, K), of their blends, and of noise.

    Args:
        keys: the K images among which each is to be found; None if K are classes.
    """
    share, partner = torch.empty(len(x), 1).uniform_(0.2, 0.8), torch.randperm(len(x))
    blend = share[..., None, None] * x + (1 - share[..., None, None]) * x[partner]
    nothing = no_image(max(1, len(x) // 8), x.shape[1:])
    uniform = torch.full((len(nothing), target.shape[1]), 1 / target.shape[1])
    wanted = torch.cat([target, share * target + (1 - share) * target[partner], uniform])
    out = judge.head(judge.body(torch.cat([x, blend, nothing, *([] if keys is None else [keys])])))
    if keys is not None:
        out = F.normalize(out, dim=1)
        out = out[: -len(keys)] @ out[-len(keys) :].T / TEMPERATURE
    return F.cross_entropy(out, wanted)


def shifted(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Shift each image by up to a sixteenth of its size, at least a pixel; the border's pixels are repeated."""
    number, _, height, width = x.shape
    reach = max(1, round(SHIFT * max(height, width)))
    rows, columns = (
        (torch.arange(size) + torch.randint(-reach, reach + 1, (number, 1))).clamp(0, size - 1)
        for size in (height, width)
    )
    which: Int[Tensor, "n 1 1"] = torch.arange(number)[:, None, None]
    return x.movedim(1, -1)[which, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def no_image(number: int, shape: tuple[int, ...]) -> Tensor:
    """Noise of all grains, from one pixel to a whole image of one colour, around any brightness: (number, C, H, W)."""
    channels, height, width = shape
    grains = [
        F.interpolate(torch.randn(number, channels, *size), (height, width), mode="bilinear")
        for size in (*((cells, cells) for cells in GRAINS), (height, width))
    ]
    grain = torch.stack(grains)[torch.randint(len(grains), (number,)), torch.arange(number)]
    contrast, colour = torch.rand(number, 1, 1, 1), torch.rand(number, channels, 1, 1)
    return (contrast.square() * grain + 3 * colour - 2).clamp(-1, 1)
