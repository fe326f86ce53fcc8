"""Everything that the explorer shows, without a browser."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from interp_lightning.data.base import ImageData
from interp_lightning.errors import ConfigError
from interp_lightning.evaluation.protocol import Evaluation
from interp_lightning.evaluation.sample import BATCH, Look
from interp_lightning.explorer.ends import End, Ends
from interp_lightning.explorer.witness import Facts, Witness
from interp_lightning.functional.codes import between_corners
from interp_lightning.functional.images import to_unit_range
from interp_lightning.metrics.catalogue import HOW
from interp_lightning.models.base import Autoencoder
from interp_lightning.paths.base import Path
from interp_lightning.runs.load import Run
from interp_lightning.system.text import printable, shortened

POSITIONS = 101  # of a path that are decoded: steps of 0.01
SIDE = 11  # codes to a side of a grid
SPEEDS = ("constant", "own")
KEPT = 64  # strips
COMPARED = 64  # test images by which data sets are told apart
LABEL = 60  # characters of a run's name


@dataclass(frozen=True, eq=False)
class Strip:
    """Decoded images of a run, and what is said of them."""

    run: str
    how: str
    images: Float[Tensor, "T C H W"]  # in [−1, 1], on the CPU
    facts: Facts


class Explorer:
    """Trained runs on one data set, their paths and grids. Each is decoded once.

    Args:
        runs: at least one; the first one's data set is used for all.
        device: to compute on.

    Raises:
        ConfigError: the runs are on different data sets.
    """

    def __init__(self, runs: Sequence[Run], device: torch.device) -> None:
        self.data = _same_data(runs)
        self.models: dict[str, Autoencoder] = {
            name: run.model.float().to(device) for name, run in zip(_names(runs), runs, strict=True)
        }
        self._evaluations = {name: Evaluation() for name in self.models}
        for evaluation, run in zip(self._evaluations.values(), runs, strict=True):
            evaluation.folder = run.folder
        self._folders = {name: run.folder for name, run in zip(self.models, runs, strict=True)}
        judge = Evaluation().judge(self.data)
        self.witness = Witness(self.data, None if judge is None else judge.to(device).eval())
        self.ends = Ends(self.data)
        self.kinds = {name: self._evaluations[name].at_hand(model, self.data) for name, model in self.models.items()}
        self._path: Callable[[str, str], Path] = lru_cache(None)(self._fitted)
        self.strip: Callable[[str, str, str, End, End], Strip] = lru_cache(KEPT)(self._strip)
        self.grid: Callable[[str, End, End, End, End], Strip] = lru_cache(KEPT)(self._grid)

    def offered(self) -> list[str]:
        """Return the kinds of path that at least one run has at hand."""
        return [how for how in HOW if any(how in kinds for kinds in self.kinds.values())]

    def strips(self, runs: Sequence[str], kinds: Sequence[str], speed: str, a: End, b: End) -> list[Strip]:
        """Return the strip of each run and each kind of path that the run has at hand.

        Raises:
            ConfigError: there is none.
        """
        chosen = [(run, how) for run in runs for how in kinds if how in self.kinds[run]]
        if not chosen:
            missing = "a run and a kind of path" if not (runs and kinds) else "a kind of path that one of the runs has"
            raise ConfigError(f"nothing is chosen: choose {missing}")
        return [self.strip(run, how, speed, a, b) for run, how in chosen]

    def missing(self, runs: Sequence[str], kinds: Sequence[str]) -> list[str]:
        """Return a sentence for each run and each kind of path that the run does not have at hand."""
        return [
            f"{run} has no {how}; `evaluate run={self._folders[run]} metrics.paths=all` trains it."
            for run in runs
            for how in kinds
            if how not in self.kinds[run]
        ]

    @torch.inference_mode()
    def _strip(self, run: str, how: str, speed: str, a: End, b: End) -> Strip:
        """Decode a path at `POSITIONS` positions.

        Args:
            run: its name.
            how: kind of path.
            speed: one of `SPEEDS`.
            a, b: its ends.
        """
        model = self.models[run]
        look = Look(model, self.witness.judge) if speed == "constant" else None
        x_a, x_b = (end.x.to(model.device) for end in (a, b))
        images = model.interpolate(x_a, x_b, POSITIONS, self._path(run, how), look)[0]
        return Strip(run, how, images.cpu(), self.witness.facts(model, images))

    @torch.inference_mode()
    def _grid(self, run: str, *corners: End) -> Strip:
        """Decode a grid of `SIDE` × `SIDE` codes, bilinear between four: the two of the first row, then of the last."""
        model = self.models[run]
        z = model.encode(torch.cat([end.x for end in corners]).to(model.device)).view(2, 2, -1)
        codes = between_corners(z, SIDE).flatten(0, 1)
        images = torch.cat([model.decode(part) for part in codes.split(BATCH)])
        return Strip(run, "four corners", images.cpu(), self.witness.facts(model, images, is_path=False))

    def _fitted(self, run: str, how: str) -> Path:
        return self._evaluations[run].path(how, self.models[run], self.data)


def _names(runs: Sequence[Run]) -> list[str]:
    """Return a unique name for each run: model × penalty, and its folder if several are alike."""
    choices = [run.config["choices"] for run in runs]
    names = [shortened(printable(f"{each['model']} × {each['penalty']}"), LABEL) for each in choices]
    alike = Counter(names)
    named = [
        f"{name} ({shortened(printable(run.folder), LABEL)})" if alike[name] > 1 else name
        for name, run in zip(names, runs, strict=True)
    ]
    if len({*named}) < len(named):
        twice = next(name for name, times in Counter(named).items() if times > 1)
        raise ConfigError(f"`run` names {twice} twice; name each run once")
    return named


def _same_data(runs: Sequence[Run]) -> ImageData:
    """Return the data set of all runs.

    Raises:
        ConfigError: they are on different data sets.
    """
    first, *others = runs
    for run in others:
        if not _alike(first.datamodule, run.datamodule):
            raise ConfigError(
                f"{first.folder} is on {_described(first.datamodule)}, but {run.folder} is on "
                f"{_described(run.datamodule)}; name runs on one data set"
            )
    return first.datamodule


def _alike(a: ImageData, b: ImageData) -> bool:
    """Return True if two data sets have the same name, shape, number of images, and first test images."""
    if (a.name, a.image_shape, len(a.train), len(a.test)) != (b.name, b.image_shape, len(b.train), len(b.test)):
        return False
    images = [to_unit_range(data.test.batch(data.test.all()[:COMPARED])[0]) for data in (a, b)]
    return torch.equal(*images)


def _described(data: ImageData) -> str:
    size = " × ".join(map(str, data.image_shape))
    return f"{data.name} ({size}, {len(data.train):,} training and {len(data.test):,} test images)"
