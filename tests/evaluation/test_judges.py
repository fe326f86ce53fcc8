"""Every data set gets a judge, or a sentence why not."""

import logging
from typing import Any

import pytest
import torch
from conftest import small_model
from torch.utils.data import Dataset

from interp_lightning.data.base import ImageData
from interp_lightning.data.digits import Digits
from interp_lightning.data.sources import InMemory, OnDisk
from interp_lightning.errors import ConfigError
from interp_lightning.evaluation import judges
from interp_lightning.evaluation.judges import own_judge, trust
from interp_lightning.evaluation.protocol import Evaluation
from interp_lightning.models.ae import AE
from interp_lightning.penalties.none import NoPenalty

SMALL = Evaluation(restarts=1, images=40, pairs=4, steps=3, paths=["lerp"])
JUDGED = ("fid_prior", "membership_lerp_constant", "evenness_lerp", "score_lerp_constant")


class Squares(ImageData):
    """Squares of one of two brightnesses, by their label."""

    name = "squares"
    image_shape, classes, epochs = (1, 32, 32), 2, 1
    sizes = (60, 0, 40)

    def split(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(index)
        labels = torch.randint(2, (self.sizes[index],), generator=generator)
        x = torch.randint(40, (len(labels), *self.image_shape), generator=generator, dtype=torch.uint8)
        x[:, :, 8:24, 8:24] += (100 + 80 * labels[:, None, None, None]).byte()
        return x, labels

    def load(self) -> tuple[InMemory, InMemory, InMemory]:
        return tuple(InMemory(*self.split(index)) for index in range(3))


class NoLabels(Squares):
    def split(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, labels = super().split(index)
        return x, torch.full_like(labels, -1)


class Guesses(Squares):
    """Labels that no image shows."""

    def split(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, labels = super().split(index)
        return x, labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(7 + index))]


class OneClass(Squares):
    def split(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, labels = super().split(index)
        return x, torch.zeros_like(labels)


class Unjudged(Squares):
    features = None


class FewTests(Squares):
    sizes = (60, 0, 15)


class VeryFewTests(Squares):
    sizes = (60, 0, 5)


@pytest.fixture
def model():
    return small_model(AE, penalty=NoPenalty())


def measured(model: AE, data: ImageData, evaluation: Evaluation = SMALL) -> Any:
    return evaluation(model, data)


def test_own_images_are_measured_by_a_judge_of_their_own(model, caplog):
    caplog.set_level(logging.INFO)
    found = measured(model, Squares(8))
    assert all(name in found.metrics for name in (*JUDGED, "realism_prior"))
    assert found.sanity["judge_accuracy"] == 1
    assert found.protocol["features"] == own_judge(Squares(8)).name
    assert f"The judge {own_judge(Squares(8)).name} has 100.0% of the test images right" in caplog.text
    assert caplog.text.count("Training a judge of these images with their labels, once") <= 1
    assert "Skipped" not in caplog.text


def test_images_without_labels_have_all_but_realism(model, caplog):
    found = measured(model, NoLabels(8))
    assert all(name in found.metrics for name in JUDGED)
    assert not any(name.startswith(("realism", "entropy")) for name in found.metrics | found.sanity)
    assert "judge_accuracy" not in found.sanity
    assert "Skipped realism and entropy: the images have no labels" in caplog.text


def test_a_judge_at_chance_is_named_and_its_logits_are_not_used(model, caplog):
    found = measured(model, Guesses(8))
    assert all(name in found.metrics for name in JUDGED)
    assert not any(name.startswith(("realism", "entropy")) for name in found.metrics | found.sanity)
    assert 0.2 < found.sanity["judge_accuracy"] < 0.8
    assert "Skipped realism and entropy: the judge is at chance: " in caplog.text


def test_one_class_only_is_no_label(model):
    assert own_judge(OneClass(8)).classes == 0
    assert "realism_prior" not in measured(model, OneClass(8)).metrics


def test_few_test_images_are_compared_in_few_features(model, caplog):
    found = measured(model, FewTests(8))
    assert all(name in found.metrics for name in JUDGED)
    assert own_judge(FewTests(8)).dimension == 8
    assert not any(name in measured(model, VeryFewTests(8)).metrics for name in JUDGED)
    assert "5 test images are too few for 8 features" in caplog.text


@pytest.mark.parametrize(
    ("features", "data", "reason"),
    [(None, Squares, "metrics.features=null"), ("auto", Unjudged, "data=squares asks for no judge")],
)
def test_without_a_judge_a_line_says_why(model, data, features, reason, caplog):
    caplog.set_level(logging.INFO)
    images = data(8)
    evaluation = Evaluation(restarts=1, images=9, pairs=1, steps=3, features=features, paths=["lerp"])
    found = measured(model, images, evaluation)
    assert found.protocol["features"] is None
    assert not any(name in found.metrics for name in JUDGED)
    what = "FID, KID, precision, recall, realism, the judge's metrics of paths and path_profile.png"
    assert f"Skipped {what}: {reason}" in caplog.text


def test_a_search_for_realism_requires_labels():
    SMALL.check("realism_lerp_constant", Squares(8))
    SMALL.check("score_lerp_constant", NoLabels(8))
    with pytest.raises(ConfigError, match=r"it requires logits, and the images have no labels; another"):
        SMALL.check("realism_lerp_constant", NoLabels(8))
    with pytest.raises(ConfigError, match="the judge is at chance"):
        SMALL.check("realism_lerp_constant", Guesses(8))


class Brighter(Squares):
    def split(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, labels = super().split(index)
        return x + (index == 0), labels


class Relabelled(Squares):
    def split(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, labels = super().split(index)
        return x, 1 - labels


class OtherTests(Squares):
    def split(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, labels = super().split(index)
        return x + (index == 2), labels


def test_a_judge_belongs_to_training_images_and_labels():
    name = own_judge(Squares(8)).name
    assert own_judge(OtherTests(8)).name == own_judge(Squares(16, seed=3)).name == name
    assert len({name, *(own_judge(data(8)).name for data in (Brighter, Relabelled, NoLabels))}) == 4


class Jittered(Squares):
    """Items that differ each time they are read."""

    def load(self) -> tuple[OnDisk, OnDisk, OnDisk]:
        return tuple(OnDisk(Random(*self.split(index)), workers=0) for index in range(3))


class Random(Dataset[Any]):
    def __init__(self, x: torch.Tensor, labels: torch.Tensor) -> None:
        self.x, self.labels = x, labels

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.x[index] + torch.randint(9, (), dtype=torch.uint8), int(self.labels[index])


def test_images_that_are_augmented_when_read_are_known_again_and_draws_of_the_process_go_on(monkeypatch):
    before = torch.get_rng_state()
    name = own_judge(Jittered(8)).name
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    monkeypatch.setattr(judges, "_train", lambda *_: pytest.fail("it is trained again"))
    assert own_judge(Jittered(8)).name == name


def test_shipped_judges_are_checked_on_the_test_images_too():
    digits = Digits(64)
    assert trust(Evaluation().judge(digits), digits).accuracy > 0.98
    assert Evaluation(features="own").judge(Squares(8)).name == own_judge(Squares(8)).name
