"""The shipped digit network: whole, good, and not to be fooled; Inception's absence is explained."""

import hashlib
import runpy
import shutil
from pathlib import Path

import pytest
import torch
from torch_fidelity import feature_extractor_inceptionv3
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.image import fid

from interp_lightning.data.digits import Digits
from interp_lightning.data.lines import Lines
from interp_lightning.data.mnist import MNIST
from interp_lightning.errors import ConfigError, DataError
from interp_lightning.functional.images import to_unit_range
from interp_lightning.metrics import features
from interp_lightning.metrics.features import SHA256, WEIGHTS, DigitNetwork, digit_network, judge
from interp_lightning.metrics.paths import confident
from scripts.train_digit_network import no_digits

MNIST_FOLDER = Path(__file__).parents[2] / "data"


def accuracy(images: torch.Tensor, labels: torch.Tensor) -> float:
    return (digit_network()(to_unit_range(images))[1].argmax(1) == labels).double().mean().item()


def test_it_is_small_and_the_one_that_was_shipped(tmp_path):
    assert WEIGHTS.stat().st_size <= 1_000_000
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == SHA256
    content = bytearray(WEIGHTS.read_bytes())
    content[-1] ^= 1
    copy = shutil.copy(features.__file__, tmp_path)  # its weights lie beside it
    with pytest.raises(DataError, match="is missing"):
        runpy.run_path(copy)["digit_network"]()
    for damaged, message in ((bytes(content), "is damaged"), (b"", "is missing")):
        (tmp_path / WEIGHTS.name).write_bytes(damaged)
        with pytest.raises(DataError, match=message):
            runpy.run_path(copy)["digit_network"]()


@pytest.mark.skipif(not (MNIST_FOLDER / "MNIST").is_dir(), reason="no MNIST in data/")
def test_it_knows_99_percent_of_mnists_test_digits():
    test = MNIST(64, root=str(MNIST_FOLDER)).test
    assert accuracy(test.images, test.labels) >= 0.99


def test_it_knows_real_digits_and_is_unsure_of_blends_blurs_noise_and_nothing():
    test = Digits(64).test
    assert accuracy(test.images, test.labels) >= 0.98
    x = to_unit_range(test.images)

    def share(images: torch.Tensor) -> float:
        return confident(digit_network()(images)[1]).mean().item()

    other = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
    assert share(x) > 0.9
    assert share((x + other) / 2) < 0.3
    assert share(torch.nn.functional.avg_pool2d(x, 9, 1, 4)) < 0.3
    for nothing in (2 * torch.rand(x.shape) - 1, -torch.ones_like(x), torch.ones_like(x), no_digits(len(x))):
        assert share(nothing) < 0.05


def test_features_of_real_digits_are_of_unit_size_and_pixels_beyond_white_are_white():
    x = to_unit_range(Digits(64).test.images)
    network = digit_network()
    values, logits = network(x)
    assert values.shape == (360, network.dimension)
    assert logits.shape == (360, 10)
    assert 0.3 < values.var(0).mean() < 3
    torch.testing.assert_close(network(2 * x)[0], network((2 * x).clamp(-1, 1))[0])
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_components_are_uncorrelated_and_sorted():
    torch.manual_seed(0)
    network = DigitNetwork().eval()
    x = to_unit_range(Digits(64).train.images)
    network.fit_components(x)
    values = network(x)[0].double()
    covariance = values.T.cov()
    torch.testing.assert_close(covariance, covariance.diagonal().diag(), atol=1e-3, rtol=0)
    torch.testing.assert_close(values.mean(0), torch.zeros(64, dtype=torch.float64), atol=1e-3, rtol=0)
    assert covariance.diagonal().mean().item() == pytest.approx(1, rel=1e-3)
    assert torch.equal(covariance.diagonal().argsort(descending=True), torch.arange(64))


def test_images_of_other_sizes_and_missing_inception_are_refused(monkeypatch):
    class Large(Lines):
        image_shape = (3, 64, 64)

    with pytest.raises(
        ConfigError, match=r"`metrics\.features` \(=digits\) is for images of \(1, 32, 32\), but these are"
    ):
        judge("digits", Large.image_shape)

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(fid, "_TORCH_FIDELITY_AVAILABLE", False)
    with pytest.raises(ConfigError, match=r"\(=inception\) requires torch-fidelity: pip install torch-fidelity, or"):
        judge("inception", Lines.image_shape)
    monkeypatch.undo()
    monkeypatch.setattr(feature_extractor_inceptionv3, "load_state_dict_from_url", unreachable)
    with pytest.raises(
        ConfigError, match=r"weights are not available \(OSError: Name or service not known\); .*metrics\.weights"
    ):
        judge("inception", Lines.image_shape)


@pytest.fixture
def inception_weights(tmp_path, monkeypatch) -> Path:
    """InceptionV3's weights as torch-fidelity stores them, but random ones."""
    with monkeypatch.context() as patch:
        patch.setattr(feature_extractor_inceptionv3, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    return tmp_path / "inception.pth"


def test_inception_from_a_file_sees_grey_as_colour(inception_weights):
    network = judge("inception", Digits.image_shape, str(inception_weights))
    grey = torch.rand(2, 1, 32, 32) * 2 - 1
    values, logits = network(grey)
    assert values.shape == (2, network.dimension)
    assert logits is None
    torch.testing.assert_close(network(grey.expand(-1, 3, -1, -1))[0], values)
    assert not torch.equal(values[0], values[1])


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_weights_file_is_not_run(tmp_path):
    torch.save(Trap(tmp_path / "trap"), tmp_path / "inception.pth")
    with pytest.raises(ConfigError, match=r"weights are not available \(UnpicklingError"):
        judge("inception", Digits.image_shape, str(tmp_path / "inception.pth"))
    assert not (tmp_path / "trap").exists()
