"""how=slerp: great circles."""

import torch

from interp_lightning.paths.base import Codes, Path, Points, Positions


class Slerp(Path):
    """Great-circle path (Shoemake 1985) whose norm changes linearly from ‖z_a‖ to ‖z_b‖.

    Straight lines between samples of a high-dimensional Gaussian pass through norms that the prior almost never has;
    this path does not. For parallel, antiparallel or zero codes the plane of rotation is undefined, and the path is the
    straight line.

    Example:
        >>> Slerp()(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([0.5]))
        tensor([[[0.7071, 0.7071]]])
    """

    def __call__(self, z_a: Codes, z_b: Codes, t: Positions) -> Points:
        z_a, z_b, t = z_a[:, None], z_b[:, None], t[..., None]
        norm_a, norm_b = z_a.norm(dim=-1, keepdim=True), z_b.norm(dim=-1, keepdim=True)
        tiny = torch.finfo(z_a.dtype).eps
        u, v = z_a / norm_a.clamp_min(tiny), z_b / norm_b.clamp_min(tiny)
        # 2·atan2(‖u − v‖, ‖u + v‖) keeps its digits for nearly parallel vectors, where arccos(u·v) loses half.
        omega = 2 * torch.atan2((u - v).norm(dim=-1, keepdim=True), (u + v).norm(dim=-1, keepdim=True))
        sin_omega = omega.sin()
        direction = (((1 - t) * omega).sin() * u + (t * omega).sin() * v) / sin_omega
        undefined = (sin_omega < 1e-4) | (norm_a < tiny) | (norm_b < tiny)
        return torch.where(undefined, (1 - t) * z_a + t * z_b, ((1 - t) * norm_a + t * norm_b) * direction)
