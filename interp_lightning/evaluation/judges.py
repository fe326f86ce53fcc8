"""The judge of a data set: shipped, Inception, or trained on its own images; and how far to trust it."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from tqdm import tqdm

from interp_lightning.data.base import ImageData
from interp_lightning.data.contract import spread
from interp_lightning.data.loaders import EVAL_BATCH, EvaluationLoader
from interp_lightning.functional.digests import digest
from interp_lightning.functional.images import to_unit_range
from interp_lightning.metrics import features as networks
from interp_lightning.metrics.base import UNLABELLED as NO_LABELS
from interp_lightning.metrics.features import Judge
from interp_lightning.metrics.judges import training
from interp_lightning.metrics.judges.files import trained
from interp_lightning.metrics.judges.own import OwnJudge

log = logging.getLogger(__name__)

CLEARLY = 0.1  # share of the largest class's errors that a judge must avoid, at least

_own: WeakKeyDictionary[ImageData, OwnJudge] = WeakKeyDictionary()
_trust: WeakKeyDictionary[ImageData, dict[bytes, "Trust"]] = WeakKeyDictionary()  # by the judge's weights


def judge(features: str, data: ImageData, weights: str | None = None) -> Judge:
    """Return the judge of a data set's images.

    Args:
        features: "own", or one of `metrics.features.judge`.
        data: the data set; "own" is trained on its training split, unless the cache has it.
        weights: file with Inception's weights.
    """
    return own_judge(data) if features == "own" else networks.judge(features, data.image_shape, weights)


def own_judge(data: ImageData) -> OwnJudge:
    """Return the judge of a data set's own training images, trained once for all runs on them."""
    if data not in _own:
        # Seeded, as items of own data sets may be random.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            images, labels = _digests(data)
            classes = data.classes if data.labelled and len(labels.unique()) > 1 else 0
            dimension = training.dimension(min(len(data.train), len(data.test)))
            settings = f"{training.RECIPE} {data.image_shape} {classes} {dimension} ".encode()
            key = hashlib.sha256(settings + images + digest({"labels": labels} if classes else {})).digest()
            _own[data] = trained(OwnJudge(data.image_shape, classes, dimension), key, lambda new: _train(new, data))
    return _own[data]


def _digests(data: ImageData) -> tuple[bytes, Tensor]:
    """Return the digest of the training images, and their labels."""
    whole, labels = hashlib.sha256(), []
    loader = EvaluationLoader(data.train, rank=0, world_size=1)
    for images, y in tqdm(loader, desc="Checksum of the images", leave=False, disable=None):
        whole.update(digest({"images": images}))
        labels.append(y.long().cpu())
    return whole.digest(), torch.cat(labels)


def _train(new: OwnJudge, data: ImageData) -> None:
    source = data.train
    items, order = source.all(), training.order(len(source))
    how = "with their labels" if new.classes else "without labels"
    log.info(f"Training a judge of these images {how}, once: {sum(map(len, order)):,} of them …")
    sample = items[spread(len(source), training.FIT_TO)].split(EVAL_BATCH)
    training.train(
        new,
        source.batches(items[part] for part in order),
        len(order),
        (images for images, _ in source.batches(sample)),
    )


@dataclass(frozen=True)
class Trust:
    """How far a judge's logits can be trusted.

    Args:
        accuracy: share of the test images that it classifies correctly; None if that cannot be told.
        problem: why its logits are not used; "" if they are.
    """

    accuracy: float | None = None
    problem: str = ""


def trust(judge: Judge, data: ImageData) -> Trust:
    """Compare a judge's classes with the labels of the test images, once for each judge and data set.

    It is at chance if it avoids less than a tenth of the errors of naming the largest class always, or if the
    difference is within two standard errors.
    """
    known, weights = _trust.setdefault(data, {}), digest(judge.state_dict())
    if weights not in known:
        known[weights] = _compared(judge, data)
    return known[weights]


@torch.no_grad()
def _compared(judge: Judge, data: ImageData) -> Trust:
    if not judge.classes:
        return Trust(None, "this judge is no classifier" if data.labelled else NO_LABELS)
    if not data.labelled or judge.classes != data.classes:
        return Trust()
    right, labels = zip(*_verdicts(judge, data), strict=True)
    accuracy, number = torch.cat(right).double().mean().item(), len(data.test)
    largest = torch.cat(labels).bincount().max().item() / number
    least = largest + max(CLEARLY * (1 - largest), 2 * (largest * (1 - largest) / number) ** 0.5)
    if accuracy > least or accuracy == 1:
        return Trust(accuracy)
    return Trust(
        accuracy,
        f"the judge is at chance: {accuracy:.1%} of the test images right, where the largest class has {largest:.1%}",
    )


def _verdicts(judge: Judge, data: ImageData) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of right or wrong, and of labels."""
    device = next(judge.buffers()).device
    loader = EvaluationLoader(data.test, rank=0, world_size=1)
    for images, y in tqdm(loader, desc="Accuracy of the judge", leave=False, disable=None):
        logits = judge(to_unit_range(images).to(device))[1]
        assert logits is not None
        yield logits.argmax(1).cpu() == y.long().cpu(), y.long().cpu()
