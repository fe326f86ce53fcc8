"""What images look like to a network that knows digits: features to measure distances in, and its verdict.

The network is shipped beside this file. `python -m interp_lightning.metrics.features data` trains it anew, ten minutes
on one thread, from the MNIST files in data/MNIST/raw.
"""

import hashlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from pickle import UnpicklingError

import torch
import torch.nn.functional as F
from safetensors.torch import load, save_file
from torch import Tensor, nn
from torchmetrics.image.fid import NoTrainInceptionV3
from torchvision.transforms.v2 import RandomAffine
from tqdm import tqdm

from interp_lightning.data.base import ImageData
from interp_lightning.data.digits import Digits
from interp_lightning.data.mnist import MNIST
from interp_lightning.errors import ConfigError, DataError
from interp_lightning.functional.images import to_unit_range
from interp_lightning.system.disk import regular

WEIGHTS = Path(__file__).with_name("digit_network.safetensors")
SHA256 = "cff1e8dab43d997aadd4fe5874878bdd519c9465a925e89214bebbcb6d45c092"

IMAGE_SHAPE = (1, 32, 32)
FEATURES, HIDDEN, CLASSES = 64, 64, 10
EPOCHS, BATCH, LEARNING_RATE = 10, 128, 4e-3
GRAINS = (1, 4, 8, 16, 32)  # cells of noise to a side


class Judge(nn.Module, ABC):
    """A frozen network that looks at images (N, C, H, W) in [−1, 1].

    Its answer is features (N, dimension) and, where it knows what the images may show, logits of the classes.
    """

    dimension: int

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]: ...


class DigitNetwork(Judge):
    """Images of digits, (N, 1, 32, 32) in [−1, 1] → features (N, 64) and logits of the ten classes (N, 10).

    Trained on the training digits of data=mnist and data=digits, shifted, turned and sheared at random; on pixel-wise
    blends of two digits, which it is to call both in proportion; and on noise and plain grey, which it is to be unsure
    of. So neither a ghostly overlay nor an empty image is a confident digit.

    Features are principal components of the last convolution's maps, not of the layer that the classes are read from:
    that one draws each class together so closely that every reconstruction lies outside (precision 1 %), and calls a
    cross-fade of pixels as close to real digits as ACAI's midpoints.
    """

    dimension = FEATURES

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width, stride in ((1, 16, 1), (16, 32, 2), (32, 64, 2), (64, 64, 2)):
            convolution = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
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
        maps = torch.cat([self.body(part) for part in images.split(500)]).double()
        _, s, vt = torch.linalg.svd(maps - maps.mean(0), full_matrices=False)
        scale = (s[:FEATURES].square().mean() / (len(maps) - 1)).sqrt()
        self.mean.copy_(maps.mean(0))
        self.components.copy_(vt[:FEATURES].T / scale)


@cache
def digit_network() -> DigitNetwork:
    """The shipped network, frozen, on the CPU.

    Raises:
        DataError: its file is missing or not the one that was shipped.
    """
    content = WEIGHTS.read_bytes() if WEIGHTS.is_file() else b""
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise DataError(f"{WEIGHTS} is {'damaged' if content else 'missing'}; install interp_lightning again")
    network = DigitNetwork()
    network.load_state_dict(load(content))
    return network.eval().requires_grad_(False)


