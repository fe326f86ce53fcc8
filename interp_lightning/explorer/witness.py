"""Say what decoded images are: the judge's class, membership, the critic's α, and how far along the path."""

import logging
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_lightning.data.base import ImageData
from interp_lightning.evaluation import judges
from interp_lightning.functional.images import to_unit_range
from interp_lightning.metrics.features import Judge
from interp_lightning.metrics.neighbours import NEIGHBOURS, within
from interp_lightning.models.acai import ACAI
from interp_lightning.models.base import Autoencoder

log = logging.getLogger(__name__)

IMAGES = 5_000  # test images of the manifold, as in an evaluation
BATCH = 500


@dataclass(frozen=True)
class Facts:
    """What is said of T images; None if it cannot be said."""

    classes: tuple[str, ...] | None = None  # names of the T likeliest, to a judge that can be trusted
    probability: Float[Tensor, " T"] | None = None  # of that class
    member: Bool[Tensor, " T"] | None = None  # in the manifold of test images
    alpha: Float[Tensor, " T"] | None = None  # predicted by ACAI's critic; 0 is not mixed, ½ the middle
    distance: Float[Tensor, " T"] | None = None  # along the path, in features; without a judge in pixels


class Witness:
    """Looks at images with the judge of a data set, and with a model's own critic.

    Args:
        data: whose test images the manifold is made of.
        judge: None says nothing of classes and of membership.
    """

    def __init__(self, data: ImageData, judge: Judge | None) -> None:
        self.data, self.judge = data, judge
        self.problem = "there is no judge" if judge is None else judges.trust(judge, data).problem

    @cached_property
    def _manifold(self) -> Float[Tensor, "n f"] | None:
        """Features of test images; None if they are too few."""
        test = self.data.test
        items = test.all()[torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:IMAGES]]
        if self.judge is None or len(items) <= NEIGHBOURS:
            return None
        device = next(self.judge.buffers()).device
        parts = [self.judge(to_unit_range(test.batch(part)[0]).to(device))[0] for part in items.split(BATCH)]
        return torch.cat(parts)

    @torch.inference_mode()
    def prepare(self) -> None:
        """Do now what the first look at an image would have to wait for."""
        if self._manifold is not None:
            within(self._manifold, self._manifold[:1])

    @torch.inference_mode()
    def facts(self, model: Autoencoder, images: Float[Tensor, "T C H W"], is_path: bool = True) -> Facts:
        """Look at a model's images.

        Args:
            model: that has decoded them.
            images: on the model's device.
            is_path: measure the distance from the first image.
        """
        alpha = model.critic(images).clamp(0, 0.5).cpu() if isinstance(model, ACAI) else None
        features, logits = (images.flatten(1), None) if self.judge is None else self.judge(images.float())
        steps = features.diff(dim=0).norm(dim=1)
        distance = torch.cat([steps.new_zeros(1), steps.cumsum(0)]).cpu() if is_path else None
        member = None if self._manifold is None else within(self._manifold, features).cpu()
        if logits is None or self.problem:
            return Facts(None, None, member, alpha, distance)
        probability, classes = logits.softmax(1).max(1)
        names = tuple(self.data.class_names[each] for each in classes.tolist())
        return Facts(names, probability.cpu(), member, alpha, distance)
