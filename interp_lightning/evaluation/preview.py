"""A small evaluation, cheap enough to be made ten times while a model trains."""

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from interp_lightning.data.base import ImageData
from interp_lightning.data.sources import Source
from interp_lightning.evaluation import judges
from interp_lightning.evaluation.sample import BATCH, Look
from interp_lightning.functional.images import to_unit_range
from interp_lightning.metrics.catalogue import HOW
from interp_lightning.metrics.features import FeaturesOnly, Judge
from interp_lightning.metrics.generation import frechet_distance, membership
from interp_lightning.metrics.neighbours import NEIGHBOURS
from interp_lightning.metrics.paths import confident
from interp_lightning.models.base import Autoencoder
from interp_lightning.paths.base import Path, Space, named
from interp_lightning.paths.graph import Graph

IMAGES = 1_000  # at most, of validation
PIXELS = 2**20  # of all these images together, at most: larger images are fewer
LEAST = 64  # images
NODES, PAIRS = 500, 100  # of the graph, which is small and made anew each time
MEASURED = ("lerp", "graph")
MIDDLE = torch.tensor([0.5])


class Preview:
    """Measure midpoints of paths between validation images.

    Args:
        data: whose validation images.
        judge: sees; without one, or with too few images, nothing is measured.
    """

    def __init__(self, data: ImageData, judge: Judge | None) -> None:
        self.x_train = some_of(data.train, data, NODES)
        self.judge = judge if len(data.val) > NEIGHBOURS + 1 else None
        if self.judge is None:
            return
        if judges.trust(self.judge, data).problem:
            self.judge = FeaturesOnly(self.judge)
        self.x = some_of(data.val, data, IMAGES)
        # Features of the images and the numbers of blended pixels, which are always the same.
        self._real, self._faded = torch.empty(0), dict[str, float]()

    @torch.no_grad()
    def paths(self, model: Autoencoder) -> dict[str, Path]:
        """Return the kinds of paths that take a moment, and a small graph in place of the large one."""
        found = {how: path for how in HOW if not (path := named(how)).fits}
        graph = copy.copy(named("graph"))
        if isinstance(graph, Graph) and len(self.x_train) > 1:
            graph.nodes, graph.quiet = NODES, True
            look = Look(model, None if self.judge is None else self.judge.to(model.device).eval())
            codes = model.encode(self.x_train.to(model.device))
            found["graph"] = graph.fit(Space(codes, look, Look(model, judge=None), judged=self.judge is not None))
        return found

    @torch.no_grad()
    def __call__(self, model: Autoencoder, paths: Mapping[str, Path]) -> dict[str, float]:
        """Measure midpoints: return numbers by their names in results.json.

        Args:
            model: in evaluation mode.
            paths: by kind.
        """
        if self.judge is None:
            return {}
        x = self.x.to(model.device)
        z, judge = model.encode(x), self.judge.to(model.device).eval()
        real = self._real = self._real.to(x) if len(self._real) else Look(model, judge).of(x)
        if not self._faded:
            self._faded = self._measured((x + x.roll(1, 0)) / 2, real, "midpoints_blend")
        found = dict(self._faded)
        for how in [how for how in MEASURED if how in paths]:
            pairs = PAIRS if paths[how].fits else len(z)
            middle = paths[how](z[:pairs], z.roll(1, 0)[:pairs], MIDDLE.to(z))[:, 0]
            found |= self._measured(model.decode(middle), real, f"midpoints_{how}")
        return found

    def _measured(self, images: Tensor, real: Tensor, kind: str) -> dict[str, float]:
        """Measure images (n, C, H, W) against features of real ones (m, f)."""
        assert self.judge is not None
        answers = [self.judge(part) for part in images.split(BATCH)]
        features = torch.cat([features for features, _ in answers])
        numbers = {f"membership_{kind}": membership(real, features)}
        if len(features) == len(real) > real.shape[1]:  # the FID of fewer images is larger
            numbers[f"fid_{kind}"] = frechet_distance(real, features)
        if answers[0][1] is not None:
            sure = torch.cat([confident(logits) for _, logits in answers])
            numbers[f"realism_{kind}"] = sure.double().mean().item()
        return numbers


def some_of(source: Source, data: ImageData, most: int) -> Tensor:
    """Return images of a split, always the same, fewer if they are large: (n, C, H, W) in [−1, 1]."""
    number = min(most, max(LEAST, PIXELS // math.prod(data.image_shape)))
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))[:number]
    return to_unit_range(source.batch(source.all()[order])[0])
