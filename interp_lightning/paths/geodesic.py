"""how=geodesic: paths of least energy, as the decoder sees it, near the codes of real images."""

import copy
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from interp_lightning.functional.codes import some
from interp_lightning.parameters import Count, Rate, Weight, check_integer
from interp_lightning.paths.base import Codes, Course, Path, Points, Positions, Space, Store, equidistant, named
from interp_lightning.paths.graph import along

PAIRS = 64  # that are optimised together
NODES = 5_000  # training codes that tell how far a point is from the data
RENEW_EVERY = 10  # steps until the nearest training codes are looked up again


class Geodesic(Path):
    """Path of least energy under the decoder, kept near the codes of training images.

    It minimises over the points z₁ … z_T₋₁ between z₀ = z_a and z_T = z_b

        T · Σᵢ ‖g(zᵢ₊₁) − g(zᵢ)‖² / ‖g(z_T) − g(z₀)‖²  +  density · mean_i ‖zᵢ − n(zᵢ)‖² / s²

    where g decodes, n(z) is the nearest training code and s the median distance of a training code to its nearest one.
    The first term is the energy of the curve in the decoder's metric: 1 for a straight line at constant speed
    (Arvanitidis et al. 2018, https://arxiv.org/abs/1710.11379). It alone takes short cuts through codes that no image
    has; the second term keeps to the data. The path is never worse than its start, by this sum.

    Args:
        start: kind of path to begin with.
        distances: measure g in "pixels" or in a judge's "features".
        density: weight of the second term.
        points: T − 1, points between the ends.
        steps: of Adam.
        lr: of Adam, in units of s.

    Raises:
        ConfigError: an argument is not allowed by the signature, or `fit` gets fewer than 2 codes.

    Example:
        >>> angle = torch.linspace(0, 3.1416, 200)
        >>> circle = torch.stack([angle.cos(), angle.sin()], dim=1)
        >>> path = Geodesic(start="lerp", lr=5.0).fit(Space(circle))
        >>> a, b = circle[30:31], circle[170:171]  # the line between them is 0.5 above the centre
        >>> round(path.points(a, b, 5)[0, 2, 1].item(), 1)
        1.0
    """

    fits: ClassVar[bool] = True
    slow: ClassVar[bool] = True
    _start: Path
    _look: Callable[[Tensor], Tensor]
    _codes: Float[Tensor, "N d"]  # of training images
    _scale: Tensor

    def __init__(
        self,
        start: Literal["lerp", "slerp", "rescaled", "graph", "flow"] = "graph",
        distances: Literal["pixels", "features"] = "pixels",
        density: Weight = 0.3,
        points: Annotated[int, Field(ge=1, le=1_000)] = 15,
        steps: Count = 60,
        lr: Rate = 0.1,
    ) -> None:
        self.start, self.distances, self.density = start, distances, density
        self.points_between, self.steps, self.lr = points, steps, lr

    def at_hand(self, store: Store) -> bool:
        return named(self.start).at_hand(store)  # only many pairs take minutes

    def fit(self, space: Space) -> Path:
        check_integer("the number of training codes", len(space.codes), least=2, way_out="use how=lerp")
        fitted = copy.copy(self)
        fitted.fitted = True
        fitted._start = named(self.start).fit(space)
        fitted._look = space.look if self.distances == "features" else space.decode
        fitted._codes = some(space.codes, NODES)
        apart = torch.cdist(fitted._codes, fitted._codes).fill_diagonal_(torch.inf).amin(1)
        fitted._scale = apart.median().clamp_min(torch.finfo(apart.dtype).tiny)
        return fitted

    def __call__(self, z_a: Codes, z_b: Codes, t: Positions) -> Points:
        return self.between(z_a, z_b)(t)

    def between(self, z_a: Codes, z_b: Codes) -> Course:
        return along(self.vertices(z_a, z_b))

    def vertices(self, z_a: Codes, z_b: Codes) -> Points:
        """Return the points of the paths of least cost that Adam finds, both ends included."""
        start = self._start.between(z_a, z_b)(equidistant(self.points_between + 2, z_a))
        several = None if len(start) > PAIRS else True
        with torch.inference_mode(False), torch.enable_grad():
            parts = tqdm(start.split(PAIRS), desc="Geodesics", leave=False, disable=several)
            return torch.cat([self._shortened(part.clone()) for part in parts])

    def cost(self, vertices: Points, nearest: Float[Tensor, "B T-2 d"] | None = None) -> Float[Tensor, " B"]:
        """Return the sum that a path minimises.

        Args:
            vertices: points of the paths, both ends included.
            nearest: the training code nearest to each point between the ends; None looks them up.
        """
        nearest = self._nearest(vertices[:, 1:-1]) if nearest is None else nearest
        seen = self._look(vertices.flatten(0, 1)).unflatten(0, vertices.shape[:2])
        straight = (seen[:, -1] - seen[:, 0]).square().sum(1).detach().clamp_min(torch.finfo(seen.dtype).tiny)
        energy = (vertices.shape[1] - 1) * seen.diff(dim=1).square().sum((1, 2)) / straight
        return energy + self.density * (vertices[:, 1:-1] - nearest).square().sum(2).mean(1) / self._scale**2

    def _shortened(self, vertices: Points) -> Points:
        """Return the best of the paths that Adam finds, beginning with these; the ends stay."""
        inner = vertices[:, 1:-1].clone().requires_grad_()
        optimizer = torch.optim.Adam([inner], lr=self.lr * self._scale.item())
        best, least = vertices, torch.full((len(vertices),), torch.inf).to(vertices)
        for step in range(self.steps + 1):
            if step % RENEW_EVERY == 0:
                nearest = self._nearest(inner.detach())
            moved = torch.cat([vertices[:, :1], inner, vertices[:, -1:]], dim=1)
            cost = self.cost(moved, nearest)
            better = cost.detach() < least
            least = torch.where(better, cost.detach(), least)
            best = torch.where(better[:, None, None], moved.detach(), best)
            (inner.grad,) = torch.autograd.grad(cost.sum(), inner)
            optimizer.step()
        return best

    def _nearest(self, codes: Points) -> Points:
        """Return the training code nearest to each point."""
        return self._codes[torch.cdist(codes.flatten(0, 1), self._codes).argmin(1)].view_as(codes)