class Inception(Judge):
    """InceptionV3 as FID uses it, 2,048 features; slow, and made for photographs. By torch-fidelity.

    Args:
        weights: torch-fidelity's file weights-inception-2015-12-05-6726825d.pth; None downloads it.
    """

    dimension = 2_048

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        way_out = "use metrics.features=digits, which is shipped"
        try:
            if weights is not None:
                torch.load(
                    regular(Path(weights)), weights_only=True
                )  # torch-fidelity's own loading would run code that lies in it
            self.network = NoTrainInceptionV3("inception-v3-compat", [str(self.dimension)], weights)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"`metrics.features` (=inception) needs torch-fidelity: pip install torch-fidelity, or {way_out}"
            ) from error
        except Exception as error:  # whatever a network or a damaged file happens to raise
            said = "the file holds no weights" if isinstance(error, UnpicklingError) else str(error)  # torch says more
            reason = " ".join(f"{type(error).__name__}: {said}".split())
            raise ConfigError(
                f"`metrics.features` (=inception): its weights are not to be had ({reason}); name their file by "
                f"metrics.weights=…, or {way_out}"
            ) from error
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        colour = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
        return self.network(((colour.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)), None


def _digits(data: ImageData, weights: str | None) -> Judge:
    if data.image_shape != IMAGE_SHAPE:
        raise ConfigError(
            f"`metrics.features` (=digits) is for images of {IMAGE_SHAPE}, but data={data.name} has "
            f"{data.image_shape}; use metrics.features=null or inception"
        )
    return digit_network()


# By the values of metrics.features: what makes the network for a data set, given metrics.weights.
NETWORKS: dict[str, Callable[[ImageData, str | None], Judge]] = {
    "digits": _digits,
    "inception": lambda data, weights: Inception(weights),
}


def train(root: str) -> DigitNetwork:
    """Train the network on the MNIST files below a folder, and print its test accuracies."""
    torch.manual_seed(0)
    data, others = MNIST(BATCH, root=root), Digits(BATCH // 8)
    network = DigitNetwork().to(memory_format=torch.channels_last)
    jitter = RandomAffine(12, translate=(2 / 32, 2 / 32), scale=(0.9, 1.1), shear=8, fill=-1)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    loader, other_loader = data.train_dataloader(), others.train_dataloader()
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=EPOCHS * len(loader))
    endless = (batch for _ in count() for batch in other_loader)
    for epoch in range(EPOCHS):
        for batches in tqdm(zip(loader, endless, strict=False), desc=f"Epoch {epoch + 1}/{EPOCHS}", total=len(loader)):
            images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
            # In groups of four, as one call turns all its images alike.
            x = torch.cat([jitter(group) for group in to_unit_range(images).split(4)])
            target = F.one_hot(labels, CLASSES).float()
            share, partner = torch.empty(len(x), 1).uniform_(0.2, 0.8), torch.randperm(len(x))
            blend = share[..., None, None] * x + (1 - share[..., None, None]) * x[partner]
            nothing = no_digits(len(x) // 8)
            wanted = torch.cat([target, share * target + (1 - share) * target[partner]])
            _, logits = network(torch.cat([x, blend, nothing]))
            loss = F.cross_entropy(logits, torch.cat([wanted, torch.full((len(nothing), CLASSES), 1 / CLASSES)]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        network.eval()
        for each in (data, others):
            with torch.inference_mode():
                right = [network(to_unit_range(x))[1].argmax(1) == labels for x, labels in each.test_dataloader()]
            print(f"test accuracy on {each.name}: {torch.cat(right).double().mean():.2%}", flush=True)
        network.train()
    network.eval().fit_components(to_unit_range(data.train.batch(torch.arange(10_000))[0]))
    return network


def no_digits(number: int) -> Tensor:
    """Noise of all grains, from one pixel to a whole image of one grey, around any brightness: (number, 1, 32, 32)."""
    grains = [F.interpolate(torch.randn(number, 1, size, size), IMAGE_SHAPE[1:], mode="bilinear") for size in GRAINS]
    grain = torch.stack(grains)[torch.randint(len(GRAINS), (number,)), torch.arange(number)]
    contrast, grey = torch.rand(2, number, 1, 1, 1)
    return (contrast.square() * grain + 3 * grey - 2).clamp(-1, 1)  # a third of the greys are black


if __name__ == "__main__":
    trained = train(sys.argv[1] if len(sys.argv) > 1 else "data")
    save_file({name: value.contiguous() for name, value in trained.state_dict().items()}, WEIGHTS)
    print(f"{WEIGHTS}\nSHA256 = {hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()!r}")
