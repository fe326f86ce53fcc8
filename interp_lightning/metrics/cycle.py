"""Measure how well codes on paths survive decoding and encoding."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from interp_lightning.metrics.base import Means

CodesAlong = Float[Tensor, "pairs steps d"]


def cycle_error(z: CodesAlong, again: CodesAlong) -> float:
    """Compute mean ‖f(g(z)) − z‖ over the codes on paths, divided by the mean distance of the paths' ends.

    The second factor makes it independent of the codes' scale: 0 is perfect, and at 1 a code comes back as far away
    as another image's. Source: the cycle-consistency term of Oring et al. 2021, https://arxiv.org/abs/2008.01487.

    Args:
        z: codes on the paths, both ends included.
        again: the same codes, decoded and encoded.

    Example:
        >>> import torch
        >>> z = torch.tensor([[[0.0], [1.0], [2.0]]])
        >>> cycle_error(z, z + 0.5)
        0.25
    """
    metric = CycleError()
    metric.update(z, again)
    return metric.compute()["cycle"].item()


class CycleError(Means):
    """`cycle_error`, which gives definition and source, of all paths of all updates on all devices.

    `update` takes codes along paths and the same, decoded and encoded; `compute` gives {"cycle": ()}.
    """

    higher_is_better = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("error", "apart", **kwargs)

    def update(self, z: CodesAlong, again: CodesAlong) -> None:
        """Add codes along paths, before and after."""
        self.add((again - z).norm(dim=-1).double().mean(1), (z[:, -1] - z[:, 0]).norm(dim=-1))

    def compute(self) -> dict[str, Tensor]:
        means = super().compute()
        return {"cycle": means["error"] / means["apart"]}
