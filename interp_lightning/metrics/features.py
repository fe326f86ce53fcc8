"""Judges: frozen networks that turn images into features, in which distances are measured, and into class logits.

The digit network is shipped beside this file; scripts/train_digit_network.py trains it. Those of `metrics.judges` are
trained on a data set's own images.
"""

import hashlib
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchmetrics.image.fid import NoTrainInceptionV3

from interp_lightning.errors import ConfigError, DataError
from interp_lightning.system.disk import regular

WEIGHTS = Path(__file__).with_name("digit_network.safetensors")
SHA256 = "cff1e8dab43d997aadd4fe5874878bdd519c9465a925e89214bebbcb6d45c092"

IMAGE_SHAPE = (1, 32, 32)
FEATURES, HIDDEN, CLASSES = 64, 64, 10


class Judge(nn.Module, ABC):
    """A frozen network for images (N, C, H, W) in [−1, 1].

    It returns features (N, dimension) and, if it is a classifier, logits (N, classes), else None.
    """

    dimension: int
    classes: int = 0  # 0 without logits

    @property
    @abstractmethod
    def name(self) -> str:
        """Its name in protocols; numbers of judges with unlike names do not compare."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]: ...


class FeaturesOnly(Judge):
    """A judge without its logits."""

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.judge, self.dimension = judge, judge.dimension

    @property
    def name(self) -> str:
        return self.judge.name

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return self.judge(x)[0], None


class DigitNetwork(Judge):
    """Images of digits, (N, 1, 32, 32) in [−1, 1] → features (N, 64) and logits of the ten classes (N, 10).

    It is trained on the training digits of data=mnist and data=digits with random shifts, rotations and shears; on
    pixel-wise blends of two digits, with both labels in proportion; and on noise and plain grey, with uniform labels.
    So neither an overlay of two digits nor an empty image is a confident digit.

    Features are principal components of the last convolution's maps, not of the layer before the logits: that layer
    contracts each class so much that every reconstruction lies outside (precision 1 %), and a cross-fade of pixels is
    as close to real digits as ACAI's midpoints.
    """

    name, dimension, classes = "digits", FEATURES, CLASSES

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width, stride in ((1, 16, 1), (16, 32, 2), (32, 64, 2), (64, 64, 2)):
            convolution = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers, nn.Flatten())  # (N, 1024)
        hidden = nn.Linear(1024, HIDDEN, bias=False)
        self.head = nn.Sequential(hidden, nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
        self.register_buffer("mean", torch.zeros(1024))
        self.register_buffer("components", torch.zeros(1024, FEATURES))

    mean: Tensor
    components: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.body(x.clamp(-1, 1))
        return (maps - self.mean) @ self.components, self.head(maps)

    @torch.no_grad()
    def fit_components(self, images: Tensor) -> None:
        """Make the features the principal components of these images' last maps, of variance 1 on average."""
        mean, components = principal_components(torch.cat([self.body(part) for part in images.split(500)]), FEATURES)
        self.mean.copy_(mean)
        self.components.copy_(components)


def principal_components(maps: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return the mean (m,) of maps (n, m), and their first principal components (m, number).

    (maps − mean) @ components have a variance of 1 on average.
    """
    maps = maps.double()
    values, vectors = torch.linalg.eigh((maps - maps.mean(0)).T.cov(correction=0))
    values, vectors = values.flip(0)[:number], vectors.flip(1)[:, :number]
    return maps.mean(0), vectors / values.mean().clamp_min(1e-12).sqrt()


@cache
def digit_network() -> DigitNetwork:
    """Load the shipped network, frozen, on the CPU.

    Raises:
        DataError: its file is missing or damaged.
    """
    content = WEIGHTS.read_bytes() if WEIGHTS.is_file() else b""
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise DataError(f"{WEIGHTS} is {'damaged' if content else 'missing'}; install interp_lightning again")
    network = DigitNetwork()
    network.load_state_dict(load(content))
    network.body = fused(network.body.eval())
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def fused(layers: nn.Sequential) -> nn.Sequential:
    """Make each convolution and the normalisation after it one layer: the same function, half as fast again on a CPU.

    Args:
        layers: in evaluation mode.
    """
    one: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d) and one and isinstance(one[-1], nn.Conv2d):
            one[-1] = fuse_conv_bn_eval(one[-1], layer)
        else:
            one.append(layer)
    return nn.Sequential(*one)


class Inception(Judge):
    """InceptionV3 as in FID, 2,048 features; slow, and made for photographs. By torch-fidelity.

    Args:
        weights: torch-fidelity's file weights-inception-2015-12-05-6726825d.pth; None downloads it.
    """

    name, dimension = "inception", 2_048

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        way_out = "use metrics.features=digits, which is shipped"
        try:
            if weights is not None:
                # Reject a file with code in it, which torch-fidelity's own loading would run.
                torch.load(regular(Path(weights)), weights_only=True)
            self.network = NoTrainInceptionV3("inception-v3-compat", [str(self.dimension)], weights)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"`metrics.features` (=inception) requires torch-fidelity: pip install torch-fidelity, or {way_out}"
            ) from error
        except Exception as error:  # a download or a damaged file raises all kinds of errors
            said = "the file holds no weights" if isinstance(error, UnpicklingError) else str(error)  # torch says more
            reason = " ".join(f"{type(error).__name__}: {said}".split())
            raise ConfigError(
                f"`metrics.features` (=inception): its weights are not available ({reason}); name their file by "
                f"metrics.weights=…, or {way_out}"
            ) from error
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        colour = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
        return self.network(((colour.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)), None


def judge(features: str, image_shape: tuple[int, int, int], weights: str | None = None) -> Judge:
    """Return a judge.

    Args:
        features: "digits" or "inception".
        image_shape: of the images, (C, H, W).
        weights: see `Inception`.

    Raises:
        ConfigError: the judge is not made for such images, or its weights are not available.
    """
    if features == "inception":
        return Inception(weights)
    if image_shape != IMAGE_SHAPE:
        raise ConfigError(
            f"`metrics.features` (=digits) is for images of {IMAGE_SHAPE}, but these are {image_shape}; use "
            "metrics.features=own, inception or null"
        )
    return digit_network()
