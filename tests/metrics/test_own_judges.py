"""Judges trained on a data set's own images: any images, the same judge each time, one training for all processes."""

import logging
import threading
from pathlib import Path

import pytest
import torch
from conftest import damage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interp_lightning.data.digits import Digits
from interp_lightning.functional.images import to_unit_range
from interp_lightning.metrics.judges import training
from interp_lightning.metrics.judges.files import trained
from interp_lightning.metrics.judges.own import OwnJudge
from interp_lightning.metrics.judges.training import dimension, no_image, order, shifted
from interp_lightning.metrics.paths import confident

SHAPE, DOT = (1, 8, 8), (1, 2, 2)


def images(number: int, shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    return torch.randint(256, (number, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def made(x: torch.Tensor, classes: int, seed: int = 0, steps: int = 2) -> OwnJudge:
    """Train for a few steps."""
    judge = OwnJudge(tuple(x.shape[1:]), classes, 8)
    labels = torch.arange(len(x)) % max(1, classes)
    training.train(judge, [(x, labels)] * steps, steps, x.split(5), seed)
    return judge


@settings(max_examples=25)
@given(
    channels=st.integers(1, 4),
    size=st.integers(1, 34) | st.sampled_from([64, 65]),
    classes=st.sampled_from([0, 2, 7]),
    number=st.integers(2, 9),
    floats=st.booleans(),
)
def test_images_of_any_size_and_number_of_channels_get_a_judge(channels, size, classes, number, floats):
    x = images(number, (channels, size, size))
    judge = made(to_unit_range(x) if floats else x, classes)
    features, logits = judge(to_unit_range(x))
    assert features.shape == (number, judge.dimension)
    assert features.isfinite().all()
    if classes:
        assert logits.shape == (number, classes)
        assert logits.isfinite().all()
    else:
        assert logits is None
    assert not judge.training
    assert not any(parameter.requires_grad for parameter in judge.parameters())


def test_large_images_cost_little_more():
    def multiplications(size: int) -> int:
        found = []
        judge = OwnJudge((3, size, size), 2, 8).eval()
        for module in judge.body:
            module.register_forward_hook(
                lambda m, _, out: found.append(out.numel() * getattr(m, "weight", out).numel())
            )
        judge(torch.zeros(1, 3, size, size))
        return sum(found)

    assert multiplications(64) < 3 * multiplications(32)


@pytest.mark.parametrize("classes", [0, 3])
def test_the_same_images_and_seed_make_the_same_judge_however_the_process_is_set_up(classes):
    x = images(12)
    first = made(x, classes)
    torch.manual_seed(99)
    torch.set_num_threads(2)
    torch.set_flush_denormal(True)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.no_grad():
            again = made(x, classes)
        assert torch.get_num_threads() == 2
        assert torch.tensor(torch.finfo(torch.float32).tiny).div(2).item() == 0
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_num_threads(1)
        torch.set_flush_denormal(False)
        torch.set_float32_matmul_precision("highest")
    assert again.name == first.name
    assert made(x, classes, seed=1).name != first.name
    assert made(255 - x, classes).name != first.name
    made(x, classes)
    assert torch.tensor(torch.finfo(torch.float32).tiny).div(2).item() != 0


@given(st.integers(2, 3_000))
def test_an_epoch_of_training_has_an_image_once_and_more_images_take_more_steps(number):
    batches = order(number)
    each_epoch = number // len(batches[0])
    for start in range(0, len(batches), each_epoch):
        seen = torch.cat(batches[start : start + each_epoch])
        assert len(seen.unique()) == len(seen)
        assert seen.max() < number
    assert 1 <= len(batches) <= len(order(number + 500))


def test_training_has_a_budget():
    assert sum(map(len, order(60_000))) == sum(map(len, order(1_000_000))) <= training.MOST_SEEN


@given(st.integers(1, 4), st.integers(1, 33), st.integers(1, 33))
def test_shifts_move_pixels_and_invent_none(channels, height, width):
    x = torch.rand(3, channels, height, width)
    moved = shifted(x)
    assert moved.shape == x.shape
    assert all(set(a.flatten().tolist()) <= set(b.flatten().tolist()) for a, b in zip(moved, x, strict=True))


def test_features_are_principal_components():
    x = images(200)
    judge = made(x, 2)
    values = judge(to_unit_range(x))[0].double()
    covariance = values.T.cov(correction=0)
    torch.testing.assert_close(covariance, covariance.diagonal().diag(), atol=1e-3, rtol=0)
    torch.testing.assert_close(values.mean(0), torch.zeros(8, dtype=torch.float64), atol=1e-3, rtol=0)
    assert covariance.diagonal().mean().item() == pytest.approx(1, rel=1e-3)
    assert torch.equal(covariance.diagonal().argsort(descending=True), torch.arange(8))


@given(st.integers(2, 10**7))
def test_there_are_always_more_images_than_features_if_there_can_be(number):
    assert 8 <= dimension(number) <= 64
    assert dimension(number) < number or number <= 8


def test_a_judge_of_digits_knows_them_and_is_unsure_of_blends_noise_and_nothing():
    data = Digits(64)
    judge = OwnJudge(data.image_shape, 10, 64)
    parts = order(len(data.train))[:80]
    training.train(judge, map(data.train.batch, parts), len(parts), [data.train.images])
    x = to_unit_range(data.test.images)

    def share(images: torch.Tensor) -> float:
        return confident(judge(images)[1]).mean().item()

    assert (judge(x)[1].argmax(1) == data.test.labels).double().mean() > 0.95
    other = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
    assert share(x) > 0.7
    assert share((x + other) / 2) < 0.3
    for nothing in (2 * torch.rand(x.shape) - 1, -torch.ones_like(x), no_image(len(x), data.image_shape)):
        assert share(nothing) < 0.05


# In the cache.


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "interp_lightning" / "judges"


class Training:
    """Counts how often a judge is trained."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, judge: OwnJudge) -> None:
        self.times += 1
        training.train(judge, [(images(4, DOT), torch.arange(4) % 2)], 1, [images(9, DOT)])


def fresh() -> OwnJudge:
    return OwnJudge(DOT, 2, 8)


def test_a_judge_is_trained_once_for_each_key(cache):
    train = Training()
    first = trained(fresh(), b"one", train)
    again = trained(fresh(), b"one", train)
    assert train.times == 1
    assert again.name == first.name
    x = to_unit_range(images(3, DOT))
    assert torch.equal(again(x)[0], first(x)[0])
    assert not any(parameter.requires_grad for parameter in again.parameters())
    trained(fresh(), b"two", train)
    assert train.times == 2
    assert len([*cache.iterdir()]) == 2  # and no lock


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.data())
def test_a_damaged_judge_is_trained_again(cache, data):
    first = trained(fresh(), b"key", Training())
    (file,) = cache.iterdir()
    damage(file, data)
    assert trained(fresh(), b"key", Training()).name == first.name
    train = Training()
    trained(fresh(), b"key", train)
    assert train.times == 0  # as it was replaced


def test_a_file_of_another_key_is_not_used(cache):
    trained(fresh(), bytes(32), Training())
    (file,) = cache.iterdir()
    file.rename(file.with_name(f"{bytes([1] * 32).hex()[:32]}.safetensors"))
    train = Training()
    trained(fresh(), bytes([1] * 32), train)
    assert train.times == 1


def test_without_a_writable_folder_it_is_trained_with_a_warning(tmp_path, monkeypatch, caplog):
    (tmp_path / "interp_lightning").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    train = Training()
    assert trained(fresh(), b"key", train).name == trained(fresh(), b"key", train).name
    assert train.times == 2
    assert "could not be written (Not a directory), so this judge is trained again next time; name a" in caplog.text


def test_the_cache_is_at_home_unless_the_environment_names_an_absolute_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    trained(fresh(), b"key", Training())
    assert [*(tmp_path / ".cache" / "interp_lightning" / "judges").iterdir()]


def test_of_two_at_once_one_trains_and_the_other_waits(cache, caplog):
    caplog.set_level(logging.INFO)
    started, waiting, judges = threading.Event(), threading.Event(), []

    class Signal(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "Waiting for another process" in record.getMessage():
                waiting.set()

    class Slow(Training):
        def __call__(self, judge: OwnJudge) -> None:
            started.set()
            assert waiting.wait(60)
            super().__call__(judge)

    train, log = Slow(), logging.getLogger("interp_lightning.metrics.judges.files")
    handler = Signal()
    log.addHandler(handler)
    try:
        first = threading.Thread(target=lambda: judges.append(trained(fresh(), b"key", train)))
        first.start()
        assert started.wait(60)
        judges.append(trained(fresh(), b"key", train))
        first.join()
    finally:
        log.removeHandler(handler)
    assert train.times == 1
    assert judges[0].name == judges[1].name
