"""Mix latent codes."""

from jaxtyping import Float
from torch import Tensor


def mix(z: Float[Tensor, "B d"], alpha: Float[Tensor, " B"] | Float[Tensor, "B d"]) -> Float[Tensor, "B d"]:
    """Mix each code with its partner in the reversed batch: α·z₁ + (1 − α)·z₂.

    Args:
        z: codes. In an odd batch the middle code is its own partner.
        alpha: coefficients, of whole codes or of each of their numbers.

    Source: Berthelot et al. 2018, https://arxiv.org/abs/1807.07543, section 2.

    Example:
        >>> import torch
        >>> mix(torch.tensor([[0.0], [1.0]]), torch.tensor([0.25, 0.25]))
        tensor([[0.7500],
                [0.2500]])
    """
    alpha = alpha.view(len(z), -1)
    return alpha * z + (1 - alpha) * z.flip(0)
