"""how=lerp: straight lines."""

from torch import Tensor

from interp_lightning.paths.base import Path


class Lerp(Path):
    """Straight line (1 − t)·z_a + t·z_b.

    Example:
        >>> import torch
        >>> Lerp()(torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 3.0]]), torch.tensor([0.5]))
        tensor([[[1., 2.]]])
    """

    def __call__(self, z_a: Tensor, z_b: Tensor, t: Tensor) -> Tensor:
        z_a, z_b, t = z_a[:, None], z_b[:, None], t[..., None]
        return (1 - t) * z_a + t * z_b
