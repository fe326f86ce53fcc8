"""Mix latent codes, spread a grid between four, and draw some."""

import torch
from jaxtyping import Float
from torch import Tensor


def mix(z: Float[Tensor, "B d"], alpha: Float[Tensor, " B"] | Float[Tensor, "B d"]) -> Float[Tensor, "B d"]:
    """Mix each code with its partner in the reversed batch: α·z₁ + (1 − α)·z₂.

    Args:
        z: codes. In an odd batch the middle code is its own partner.
        alpha: coefficients, of whole codes or of each of their numbers.

    Source: Berthelot et al. 2018, https://arxiv.org/abs/1807.07543, section 2.

    Example:
        >>> mix(torch.tensor([[0.0], [1.0]]), torch.tensor([0.25, 0.25]))
        tensor([[0.7500],
                [0.2500]])
    """
    alpha = alpha.view(len(z), -1)
    return alpha * z + (1 - alpha) * z.flip(0)


def some(codes: Float[Tensor, "N d"], number: int) -> Float[Tensor, "n d"]:
    """Return codes drawn without replacement, the same ones each time; all, in another order, if there are fewer.

    Example:
        >>> some(torch.arange(4.0)[:, None], 2).shape, some(torch.arange(4.0)[:, None], 9).shape
        (torch.Size([2, 1]), torch.Size([4, 1]))
    """
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))[:number]
    return codes[order.to(codes.device)]


def between_corners(z: Float[Tensor, "2 2 d"], steps: int) -> Float[Tensor, "{steps} {steps} d"]:
    """Return a grid of codes, bilinear between four corners: those of the first row, then of the last.

    Example:
        >>> corners = torch.tensor([[[0.0], [2.0]], [[4.0], [6.0]]])
        >>> between_corners(corners, 3)[:, :, 0]
        tensor([[0., 1., 2.],
                [2., 3., 4.],
                [4., 5., 6.]])
    """
    t = torch.linspace(0, 1, steps).to(z)[:, None]
    first, last = (torch.lerp(left, right, t) for left, right in z)
    return torch.lerp(first, last, t[:, None])
