"""What a trained model is worth: every number of results.json, and what the figures need to show why."""

import contextlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torchmetrics import Metric
from tqdm import tqdm

from interp_lightning.data.base import EvaluationLoader, ImageData, Source
from interp_lightning.errors import CheckpointError, ConfigError
from interp_lightning.functional.images import to_unit_range
from interp_lightning.metrics import features as networks
from interp_lightning.metrics.base import ALONE
from interp_lightning.metrics.catalogue import COLUMNS
from interp_lightning.metrics.clustering import ClusteringAccuracy
from interp_lightning.metrics.features import Judge
from interp_lightning.metrics.generation import GenerationQuality
from interp_lightning.metrics.latent import LEAST_W2, LatentMatch
from interp_lightning.metrics.paths import PathEvenness, PathLength, Realism, entropy, step_lengths
from interp_lightning.metrics.probe import LinearProbe
from interp_lightning.models.base import Autoencoder
from interp_lightning.parameters import Configurable, File
from interp_lightning.paths.base import BETWEEN, path

log = logging.getLogger(__name__)

BATCH = 500
EPSILON = 1e-2  # step of the perceptual path length: small for the path, large for float32


@dataclass(frozen=True)
class Encoded:
    """A whole split as a model sees it."""

    z: Tensor  # (N, d) codes
    labels: Tensor  # (N,), all −1 if there are none
    error: float  # mean squared error of the reconstructions, images in [−1, 1]


@dataclass(frozen=True)
class Profile:
    """What happens along a kind of path, as means over paths."""

    lengths: Tensor  # (steps − 1,) of the steps, in feature space
    confidence: Tensor | None  # (steps,) highest class probability; None where nothing tells classes apart
    entropy: Tensor | None  # (steps,) of the classes, in nats


@dataclass(frozen=True)
class Assessment:
    """What an `Evaluation` found. Names are `<metric>_<what was measured>`, as `metrics.catalogue` explains them."""

    metrics: dict[str, float]  # of the model
    sanity: dict[str, float]  # of real images, of pixel-wise blends of two images, of noise
    protocol: dict[str, int | str | None]  # how it was measured; numbers of different protocols do not compare
    test: Encoded
    profiles: dict[str, Profile]  # by kind of path

    def results(self) -> dict[str, Any]:
        """What goes into results.json."""
        return {"protocol": self.protocol, "metrics": self.metrics, "sanity": self.sanity}


