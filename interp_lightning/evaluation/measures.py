"""Feed the metrics of conf/metric: each with the inputs it asks for, each kind of image or path by itself."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import torch
from omegaconf import OmegaConf
from torch import Tensor
from torchmetrics import Metric
from tqdm import tqdm

from interp_lightning.data.base import ImageData
from interp_lightning.evaluation.assessment import Encoded, Profile
from interp_lightning.evaluation.sample import BATCH, EPSILON, Sample
from interp_lightning.metrics.base import ALONE, References, Seen
from interp_lightning.metrics.catalogue import SPECS, Kind, Spec
from interp_lightning.metrics.features import Judge
from interp_lightning.metrics.paths import entropy, step_lengths
from interp_lightning.paths.base import Path
from interp_lightning.system.conf import build, find

log = logging.getLogger(__name__)


class Measures:
    """All metrics that make sense for a data set.

    Args:
        data: the data set.
        restarts: k-means restarts of the clustering accuracy.
    """

    def __init__(self, data: ImageData, restarts: int) -> None:
        self.data, self.restarts = data, restarts

    def of_codes(self, train: Encoded, test: Encoded) -> dict[str, float]:
        """Measure the codes of both splits; warn of numbers that cannot be measured."""
        specs = self._specs("codes")
        absent = {name: reason for spec in specs for name, reason in missing(spec, self.data).items()}
        for reason in dict.fromkeys(absent.values()):
            names = " and ".join(name for name in absent if absent[name] == reason)
            log.warning(f"Skipped {names}: {reason}")
        found: dict[str, float] = {}
        present = [spec for spec in specs if not spec.numbers.keys() <= absent.keys()]
        for metric in tqdm(list(map(self._fresh, present)), desc="Codes", leave=False, disable=None):
            for split, encoded in (("train", train), ("test", test)):
                metric.update(encoded.z, encoded.labels, split)
            found |= _named(metric)
        return found

    def of_paths(self, images: Tensor, kind: str) -> dict[str, float]:
        """Measure images along paths, (pairs, steps, C, H, W)."""
        return self._measured("paths", kind, images.device, images)

    def of_features_along(
        self, judge: Judge, references: References, images: Tensor, kind: str
    ) -> tuple[dict[str, float], Profile]:
        """Measure what a judge sees along paths, (pairs, steps, C, H, W); also return their profile.

        Args:
            references: its features of real images; the ends of these paths are the first of them.
        """
        batches = tqdm(images.flatten(0, 1).split(BATCH), desc=f"Path {kind}", leave=False, disable=None)
        answers = [judge(x) for x in batches]
        found: dict[str, float] = {}
        logits = confidence = doubt = None
        if answers[0][1] is not None:
            logits = torch.cat([logits for _, logits in answers]).unflatten(0, images.shape[:2])
            confidence, doubt = logits.softmax(-1).amax(-1).mean(0).cpu(), entropy(logits).mean(0).cpu()
            found = self._measured("logits", kind, logits.device, logits)
        features = torch.cat([features for features, _ in answers])
        for metric in self._metrics("frames", features.device):
            metric.update(references.test, real=True)
            metric.update(features, real=False)
            found |= _named(metric, kind)
        features = features.unflatten(0, images.shape[:2])
        known = replace(references, ends=references.ends[: len(features)])
        found |= self._measured("seen", kind, features.device, Seen(features, logits, known))
        found |= self._measured("path_features", kind, features.device, features)
        return found, Profile(step_lengths(features).mean(0).cpu(), confidence, doubt)

    def of_images(self, judge: Judge, real: Tensor, batches: Iterator[Tensor], kind: str) -> dict[str, float]:
        """Measure single images in batches (B, C, H, W) against features of real ones (n, d)."""
        of_features, of_logits = (self._metrics(of, real.device) for of in ("features", "logits"))
        for metric in of_features:
            metric.update(real, real=True)
        total = -(-len(real) // BATCH)
        for x in tqdm(batches, total=total, desc=kind.replace("_", " ").capitalize(), leave=False, disable=None):
            features, logits = judge(x)
            for metric in of_features:
                metric.update(features, real=False)
            for metric in of_logits if logits is not None else ():
                metric.update(logits)
        measured = [metric for metric in (*of_features, *of_logits) if metric.update_called]
        return {name: value for metric in measured for name, value in _named(metric, kind).items()}

    def of_cycle(self, codes: Tensor, again: Tensor, kind: str) -> dict[str, float]:
        """Measure how codes along paths come back, (pairs, steps, d)."""
        return self._measured("cycle", kind, codes.device, codes, again)

    def of_mixtures(self, sample: Sample) -> dict[str, float]:
        """Measure how much of two codes is seen in decoded mixtures."""
        metrics = self._metrics("mixtures", sample.t.device)
        for images, alpha in sample.mixtures():
            for metric in metrics:
                metric.update(images, alpha)
        return {name: value for metric in metrics for name, value in _named(metric).items()}

    def of_speed(self, judge: Judge, sample: Sample, how: str, path: Path) -> dict[str, float]:
        """Measure how far features move between two neighbouring points of each path."""
        metrics = self._metrics("speed", sample.t.device)
        total = -(-len(sample.t) // BATCH)
        bar = tqdm(sample.neighbours(path), total=total, desc=f"Path length {how}", leave=False, disable=None)
        for near, far in bar:
            features = judge(near)[0], judge(far)[0]
            for metric in metrics:
                metric.update(*features, EPSILON)
        return {name: value for metric in metrics for name, value in _named(metric, how).items()}

    def _specs(self, of: Kind) -> list[Spec]:
        return [spec for spec in SPECS if spec.of == of and spec.data in (None, self.data.name)]

    def _fresh(self, spec: Spec) -> Metric:
        """Build a metric, with this data set's classes and these restarts where its file refers to them."""
        values = {"classes": self.data.classes, "restarts": self.restarts, "metric": dict(spec.settings)}
        return build({**OmegaConf.create(values).metric, **ALONE})

    def _metrics(self, of: Kind, device: torch.device) -> list[Metric]:
        """Build all metrics of a kind of input."""
        return [self._fresh(spec).to(device) for spec in self._specs(of)]

    def _measured(self, of: Kind, kind: str, device: torch.device, *inputs: Tensor | Seen) -> dict[str, float]:
        """Measure inputs that come at once by all metrics of their kind."""
        found: dict[str, float] = {}
        for metric in self._metrics(of, device):
            metric.update(*inputs)
            found |= _named(metric, kind)
        return found


def missing(spec: Spec, data: ImageData) -> dict[str, str]:
    """Return the numbers of a metric of codes that cannot be measured on a data set, with the reason."""
    classes = data.classes if data.labelled else 0
    return find(spec.settings["_target_"]).missing(classes, len(data.train), len(data.test))


def _named(metric: Metric, kind: str = "") -> dict[str, float]:
    """Return a metric's numbers by their names in results.json."""
    return {f"{name}_{kind}" if kind else name: value.item() for name, value in metric.compute().items()}
