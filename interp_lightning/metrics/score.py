"""Score paths from image to image by one number: real, new and small steps all the way, and both ends reached."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_lightning.metrics.base import Means, Seen
from interp_lightning.metrics.neighbours import neighbour_distances, within
from interp_lightning.metrics.novelty import novel
from interp_lightning.metrics.paths import Paths, confident, step_lengths

PARTS = 3  # a path is as good as its worst third
PLACES = 32 * PARTS  # at which a path is looked at

PerFrame = Float[Tensor, "pairs steps"]


def path_score(
    features: Paths, worth: PerFrame, ends: Float[Tensor, "pairs 2 d"], stride: Float[Tensor, ""]
) -> Float[Tensor, " pairs"]:
    """Compute the score of paths, 0 to 1: R²(ends) · min over all thirds of the length of mean(worth · [small step]).

    - *worth*: each point between two frames has the mean worth of both, see `frame_worth`. Noise, blur and copies of
      training images have none.
    - *small step*: between frames that are further apart than `stride` nothing counts. Images that jump score 0, and so
      do slide shows of any real images, and detours so long that their frames no longer show the way.
    - *of the length*: shares are those of the length in feature space, at any speed. A path cannot win by staying
      where it is good and switching: the switch is its whole length.
    - *the worst third*: a path is as good as its worst stretch. Pixel fading is real near its ends, and nowhere else.
    - *the ends*, see `ends_reached`: a path that does not go anywhere scores 0, whatever its images.

    Args:
        features: of the frames.
        worth: of the frames, 0 to 1.
        ends: features of the two images that the path should join.
        stride: greatest length of a small step.

    Example:
        >>> features = torch.tensor([[[0.0], [1.0], [2.0], [3.0]], [[0.0], [0.0], [3.0], [3.0]]])
        >>> path_score(features, torch.ones(2, 4), features[:, [0, -1]], torch.tensor(1.5))
        tensor([1., 0.])
    """
    lengths = step_lengths(features)
    counts = (worth[:, :-1] + worth[:, 1:]) / 2 * (lengths <= stride)
    upto = lengths.cumsum(1)
    at = (torch.arange(PLACES).to(upto) + 0.5) / PLACES * upto[:, -1:]
    step = torch.searchsorted(upto, at).clamp(max=lengths.shape[1] - 1)
    worst = counts.gather(1, step).unfold(1, PLACES // PARTS, 1).mean(-1).amin(1)
    return ends_reached(features, ends) * worst


def ends_reached(features: Paths, ends: Float[Tensor, "pairs 2 d"]) -> Float[Tensor, " pairs"]:
    """Compute R² of a path's ends: 1 − (‖x_0 − a‖² + ‖x_1 − b‖²) / (‖a − b‖² / 2), at least 0.

    1 where the ends are the images a and b themselves, and 0 for every path that stays at one place: for any x,
    ‖x − a‖² + ‖x − b‖² ≥ ‖a − b‖² / 2. It is 0 where a and b are the same.

    Example:
        >>> ends = torch.tensor([[[0.0], [2.0]]])
        >>> [ends_reached(torch.tensor([path]), ends).item() for path in ([[0.0], [1.0], [2.0]], [[1.0], [1.0]])]
        [1.0, 0.0]
    """
    missed = (features[:, [0, -1]] - ends).square().sum((1, 2))
    apart = (ends[:, 0] - ends[:, 1]).square().sum(1) / 2
    return torch.where(apart > 0, (1 - missed / apart).clamp_min(0), torch.zeros_like(apart))


def frame_worth(
    member: Bool[Tensor, " frames"], new: Bool[Tensor, " frames"], recognised: Float[Tensor, " frames"] | None
) -> Float[Tensor, " frames"]:
    """Compute the worth of frames: half for being recognised, half for membership, and none for copies.

    A classifier alone is sure of digits with specks, and a manifold alone has room between the classes. Without a
    classifier membership is all.

    Args:
        member: the frame lies within the manifold of test images, see `within`.
        new: it is no copy of a training image, see `novel`.
        recognised: 1 where a classifier is sure of it, else 0, see `confident`; None without a classifier.

    Example:
        >>> yes = torch.tensor([True])
        >>> frame_worth(yes, yes, torch.zeros(1)), frame_worth(yes, ~yes, torch.ones(1)), frame_worth(yes, yes, None)
        (tensor([0.5000]), tensor([0.]), tensor([1.]))
    """
    real = member.float() if recognised is None else (member + recognised) / 2
    return real * new


class PathScore(Means):
    """Means of `path_score` and `ends_reached` over all paths of all updates on all devices.

    A step is small up to the median distance of a test image to its nearest other test image.
    `update` takes a `Seen`; `compute` gives {"score": (), "ends": ()}.
    """

    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("score", "ends", **kwargs)

    def update(self, seen: Seen) -> None:
        """Add paths."""
        frames, known = seen.features.flatten(0, 1), seen.references
        recognised = None if seen.logits is None else confident(seen.logits).flatten()
        worth = frame_worth(within(known.test, frames), novel(frames, known.test, known.training), recognised)
        stride = neighbour_distances(known.test.double())[:, 0].median().to(frames)
        score = path_score(seen.features, worth.to(frames).view(seen.features.shape[:2]), known.ends, stride)
        self.add(score, ends_reached(seen.features, known.ends))
