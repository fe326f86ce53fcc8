"""Measure a trained model: every number of results.json, and the data of the figures that explain them."""

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path as Folder
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from interp_lightning.data.base import ImageData
from interp_lightning.errors import CheckpointError, ConfigError
from interp_lightning.evaluation import judges
from interp_lightning.evaluation.assessment import Assessment, Profile
from interp_lightning.evaluation.judges import Trust
from interp_lightning.evaluation.kept import Kept
from interp_lightning.evaluation.measures import Measures, missing
from interp_lightning.evaluation.sample import Look, Sample, encode_all
from interp_lightning.metrics.catalogue import CONSTANT, HOW, SANITY, Spec, parse, spec_of
from interp_lightning.metrics.features import FeaturesOnly, Judge
from interp_lightning.models.base import Autoencoder
from interp_lightning.parameters import Configurable, File, Text, check_choice
from interp_lightning.paths.base import Path, Space, Store, named

log = logging.getLogger(__name__)

NEED_A_JUDGE = "FID, KID, precision, recall, realism, the judge's metrics of paths and path_profile.png"
NEED_LOGITS = "realism and entropy"


class Evaluation(Configurable, group="metrics"):
    """Measure a trained model on the test images, as thoroughly as a file of conf/metrics says.

    All random draws have a fixed seed and all arithmetic is done in full single precision or better. The same weights
    get the same numbers; on another device they differ by rounding only.

    Args:
        restarts: k-means restarts of the clustering accuracy.
        images: number of test images, and of generated images to compare with them; None is all.
        pairs: number of pairs of test images with a whole path between them.
        steps: points on each of these paths, both ends included.
        features: judge of the images: "digits" (shipped), "own" (trained on the training images, once), "inception"
            (requires torch-fidelity), None (skip the metrics that need a judge), or "auto", the data set's default.
        weights: file with the weights of "inception"; None downloads them.
        paths: kinds of paths to measure: a list, "quick" for those that take seconds, also because `folder` has kept
            what took long, or "all".

    Raises:
        ConfigError: a number is too small, or `features` or a kind of path unknown.
    """

    folder: Folder | None = None  # the run's, where fitted paths are kept; None keeps nothing

    def __init__(
        self,
        restarts: Annotated[int, Field(ge=1, le=100_000)] = 100,
        images: Annotated[int, Field(ge=2)] | None = 5_000,
        pairs: Annotated[int, Field(ge=1, le=100_000)] = 256,
        steps: Annotated[int, Field(ge=3, le=1_000)] = 16,
        features: Literal["auto", "digits", "inception", "own"] | None = "auto",
        weights: File | None = None,
        paths: Literal["quick", "all"] | Annotated[Sequence[Text], Field(min_length=1)] = "quick",
    ) -> None:
        self.restarts, self.images, self.pairs, self.steps = restarts, images, pairs, steps
        self.features, self.weights = features, weights
        asked = HOW if isinstance(paths, str) else [check_choice("metrics.paths", how, HOW) for how in paths]
        self.quick = paths == "quick"
        self.kinds = [how for how in HOW if how in asked and not (self.quick and named(how).slow)]

    def judge(self, data: ImageData) -> Judge | None:
        """Return the judge of a data set's images; None if there is none.

        Raises:
            ConfigError: it is not available, or not made for such images.
        """
        name = self._features(data)
        return None if name is None else judges.judge(name, data, self.weights)

    def look(self, model: Autoencoder, data: ImageData) -> Look:
        """Return what a model's codes look like to the judge; in pixels if there is none."""
        return _look(model, self.judge(data))

    @torch.no_grad()
    def path(self, how: str, model: Autoencoder, data: ImageData) -> Path:
        """Return a kind of path, fitted to a model's codes of the training images if it must be.

        Raises:
            ConfigError: there is no such path, or there are too few training images.
        """
        path = named(how)
        if not path.fits:
            return path
        return path.fit(self._space(lambda: encode_all(model, data.train).z, self.look(model, data)))

    def kept(self, how: str, model: Autoencoder, data: ImageData) -> Path | None:
        """Return a kind of path if it needs no fitting or is kept in `folder`; None if it would have to be fitted."""
        path = named(how)
        if path.fits and not self._store(self.look(model, data)).load(path):
            return None
        return self.path(how, model, data)

    def at_hand(self, model: Autoencoder, data: ImageData) -> list[str]:
        """Return the kinds of path that are ready within seconds, perhaps because the run has kept them."""
        store = self._store(self.look(model, data))
        return [how for how in HOW if named(how).at_hand(store)]

    def check(self, objective: str, data: ImageData) -> None:
        """Raise ConfigError if a search minimises or maximises a number that is not measured on a data set."""
        spec = spec_of(objective)
        if spec is None:
            return
        if spec.of == "codes" and (reason := missing(spec, data).get(objective)):
            raise ConfigError(
                f"`sweep.objective` (={objective}) is not measured in these runs, because {reason}; use another "
                "number, such as reconstruction_mse"
            )
        if requires := self._lacking(objective, spec, data):
            raise ConfigError(
                f"`sweep.objective` (={objective}) is not measured in these runs: it requires {requires}; another "
                "number, such as reconstruction_mse, is always measured"
            )

    def _lacking(self, objective: str, spec: Spec, data: ImageData) -> str:
        """Return what a number requires that these runs do not have; "" if there is nothing."""
        kind = parse(objective)[1].removesuffix(CONSTANT)
        how = kind.rpartition("_")[2]
        if spec.data not in (None, data.name):
            return f"data={spec.data}"
        if how in HOW and how not in self.kinds:
            return f"{how} in metrics.paths"
        if how in HOW and kind != how and not _cheap(named(how)):  # midpoints of all test images
            return "another kind of path"
        if spec.of in ("codes", "cycle", "mixtures", "paths"):
            return ""
        judge = self.judge(data)
        if judge is None or self._to_compare(data) <= judge.dimension:
            return "metrics.features, and more images (metrics.images) than there are features"
        if spec.of == "logits" and (problem := judges.trust(judge, data).problem):
            return f"logits, and {problem}"
        return ""

    def protocol(self, data: ImageData) -> dict[str, int | str | None]:
        """Return the settings that two results must share for their numbers to compare."""
        judge = self.judge(data)
        return {"restarts": self.restarts, **self._sizes(data), "features": None if judge is None else judge.name}

    @torch.no_grad()
    def __call__(self, model: Autoencoder, data: ImageData) -> Assessment:
        """Measure a model, and leave it in evaluation mode and single precision.

        Raises:
            CheckpointError: it makes NaN or infinite codes or images.
        """
        with _exact_arithmetic():
            judge = self.judge(data)
            model.float().eval()
            log.info("Measuring the codes …")
            train, test = encode_all(model, data.train), encode_all(model, data.test, decode=True)
            if not (train.z.isfinite().all() and math.isfinite(test.error)):
                raise CheckpointError(
                    "codes or images are NaN or infinite, so training has diverged; go back to an earlier checkpoint, "
                    "or train with a smaller optimizer.lr"
                )
            look = _look(model, judge)  # also if there are too few images to compare with
            judge, trust = self._trusted(self._if_enough(judge, data), data, model.device)
            sample = Sample(model, data, test.z, look, **self._sizes(data))
            space = self._space(train.z, look)
            paths = dict(_fitted(self._kinds(space.store), space))
            samples = sample.drawn(train.z, paths)
            everywhere = {how: path for how, path in paths.items() if _cheap(path)}
            measures = Measures(data, self.restarts)
            metrics = {"reconstruction_mse": test.error, **measures.of_codes(train, test)}
            metrics |= measures.of_mixtures(sample)
            sanity: dict[str, float] = {} if trust.accuracy is None else {"judge_accuracy": trust.accuracy}
            profiles: dict[str, Profile] = {}

            log.info("Measuring the paths …")
            references = None if judge is None else sample.references()
            total = 2 * (len(paths) + 2)  # two kinds need no model
            for kind, images, codes in tqdm(sample.paths(paths), total=total, desc="Paths", leave=False, disable=None):
                numbers = sanity if kind in SANITY else metrics
                numbers |= measures.of_paths(images, kind)
                if codes is not None:
                    numbers |= measures.of_cycle(codes, sample.again(images), kind)
                if judge is not None and references is not None:
                    found, profile = measures.of_features_along(judge, references, images, kind)
                    numbers |= found
                    if not kind.endswith(CONSTANT):
                        profiles[kind] = profile
            if judge is not None and references is not None:
                log.info("Measuring the images …")
                for kind, batches in sample.generated(samples, everywhere):
                    metrics |= measures.of_images(judge, references.test, batches, kind)
                for kind, batches in sample.baselines():
                    sanity |= measures.of_images(judge, references.test, batches, kind)
                for how, path in everywhere.items():
                    metrics |= measures.of_speed(judge, sample, how, path)
        return Assessment(metrics, sanity, self.protocol(data), test, profiles, samples, paths, space)

    def _space(self, codes: Tensor | Callable[[], Tensor], look: Look) -> Space:
        """Return what paths may know of a model, and keep them in the run's folder."""
        pixels = Look(look.model, judge=None)
        return Space(codes, look, pixels, self._store(look), judged=look.judge is not None)

    def _store(self, look: Look) -> Store:
        return Store() if self.folder is None else Kept(self.folder, look.model, look.judge)

    def _kinds(self, store: Store) -> list[str]:
        """Return the kinds of path to measure: those asked for, and slow ones whose fitting has been kept."""
        slow = [how for how in HOW if self.quick and how not in self.kinds]
        kept = [how for how in slow if store.load(path := named(how)) and path.at_hand(store)]
        return [how for how in HOW if how in self.kinds or how in kept]

    def _features(self, data: ImageData) -> str | None:
        return data.features if self.features == "auto" else self.features

    def _sizes(self, data: ImageData) -> dict[str, int]:
        images = min(self.images or len(data.test), len(data.test))
        return {"images": images, "pairs": min(self.pairs, images), "steps": self.steps}

    def _to_compare(self, data: ImageData) -> int:
        """Return the number of images in the smaller of the two sets of real images that are compared."""
        return min(self._sizes(data)["images"], len(data.train))

    def _if_enough(self, judge: Judge | None, data: ImageData) -> Judge | None:
        """Return the judge if there are enough images for its features; else warn."""
        if judge is None:
            reason = "metrics.features=null" if self.features is None else f"data={data.name} asks for no judge"
            log.info(f"Skipped {NEED_A_JUDGE}: {reason}")
            return None
        if (number := self._to_compare(data)) > judge.dimension:
            return judge
        few = "test" if number == self._sizes(data)["images"] else "training"
        log.warning(
            f"{number} {few} images are too few for {judge.dimension} features, so {NEED_A_JUDGE} are skipped; they "
            f"require {judge.dimension + 1}"
        )
        return None

    @staticmethod
    def _trusted(judge: Judge | None, data: ImageData, device: torch.device) -> tuple[Judge | None, Trust]:
        """Return the judge on a device, without its logits if they are not to be trusted, and say so."""
        if judge is None:
            return None, Trust()
        judge = judge.to(device).eval()
        trust = judges.trust(judge, data)
        if trust.accuracy is not None:
            log.info(f"The judge {judge.name} has {trust.accuracy:.1%} of the test images right")
        if not trust.problem:
            return judge, trust
        log.warning(f"Skipped {NEED_LOGITS}: {trust.problem}")
        return FeaturesOnly(judge), trust


def _look(model: Autoencoder, judge: Judge | None) -> Look:
    return Look(model, None if judge is None else judge.to(model.device).eval())


def _cheap(path: Path) -> bool:
    """Return True for paths between any number of pairs, such as for midpoints of all test images."""
    return not path.fits or path.samples


def _fitted(kinds: Sequence[str], space: Space) -> Iterator[tuple[str, Path]]:
    """Yield paths by their names, fitted to a model; warn of those that cannot be fitted."""
    for how in tqdm(kinds, desc="Fitting paths", leave=False, disable=None):
        try:
            yield how, named(how).fit(space)
        except ConfigError as error:  # the numbers of the other kinds must not be lost
            log.warning(f"Skipped paths by {how}: {error}")


@contextlib.contextmanager
def _exact_arithmetic() -> Iterator[None]:
    """Compute without TensorFloat-32, with which a GPU keeps three digits."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
