"""Measure how well codes on paths survive decoding and encoding."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

CodesAlong = Float[Tensor, "pairs steps d"]


def cycle_error(z: CodesAlong, again: CodesAlong) -> float:
    """Compute mean ‖f(g(z)) − z‖ over the codes on paths, divided by the mean distance of the paths' ends.

    The second factor makes it independent of the codes' scale: 0 is perfect, and at 1 a code comes back as far away
    as another image's. Source: the cycle-consistency term of Oring et al. 2021, https://arxiv.org/abs/2008.01487.

    Args:
        z: codes on the paths, both ends included.
        again: the same codes, decoded and encoded.

    Example:
        >>> z = torch.tensor([[[0.0], [1.0], [2.0]]])
        >>> cycle_error(z, z + 0.5)
        0.25
    """
    metric = CycleError()
    metric.update(z, again)
    return metric.compute()["cycle"].item()


class CycleError(Metric):
    """`cycle_error`, which gives definition and source, of all updates on all devices. Its states are sums.

    `update` takes codes along paths and the same, decoded and encoded; `compute` gives {"cycle": ()}.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    error: Tensor
    codes: Tensor
    apart: Tensor
    pairs: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("error", "codes", "apart", "pairs"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, z: CodesAlong, again: CodesAlong) -> None:
        """Add codes along paths, before and after."""
        error = (again - z).norm(dim=-1).double()
        apart = (z[:, -1] - z[:, 0]).norm(dim=-1).double()
        self.error += error.sum()
        self.codes += error.numel()
        self.apart += apart.sum()
        self.pairs += apart.numel()

    def compute(self) -> dict[str, Tensor]:
        return {"cycle": (self.error / self.codes) / (self.apart / self.pairs)}