class Evaluation(Configurable, group="metrics"):
    """Measures a trained model on the test images, as thoroughly as `conf/metrics/*.yaml` say.

    All random draws have a fixed seed and all arithmetic is done in full single precision or better, so that the same
    weights get the same numbers again, and on another device the same but for rounding.

    Args:
        restarts: of the k-means behind the clustering accuracy.
        images: number of test images that as many generated ones are compared with; None is all there are.
        pairs: number of pairs of test images whose whole paths are looked at.
        steps: points on each of these paths, both ends included.
        features: network whose features tell images apart: "digits" (shipped), "inception" (wants torch-fidelity), None
            (no metrics that need one), or "auto", what suits the data set.
        weights: file with the weights of "inception"; None downloads them.

    Raises:
        ConfigError: a number is too small, or `features` unknown.
    """

    def __init__(
        self,
        restarts: Annotated[int, Field(ge=1, le=100_000)] = 100,
        images: Annotated[int, Field(ge=2)] | None = 5_000,
        pairs: Annotated[int, Field(ge=1, le=100_000)] = 256,
        steps: Annotated[int, Field(ge=3, le=1_000)] = 16,
        features: Literal["auto", "digits", "inception"] | None = "auto",
        weights: File | None = None,
    ) -> None:
        self.restarts, self.images, self.pairs, self.steps = restarts, images, pairs, steps
        self.features, self.weights = features, weights

    def judge(self, data: ImageData) -> Judge | None:
        """The network that looks at a data set's images; None if there is none.

        Raises:
            ConfigError: it is not to be had, or is not made for such images.
        """
        name = self._features(data)
        return None if name is None else networks.judge(name, data.image_shape, self.weights)

    def check(self, objective: str, data: ImageData) -> None:
        """Raise ConfigError if a search goes by a number that is not measured on a data set."""
        if objective in ("reconstruction_mse", *COLUMNS["Codes"]):
            if reason := self._skipped(data).get(objective):
                raise ConfigError(
                    f"`sweep.objective` (={objective}) is not measured in these runs, because {reason}; use another "
                    "number, such as reconstruction_mse"
                )
            return
        if objective.startswith("lines_"):
            measured, wants = bool(data.path_metrics()), "data=lines"
        else:
            judge = self.judge(data)
            measured = judge is not None and self._to_compare(data) > judge.dimension
            wants = "metrics.features, and more images (metrics.images) than there are features"
        if not measured:
            raise ConfigError(
                f"`sweep.objective` (={objective}) is not measured in these runs: it wants {wants}; another number, "
                "such as reconstruction_mse, is always there"
            )

    def protocol(self, data: ImageData) -> dict[str, int | str | None]:
        """What two results must have in common for their numbers to be compared."""
        return {"restarts": self.restarts, **self._sizes(data), "features": self._features(data)}

    @torch.no_grad()
    def __call__(self, model: Autoencoder, data: ImageData) -> Assessment:
        """Measure a model, which is left in evaluation mode and single precision.

        Raises:
            CheckpointError: it makes NaN or infinite codes or images.
        """
        with _exact_arithmetic():
            judge = self.judge(data)
            model.float().eval()
            log.info("Measuring the codes …")
            train, test = encode_all(model, data.train), encode_all(model, data.test)
            if not (train.z.isfinite().all() and math.isfinite(test.error)):
                raise CheckpointError(
                    "codes or images are NaN or infinite, so training has diverged; go back to an earlier checkpoint, "
                    "or train with a smaller optimizer.lr"
                )
            sample = _Sample(model, data, test.z, **self._sizes(data))
            metrics = {"reconstruction_mse": test.error, **self._codes(train, test, data)}
            sanity: dict[str, float] = {}
            profiles: dict[str, Profile] = {}

            if judge is not None and (number := self._to_compare(data)) <= judge.dimension:
                few = "test" if number == len(sample.order) else "training"
                log.warning(
                    f"{number} {few} images are too few for {judge.dimension} features, so FID, KID, precision, "
                    f"recall, realism and the metrics of paths are skipped; they require {judge.dimension + 1}"
                )
                judge = None
            if judge is not None:
                judge = judge.to(model.device).eval()

            log.info("Measuring the paths …")
            for kind, images in (*((how, sample.path(how)) for how in BETWEEN), ("blend", sample.blended_path())):
                numbers = metrics if kind in BETWEEN else sanity
                for metric in data.path_metrics():
                    metric.to(model.device).update(images.squeeze(2))
                    numbers |= _named(metric, kind)
                if judge is not None:
                    found, profiles[kind] = _along(judge, images, kind)
                    numbers |= found
            if judge is not None:
                log.info("Measuring the images …")
                real = torch.cat([judge(x)[0] for x in sample.real()])
                for kind, batches in sample.generated():
                    metrics |= _quality(judge, real, batches, kind)
                for kind, batches in sample.anchors():
                    sanity |= _quality(judge, real, batches, kind)
                for how in BETWEEN:
                    metrics |= _path_length(judge, sample, how)
        return Assessment(metrics, sanity, self.protocol(data), test, profiles)

    def _features(self, data: ImageData) -> str | None:
        return data.features if self.features == "auto" else self.features

    def _sizes(self, data: ImageData) -> dict[str, int]:
        images = min(self.images or len(data.test), len(data.test))
        return {"images": images, "pairs": min(self.pairs, images), "steps": self.steps}

    def _to_compare(self, data: ImageData) -> int:
        """Images in the smaller one of the sets of real images that are compared with each other."""
        return min(self._sizes(data)["images"], len(data.train))

    def _skipped(self, data: ImageData) -> dict[str, str]:
        """Metrics of codes that cannot be measured on a data set, with the reason."""
        skipped: dict[str, str] = {}
        if not data.labelled:
            skipped |= dict.fromkeys(("probe_accuracy", "cluster_accuracy"), "the images have no labels")
        elif len(data.train) < data.classes:
            skipped["cluster_accuracy"] = f"{len(data.train)} training images are too few for {data.classes} clusters"
        if len(data.test) < LEAST_W2:
            skipped["latent_w2"] = f"{len(data.test)} test images are too few, it requires {LEAST_W2}"
        return skipped

    def _codes(self, train: Encoded, test: Encoded, data: ImageData) -> dict[str, float]:
        skipped = self._skipped(data)
        metrics: dict[str, Metric] = {
            "probe_accuracy": LinearProbe(data.classes, **ALONE),
            "cluster_accuracy": ClusteringAccuracy(data.classes, self.restarts, **ALONE),
        }
        found: dict[str, float] = {}
        for name, metric in metrics.items():
            if name not in skipped:
                for split, encoded in (("train", train), ("test", test)):
                    metric.update(encoded.z, encoded.labels, split)
                found |= _named(metric)
        match = LatentMatch(**ALONE)
        match.update(test.z)
        for reason in dict.fromkeys(skipped.values()):
            names = " and ".join(name for name in skipped if skipped[name] == reason)
            log.warning(f"Skipped {names}: {reason}")
        return found | _named(match)


