"""how=graph: through the codes of training images."""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64
from pydantic import Field
from scipy import sparse
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import csgraph
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits
from torch import Tensor

from interp_lightning.functional.codes import some
from interp_lightning.parameters import Count, Share, check_integer
from interp_lightning.paths.base import Codes, Course, Path, Points, Positions, Space, itself
from interp_lightning.paths.speed import interpolated, shares

log = logging.getLogger(__name__)

PAIRS = 64  # whose shortest paths are searched together: 8 MB per 10,000 nodes
VERTICES = 128  # of a smoothed path
FEW = 4_000  # nodes from which the units of distances are taken
LEAST = 1e-4  # length of an edge, and local scale, over the median length
Nodes = Annotated[Count, Field(ge=2)]
Exponent = Annotated[float, Field(ge=1, le=16)]
Width = Annotated[float, Field(ge=0, le=0.2)]


class Graph(Path):
    """Shortest path over the codes of training images, each a neighbour of the next, then smoothed.

    An edge costs a power of its length. The higher the power, the more a path prefers several short edges to a long
    one: it goes round where no training image is. With the nearest neighbours as edges this is Isomap's graph
    (Tenenbaum et al. 2000), with other costs.

    Rare codes, of images that a decoder makes badly, lie at the rim of the others. Therefore each code is first moved
    to the mean of its neighbours, a step of mean shift (Fukunaga and Hostetler 1975). The graph joins the moved codes.

    Where codes are dense, edges are short, and without scaling nearly all paths lead through the densest part: digits
    that are ones. Therefore an edge is measured in units of the distances around it, ‖z − z′‖ / (s·s′)^(scaling/2),
    with the mean distances s and s′ of its ends to their neighbours (local scaling, Zelnik-Manor and Perona 2004).

    Args:
        nodes: number of training codes, drawn without replacement; all if there are fewer.
        neighbours: edges of each node, to its nearest neighbours; to all others if there are fewer.
        exponent: power of an edge's length that is its cost; 1 is Isomap's.
        smoothing: standard deviation of the Gaussian that averages neighbouring points, as a share of the path.
        scaling: share of the local scale that is divided out; 0 compares lengths as they are.
        shift: share of the way to the mean of its neighbours by which each code is moved; 0 keeps the codes.
        distances: where lengths are measured: between "codes", decoded "pixels", a judge's "features" of the decoded
            images, or "both" codes and features. Each is in units of its median distance between neighbours. Without a
            judge, "features" and "both" are "codes".

    Raises:
        ConfigError: an argument is not allowed by the signature, or `fit` gets fewer than 2 codes.

    Example:
        >>> circle = torch.linspace(0, 3.1416, 100)
        >>> codes = torch.stack([circle.cos(), circle.sin()], dim=1)
        >>> path = Graph(neighbours=4, smoothing=0.0).fit(Space(codes, look=lambda z: z))
        >>> points = path.points(codes[:1], codes[-1:], 5)  # along the half circle, not across it
        >>> round(points[0, 2, 1].item(), 1)
        1.0
    """

    fits: ClassVar[bool] = True
    quiet = False  # say nothing of bridges
    _codes: np.ndarray  # of the nodes
    _look: Callable[[Tensor], Tensor]  # where codes lie when distances are measured
    _search: NearestNeighbors  # among them
    _unit: float  # median length of an edge to a neighbour
    _scales: np.ndarray  # local scales of the nodes, (n,)
    _edges: sparse.csr_array  # their scaled lengths

    def __init__(
        self,
        nodes: Nodes = 20_000,
        neighbours: Count = 12,
        exponent: Exponent = 4.5,
        smoothing: Width = 0.1,
        scaling: Share = 0.6,
        shift: Share = 1.0,
        distances: Literal["both", "features", "pixels", "codes"] = "both",
    ) -> None:
        self.nodes, self.neighbours, self.exponent, self.smoothing = nodes, neighbours, exponent, smoothing
        self.scaling, self.shift, self.distances = scaling, shift, distances

    def fit(self, space: Space) -> Path:
        return space.store.use(self, lambda state: self._fitted(space, state or self._made(space)))

    def _fitted(self, space: Space, state: Mapping[str, Tensor]) -> Path:
        """Return the path over the nodes and edges of a state."""
        codes, places = (state[name].double().numpy() for name in ("codes", "places"))
        lengths, nodes = state["lengths"].numpy(), state["nodes"].numpy()
        if not lengths.size or not (np.isfinite(lengths) & (lengths >= 0) & (nodes >= 0) & (nodes < len(codes))).all():
            raise ValueError("lengths or nodes of edges are not possible")
        if not len(codes) == len(places) == len(lengths):
            raise ValueError("codes, places and lengths are of different numbers of nodes")
        fitted = copy.copy(self)
        fitted._look = _in_units(self._looks(space), state["units"])
        if fitted._places(state["codes"][:1]).shape != places[:1].shape:
            raise ValueError("places are not where these codes are seen")
        fitted._codes, fitted._search = codes, self._searched(places)
        fitted._unit = float(np.median(lengths)) or 1.0
        fitted._scales = fitted._scale(lengths)
        fitted._edges, parts = _bridged(fitted._scaled(lengths, nodes), places / fitted._unit)
        if parts > 1 and not self.quiet:
            log.info(f"The graph of {len(codes):,} codes had {parts} parts without connection; joined them by bridges")
        fitted.fitted = True
        return fitted

    @torch.no_grad()
    def _made(self, space: Space) -> dict[str, Tensor]:
        """Draw the nodes, move them and find their neighbours; keep all that."""
        check_integer("the number of training codes", len(space.codes), least=2, way_out="use how=lerp")
        codes, looks = some(space.codes, self.nodes).cpu(), self._looks(space)
        if not self.quiet:
            log.info(f"Joining {len(codes):,} codes of training images to a graph …")
        seen = [look(codes).cpu() for look in looks]
        units = torch.stack([self._unit_of(part[:FEW]) for part in seen])
        places = _together(seen, units)
        if self.shift:
            _, nodes = self._neighbours(places)
            codes = codes.lerp(torch.stack([codes[neighbour] for neighbour in nodes.T]).mean(0), self.shift)
            places = _in_units(looks, units)(codes)
        lengths, nodes = self._neighbours(places)
        found = {"lengths": torch.from_numpy(lengths), "nodes": torch.from_numpy(nodes).int()}
        state = {"codes": codes, "places": places, "units": units, **found}
        space.store.save(self, state)
        return state

    def _looks(self, space: Space) -> list[Callable[[Tensor], Tensor]]:
        """Return what distances are measured between: one or two functions of codes."""
        if self.distances == "pixels":
            return [space.decode]
        if self.distances == "codes" or not space.judged:
            return [itself]
        return [space.look] if self.distances == "features" else [itself, space.look]

    def _unit_of(self, places: Tensor) -> Float64[Tensor, ""]:
        """Return the median distance between neighbours among places (n, f)."""
        lengths, _ = self._neighbours(places)
        return torch.tensor(float(np.median(lengths)) or 1.0, dtype=torch.float64)

    def _neighbours(self, places: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return lengths to, and numbers of, the neighbours of each place (n, f) among the others."""
        return _neighbours(self._searched(places.double().numpy()))

    def _searched(self, places: np.ndarray) -> NearestNeighbors:
        """Return the search for the neighbours of each place, (n, f)."""
        return NearestNeighbors(n_neighbors=min(self.neighbours, len(places) - 1)).fit(places)

    @torch.no_grad()
    def _places(self, codes: Tensor) -> np.ndarray:
        """Return where codes (n, d) lie when distances are measured, (n, f)."""
        return self._look(codes).double().numpy()

    def __call__(self, z_a: Codes, z_b: Codes, t: Positions) -> Points:
        return self.between(z_a, z_b)(t)

    def between(self, z_a: Codes, z_b: Codes) -> Course:
        parts = zip(z_a.split(PAIRS), z_b.split(PAIRS), strict=True)
        vertices = torch.cat([self._paths(a, b) for a, b in parts]).to(z_a)
        return along(vertices)

    def _paths(self, z_a: Tensor, z_b: Tensor) -> Float[Tensor, "B vertices d"]:
        """Return the smoothed vertices of the shortest paths."""
        a, b = self._places(z_a), self._places(z_b)
        nodes, pairs = len(self._codes), len(a)
        near_a, near_b = (_neighbours(self._search, ends) for ends in (a, b))
        from_a, from_b = self._scaled(*near_a), self._scaled(*near_b)
        between = np.sqrt(self._scale(near_a[0]) * self._scale(near_b[0]))
        apart = np.maximum(np.linalg.norm(a - b, axis=1) / self._unit / between, LEAST)
        # Edges lead away from the first ends and towards the second ones: no path leads through another's end.
        lengths = sparse.block_array(
            [
                [self._edges, None, from_b.T],
                [from_a, None, sparse.diags_array(apart)],
                [None, sparse.csr_array((pairs, pairs)), None],
            ],
            format="csr",
        )
        lengths.data **= self.exponent
        _, before = csgraph.dijkstra(lengths, indices=nodes + np.arange(pairs), return_predecessors=True)
        codes = np.concatenate([self._codes, *(z.detach().double().cpu().numpy() for z in (z_a, z_b))])
        found = []
        for pair, row in enumerate(before):
            way = [nodes + pairs + pair]
            while (previous := row[way[-1]]) >= 0:
                way.append(previous)
            found.append(_smoothed(codes[way[::-1]], self.smoothing))
        return torch.from_numpy(np.stack(found))

    def _scaled(self, lengths: np.ndarray, nodes: np.ndarray) -> sparse.csr_array:
        """Return scaled lengths of edges as a sparse matrix.

        Args:
            lengths: of the edges of each point, (m, neighbours).
            nodes: that they lead to, (m, neighbours).
        """
        between = np.sqrt(self._scale(lengths)[:, None] * self._scales[nodes])
        scaled = np.maximum(lengths / self._unit / between, LEAST)  # an edge of length 0 would be no edge
        first = np.arange(0, lengths.size + 1, lengths.shape[1])
        return sparse.csr_array((scaled.ravel(), nodes.ravel(), first), shape=(len(lengths), len(self._codes)))

    def _scale(self, lengths: np.ndarray) -> np.ndarray:
        """Return the local scales of points from the lengths of their edges, (m, neighbours) → (m,)."""
        return np.maximum(lengths.mean(1) / self._unit, LEAST) ** self.scaling


def _neighbours(search: NearestNeighbors, places: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return lengths to, and numbers of, the neighbours of places, (m, neighbours); None is the searched ones."""
    with threadpool_limits(torch.get_num_threads()):
        return search.kneighbors(places)


def _in_units(looks: Sequence[Callable[[Tensor], Tensor]], units: Tensor) -> Callable[[Tensor], Tensor]:
    """Return one function of codes that puts what several give side by side, each in its unit."""
    if units.shape != (len(looks),) or not (units.isfinite() & (units > 0)).all():
        raise ValueError("units of distances are not possible")
    return lambda z: _together([look(z).cpu() for look in looks], units)


def _together(seen: Sequence[Tensor], units: Tensor) -> Float[Tensor, "n f"]:
    return torch.cat([part / unit for part, unit in zip(seen, units, strict=True)], 1)


def along(vertices: Float[Tensor, "B V d"]) -> Course:
    """Return the paths through vertices; a position is a share of the length.

    Example:
        >>> along(torch.tensor([[[0.0], [1.0], [4.0]]]))(torch.tensor([0.5]))
        tensor([[[2.]]])
    """
    lengths = shares(vertices).to(vertices)
    numbers = torch.arange(vertices.shape[1]).to(vertices)

    def course(t: Positions) -> Tensor:
        place = interpolated(lengths, numbers, t.expand(len(vertices), t.shape[-1]))
        before = place.long().clamp(max=vertices.shape[1] - 2)
        rows = torch.arange(len(vertices), device=vertices.device)[:, None]
        return torch.lerp(vertices[rows, before], vertices[rows, before + 1], (place - before)[..., None])

    return course


def _smoothed(polyline: np.ndarray, width: float) -> np.ndarray:
    """Take VERTICES points of a polyline (n, d), equally far apart, and average neighbours; the ends stay."""
    lengths = np.concatenate([[0.0], np.linalg.norm(np.diff(polyline, axis=0), axis=1).cumsum()])
    at = np.linspace(0, lengths[-1], VERTICES)
    points = np.stack([np.interp(at, lengths, column) for column in polyline.T], axis=1)
    share = np.linspace(0, 1, VERTICES)[:, None]
    line = (1 - share) * points[0] + share * points[-1]
    bend = points - line  # 0 at the ends, and continued beyond them with the other sign
    continued = np.concatenate([-bend[:0:-1], bend, -bend[-2::-1]])
    if width:
        continued = gaussian_filter1d(continued, width * VERTICES, axis=0)
    return line + continued[VERTICES - 1 : 2 * VERTICES - 1]


def _bridged(edges: sparse.csr_array, places: np.ndarray) -> tuple[sparse.csr_array, int]:
    """Let edges lead both ways, and join components that no edge joins by the shortest edge between them.

    Returns:
        The edges, and the number of components before.
    """
    edges = edges.maximum(edges.T)
    count, component = csgraph.connected_components(edges, directed=False)
    for _ in range(count - 1):
        small = component == np.bincount(component).argmin()
        inside, outside = np.flatnonzero(small), np.flatnonzero(~small)
        lengths, nearest = NearestNeighbors(n_neighbors=1).fit(places[outside]).kneighbors(places[inside])
        shortest = lengths.argmin()
        one, other = inside[shortest], outside[nearest[shortest, 0]]
        bridge = sparse.csr_array(([lengths.min()] * 2, ([one, other], [other, one])), shape=edges.shape)
        edges = edges.maximum(bridge)
        _, component = csgraph.connected_components(edges, directed=False)
    return edges.tocsr(), count
