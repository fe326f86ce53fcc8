"""Measure how well a linear layer predicts the class from the code."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from interp_lightning.metrics.base import UNLABELLED, CodesMetric, scores


def linear_probe(
    train_z: Float[Tensor, "n d"],
    train_y: Int[Tensor, " n"],
    test_z: Float[Tensor, "m d"],
    test_y: Int[Tensor, " m"],
    classes: int,
) -> float:
    """Compute the test accuracy of one softmax layer on frozen codes, trained to convergence; deterministic.

    Codes are standardised by the training codes. The layer minimises mean cross-entropy + ‖W‖² / (2n) by L-BFGS;
    without the second term separable codes have no optimum. Protocol: Berthelot et al. 2018, section 4.1, where Adam
    trains the layer.

    Args:
        train_z, test_z: codes.
        train_y, test_y: labels in 0 … classes − 1.

    Returns:
        Share of correct test labels, 0 to 1.

    Example:
        >>> z, y = torch.tensor([[0.0], [0.1], [5.0], [5.1]]), torch.tensor([0, 0, 1, 1])
        >>> linear_probe(z, y, z, y, classes=2)
        1.0
    """
    mean, std = train_z.double().mean(0), train_z.double().std(0).clamp_min(1e-8)
    train_z, test_z = (train_z.double() - mean) / std, (test_z.double() - mean) / std
    weight = torch.zeros(train_z.shape[1], classes, dtype=train_z.dtype, device=train_z.device, requires_grad=True)
    bias = torch.zeros(classes, dtype=train_z.dtype, device=train_z.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=500, tolerance_grad=1e-6, tolerance_change=1e-10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(train_z @ weight + bias, train_y) + weight.square().sum() / (2 * len(train_z))
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    predicted = (test_z @ weight.detach() + bias.detach()).argmax(1)
    return (predicted == test_y).double().mean().item()


class LinearProbe(CodesMetric):
    """`linear_probe`, which gives protocol and source, of all updates on all devices.

    `update` takes codes (n, d) and labels (n,) of a split; `compute` gives {"probe_accuracy": ()}, 0 to 1.

    Args:
        classes: number of labels.
    """

    higher_is_better = True

    def __init__(self, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classes = classes

    def compute(self) -> dict[str, Tensor]:
        train, test = ((self.whole(f"{split}_z"), self.whole(f"{split}_y")) for split in ("train", "test"))
        return scores(probe_accuracy=linear_probe(*train, *test, self.classes))

    @classmethod
    def missing(cls, classes: int, train: int, test: int) -> dict[str, str]:
        return {} if classes else {"probe_accuracy": UNLABELLED}