@torch.no_grad()
def encode_all(model: Autoencoder, source: Source) -> Encoded:
    """Encode and decode every image of a split, in order. Leaves the model in evaluation mode."""
    model.eval()
    codes, labels, error = [], [], 0.0
    loader = EvaluationLoader(source, rank=0, world_size=1)
    for images, y in tqdm(loader, desc="Encoding", leave=False, disable=None):
        x = to_unit_range(images).to(model.device)
        z = model.encode(x)
        error += F.mse_loss(model.decode(z), x).item() * len(x)
        codes.append(z)
        labels.append(y.long().to(model.device))
    return Encoded(torch.cat(codes), torch.cat(labels), error / len(source))


class _Sample:
    """The images that are looked at: for every model the same test images, pairs and draws.

    Args:
        z: codes of the test split, (N, d).
        images, pairs, steps: see `Evaluation`.
    """

    def __init__(self, model: Autoencoder, data: ImageData, z: Tensor, images: int, pairs: int, steps: int) -> None:
        self.model, self.data, self.pairs, self.steps = model, data, pairs, steps
        generator = torch.Generator().manual_seed(0)
        self.order = torch.randperm(len(z), generator=generator)[:images]
        self.partner = self.order.roll(1)  # so that each image begins one path and ends another
        self.z_a, self.z_b = z[self.order], z[self.partner]
        self.z_prior = model.penalty.prior(torch.randn(z[self.order].shape, generator=generator).to(z))
        self.t = (1 - EPSILON) * torch.rand(images, 1, generator=generator).to(z)
        self.from_training = torch.randperm(len(data.train), generator=generator)[:images]

    def path(self, how: str) -> Tensor:
        """Images along the first paths, (pairs, steps, C, H, W)."""
        codes = path(self.z_a[: self.pairs], self.z_b[: self.pairs], self.steps, how)
        return torch.cat(list(self.decode(codes.flatten(0, 1)))).unflatten(0, codes.shape[:2])

    def blended_path(self) -> Tensor:
        """The same pairs fading into one another pixel by pixel, (pairs, steps, C, H, W)."""
        x_a, x_b = (self._test(items[: self.pairs]) for items in (self.order, self.partner))
        return path(x_a.flatten(1), x_b.flatten(1), self.steps).unflatten(2, x_a.shape[1:])

    def real(self) -> Iterator[Tensor]:
        """Batches of test images."""
        return (self._test(items) for items in self.order.split(BATCH))

    def generated(self) -> Iterator[tuple[str, Iterator[Tensor]]]:
        """Batches of what the model decodes, by where the codes come from."""
        yield "reconstructions", self.decode(self.z_a)
        yield "prior", self.decode(self.z_prior)
        for how, between in BETWEEN.items():
            yield f"midpoints_{how}", self.decode(between(self.z_a, self.z_b, torch.full_like(self.t, 0.5)))

    def anchors(self) -> Iterator[tuple[str, Iterator[Tensor]]]:
        """Batches of what any model's images lie between: more real ones, two seen through each other, and noise."""
        train = self.data.train
        yield "real", (self._batch(train, items) for items in self.from_training.split(BATCH))
        pairs = zip(self.order.split(BATCH), self.partner.split(BATCH), strict=True)
        yield "midpoints_blend", ((self._test(a) + self._test(b)) / 2 for a, b in pairs)
        generator = torch.Generator().manual_seed(0)
        yield "noise", (2 * torch.rand(x.shape, generator=generator).to(x) - 1 for x in self.real())

    def decode(self, z: Tensor) -> Iterator[Tensor]:
        """Batches of decoded codes (n, d)."""
        return (self.model.decode(part) for part in z.split(BATCH))

    def _test(self, items: Tensor) -> Tensor:
        return self._batch(self.data.test, items)

    def _batch(self, source: Source, items: Tensor) -> Tensor:
        return to_unit_range(source.batch(source.all()[items])[0]).to(self.model.device)


