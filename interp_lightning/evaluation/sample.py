"""The images of an evaluation: the same test images, pairs and draws for every model."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from interp_lightning.data.base import ImageData
from interp_lightning.data.loaders import EvaluationLoader
from interp_lightning.data.sources import Source
from interp_lightning.evaluation.assessment import Encoded
from interp_lightning.functional.images import to_unit_range
from interp_lightning.functional.mixture import mixture_samples
from interp_lightning.functional.transport import affordable, transported
from interp_lightning.metrics.base import References
from interp_lightning.metrics.catalogue import CONSTANT
from interp_lightning.metrics.features import Judge
from interp_lightning.models.base import Autoencoder
from interp_lightning.paths.base import Course, Path, equidistant
from interp_lightning.paths.lerp import Lerp
from interp_lightning.paths.speed import at_constant_speed, samples

log = logging.getLogger(__name__)

BATCH = 100  # fits a CPU's cache: a judge is twice as fast as with 500
NEAR = 10  # nearest codes, of which iFID takes one
EPSILON = 1e-2  # step of the perceptual path length: small for the path, large for float32


@torch.no_grad()
def encode_all(model: Autoencoder, source: Source, decode: bool = False) -> Encoded:
    """Encode every image of a split, in order, and decode it for its error. Leave the model in evaluation mode."""
    model.eval()
    codes, labels, error = [], [], 0.0 if decode else math.nan
    loader = EvaluationLoader(source, rank=0, world_size=1)
    for images, y in tqdm(loader, desc="Encoding", leave=False, disable=None):
        x = to_unit_range(images).to(next(model.parameters()))
        z = model.encode(x)
        if decode:
            error += F.mse_loss(model.decode(z), x).item() * len(x)
        codes.append(z)
        labels.append(y.long().to(model.device))
    return Encoded(torch.cat(codes), torch.cat(labels), error / len(source))


def near_codes(codes: Tensor, among: Tensor, generator: torch.Generator) -> Tensor:
    """Return for each code (n, d) one of its nearest others (N, d), at random.

    Their midpoints are those of iFID (https://arxiv.org/abs/2603.05630): it is the FID of what a decoder makes between
    codes that are close.
    """
    count = min(NEAR, len(among) - 1)
    nearest = [torch.cdist(part, among).topk(count + 1, largest=False).indices[:, 1:] for part in codes.split(BATCH)]
    which = torch.randint(count, (len(codes), 1), generator=generator).to(codes.device)
    return among[torch.cat(nearest).gather(1, which)[:, 0]]


@dataclass(frozen=True)
class Look:
    """What codes look like: a judge's features of their decoded images, without a judge the pixels.

    Args:
        model: decodes.
        judge: sees.
    """

    model: Autoencoder
    judge: Judge | None

    def __call__(self, z: Tensor) -> Tensor:
        """Return features, (n, d) → (n, f)."""
        return torch.cat(
            [self.of(self.model.decode(part.to(next(self.model.parameters())))) for part in z.split(BATCH)]
        )

    def of(self, images: Tensor) -> Tensor:
        """Return features of images, (n, C, H, W) → (n, f)."""
        if self.judge is None:
            return images.flatten(1)
        return torch.cat([self.judge(part.float())[0] for part in images.split(BATCH)])


class Sample:
    """Images that a model makes of the test images, and those to compare them with.

    Args:
        model, data: to evaluate, and to evaluate on.
        z: codes of the test split, (N, d).
        look: by which paths get a constant speed.
        images, pairs, steps: see `Evaluation`.
    """

    def __init__(
        self,
        model: Autoencoder,
        data: ImageData,
        z: Tensor,
        look: Look,
        images: int,
        pairs: int,
        steps: int,
    ) -> None:
        self.model, self.data, self.look, self.pairs, self.steps = model, data, look, pairs, steps
        generator = torch.Generator().manual_seed(0)
        self.order = torch.randperm(len(z), generator=generator)[:images]
        self.partner = self.order.roll(1)  # each image begins one path and ends another
        self.z_a, self.z_b = z[self.order], z[self.partner]
        self.noise = torch.randn(z[self.order].shape, generator=generator).to(z)
        self.t = (1 - EPSILON) * torch.rand(images, 1, generator=generator).to(z)
        self.from_training = torch.randperm(len(data.train), generator=generator)[:images]
        self.alpha = torch.rand(images, 1, generator=generator).to(z) / 2
        self.z_near = near_codes(self.z_a, z, generator)

    def paths(self, kinds: Mapping[str, Path]) -> Iterator[tuple[str, Tensor, Tensor | None]]:
        """Yield images along the first pairs' paths, (pairs, steps, C, H, W), and their codes, by kind of path.

        Each kind comes at constant speed and at its own. Last come those without a model, and without codes: pixels
        fade, or their light is moved by optimal transport.
        """
        for how, path in kinds.items():
            course = path.between(self.z_a[: self.pairs], self.z_b[: self.pairs])
            for kind, codes in self._at_both_speeds(how, course, self.look):
                yield kind, torch.cat(list(self.decode(codes.flatten(0, 1)))).unflatten(0, codes.shape[:2]), codes
        x_a, x_b = (self._test(items[: self.pairs]) for items in (self.order, self.partner))
        fading = Lerp().between(x_a.flatten(1), x_b.flatten(1))
        courses: list[tuple[str, Course]] = [("blend", fading)]
        few = affordable(x_a, x_b)
        if few < len(x_a):
            log.info(
                f"Optimal transport of pixels, a baseline, moves {few} of {len(x_a)} pairs: bright images take long"
            )
        if few:
            moving = transported(x_a[:few], x_b[:few])
            courses.append(("transport", lambda t: moving(t).flatten(2)))

        def look(pixels: Tensor) -> Tensor:
            return self.look.of(pixels.unflatten(1, x_a.shape[1:]))

        for how, course in courses:
            for kind, pixels in self._at_both_speeds(how, course, look):
                yield kind, pixels.unflatten(2, x_a.shape[1:]), None

    def neighbours(self, path: Path) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of two images, EPSILON apart at one random position on each path."""
        near, far = (self.decode(path(self.z_a, self.z_b, t)[:, 0]) for t in (self.t, self.t + EPSILON))
        return zip(near, far, strict=True)

    def references(self) -> References:
        """Return what real images look like."""
        test = torch.cat([self.look.of(x) for x in self.real()])
        train = self.data.train
        parts = tqdm(train.all().split(BATCH), desc="Training images", leave=False, disable=None)
        training = torch.cat([self.look.of(self._batch(train, items)) for items in parts])
        return References(test, training, torch.stack([test, test.roll(1, 0)], 1)[: self.pairs])

    def real(self) -> Iterator[Tensor]:
        """Yield batches of test images."""
        return (self._test(items) for items in self.order.split(BATCH))

    def drawn(self, training: Tensor, kinds: Mapping[str, Path]) -> dict[str, Tensor]:
        """Draw as many codes as there are test images from every sampler.

        Args:
            training: codes of the training images, (N, d).
            kinds: of paths, of which some are samplers.
        """
        samplers = {f"prior_{how}": path.sample(self.noise) for how, path in kinds.items() if path.samples}
        prior = self.model.penalty.prior(self.noise)
        return {"prior": prior, "prior_mixture": mixture_samples(training, len(prior)), **samplers}

    def generated(
        self, drawn: Mapping[str, Tensor], kinds: Mapping[str, Path]
    ) -> Iterator[tuple[str, Iterator[Tensor]]]:
        """Yield batches of decoded images, by the origin of their codes."""
        yield "reconstructions", self.decode(self.z_a)
        for origin, codes in drawn.items():
            yield origin, self.decode(codes)
        middle = torch.tensor([0.5]).to(self.t)
        for how, path in kinds.items():
            yield f"midpoints_{how}", self.decode(path(self.z_a, self.z_b, middle)[:, 0])
        yield "neighbours", self.decode((self.z_a + self.z_near) / 2)

    def mixtures(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of decoded mixtures of two codes, and the share α of the second."""
        images = self.decode(torch.lerp(self.z_a, self.z_b, self.alpha))
        return zip(images, self.alpha[:, 0].split(BATCH), strict=True)

    def baselines(self) -> Iterator[tuple[str, Iterator[Tensor]]]:
        """Yield batches of other real images, of blends of two images, and of noise."""
        train = self.data.train
        yield "real", (self._batch(train, items) for items in self.from_training.split(BATCH))
        pairs = zip(self.order.split(BATCH), self.partner.split(BATCH), strict=True)
        yield "midpoints_blend", ((self._test(a) + self._test(b)) / 2 for a, b in pairs)
        generator = torch.Generator().manual_seed(0)
        yield "noise", (2 * torch.rand(x.shape, generator=generator).to(x) - 1 for x in self.real())

    def again(self, images: Tensor) -> Tensor:
        """Encode images along paths, (pairs, steps, C, H, W) → (pairs, steps, d)."""
        codes = [self.model.encode(part) for part in images.flatten(0, 1).split(BATCH)]
        return torch.cat(codes).unflatten(0, images.shape[:2])

    def decode(self, z: Tensor) -> Iterator[Tensor]:
        """Yield batches of decoded codes (n, d)."""
        return (self.model.decode(part) for part in z.split(BATCH))

    def _at_both_speeds(
        self, how: str, course: Course, look: Callable[[Tensor], Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield points on paths, (pairs, steps, d), at constant speed and at the paths' own."""
        t = equidistant(self.steps, self.z_a)
        yield how + CONSTANT, at_constant_speed(course, look, samples(self.steps, t))(t)
        yield how, course(t)

    def _test(self, items: Tensor) -> Tensor:
        return self._batch(self.data.test, items)

    def _batch(self, source: Source, items: Tensor) -> Tensor:
        return to_unit_range(source.batch(source.all()[items])[0]).to(self.model.device)
