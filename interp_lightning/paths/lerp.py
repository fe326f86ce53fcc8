"""how=lerp: straight lines."""

from interp_lightning.paths.base import Codes, Path, Points, Positions


class Lerp(Path):
    """Straight line (1 − t)·z_a + t·z_b.

    Example:
        >>> import torch
        >>> Lerp()(torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 3.0]]), torch.tensor([0.5]))
        tensor([[[1., 2.]]])
    """

    def __call__(self, z_a: Codes, z_b: Codes, t: Positions) -> Points:
        z_a, z_b, t = z_a[:, None], z_b[:, None], t[..., None]
        return (1 - t) * z_a + t * z_b