def _along(judge: Judge, images: Tensor, kind: str) -> tuple[dict[str, float], Profile]:
    """Scores and profile of whole paths, (pairs, steps, C, H, W)."""
    looks = [judge(x) for x in tqdm(images.flatten(0, 1).split(BATCH), desc=f"Path {kind}", leave=False, disable=None)]
    features = torch.cat([features for features, _ in looks]).unflatten(0, images.shape[:2])
    even = PathEvenness(**ALONE).to(images.device)
    even.update(features)
    found, lengths = _named(even, kind), step_lengths(features).mean(0).cpu()
    if looks[0][1] is None:
        return found, Profile(lengths, None, None)
    logits = torch.cat([logits for _, logits in looks]).unflatten(0, images.shape[:2])
    realism = Realism(**ALONE).to(images.device)
    realism.update(logits)
    confidence = logits.softmax(-1).amax(-1).mean(0).cpu()
    return found | _named(realism, kind), Profile(lengths, confidence, entropy(logits).mean(0).cpu())


def _quality(judge: Judge, real: Tensor, batches: Iterator[Tensor], kind: str) -> dict[str, float]:
    """Scores of single images in batches (B, C, H, W), against features of real ones (n, d)."""
    quality, realism = GenerationQuality(**ALONE), Realism(**ALONE)
    quality.to(real.device).update(real, real=True)
    total = -(-len(real) // BATCH)
    for x in tqdm(batches, total=total, desc=kind.replace("_", " ").capitalize(), leave=False, disable=None):
        features, logits = judge(x)
        quality.update(features, real=False)
        if logits is not None:
            realism.to(real.device).update(logits)
    return _named(quality, kind) | (_named(realism, kind) if realism.update_called else {})


def _path_length(judge: Judge, sample: _Sample, how: str) -> dict[str, float]:
    """Perceptual path length: one point and its neighbour on each path."""
    length = PathLength(**ALONE).to(sample.t.device)
    near, far = (sample.decode(BETWEEN[how](sample.z_a, sample.z_b, t)) for t in (sample.t, sample.t + EPSILON))
    total = -(-len(sample.t) // BATCH)
    bar = tqdm(zip(near, far, strict=True), total=total, desc=f"Path length {how}", leave=False, disable=None)
    for x_near, x_far in bar:
        length.update(judge(x_near)[0], judge(x_far)[0], EPSILON)
    return _named(length, how)


def _named(metric: Metric, kind: str = "") -> dict[str, float]:
    """A metric's numbers by the names of results.json."""
    return {f"{name}_{kind}" if kind else name: value.item() for name, value in metric.compute().items()}


@contextlib.contextmanager
def _exact_arithmetic() -> Iterator[None]:
    """Without TensorFloat-32, in which a GPU keeps three digits."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False, deterministic=True):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
