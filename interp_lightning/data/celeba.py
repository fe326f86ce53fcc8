"""data=celeba: faces in colour."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from torchvision.datasets import CelebA as TorchvisionCelebA

from interp_lightning.data.base import Fallback
from interp_lightning.data.contract import UNLABELLED
from interp_lightning.data.downloaded import Downloaded
from interp_lightning.data.pictures import View, sources
from interp_lightning.data.sources import Source
from interp_lightning.parameters import Count, Folder, Natural, Seed, Weight

CROP = 140  # pixels of 178 × 218, in the middle: the face (Tolstikhin et al. 2017, appendix F)


class CelebA(Downloaded):
    """CelebA, aligned and cropped (Liu et al. 2015): the middle 140 × 140 pixels as (3, 64, 64), official splits.

    Its 40 attributes are not labels, so what needs labels is skipped. https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html

    Args:
        batch_size, seed, root, fallback: see `Downloaded`.
        memory: GiB; images take 2.3 and are read from disk in every epoch if that is more.
        workers: threads, or processes if images are read in every epoch.
    """

    name: str = "celeba"
    image_shape: ClassVar[tuple[int, int, int]] = (3, 64, 64)
    classes: ClassVar[int] = 0
    epochs: ClassVar[int] = 2
    features: ClassVar[str | None] = "own"
    inside: ClassVar[str] = "celeba"
    needed: ClassVar[str] = (
        "img_align_celeba.zip, identity_CelebA.txt, list_attr_celeba.txt, list_bbox_celeba.txt, "
        "list_eval_partition.txt and list_landmarks_align_celeba.txt"
    )

    def __init__(
        self,
        batch_size: Count,
        seed: Seed = 0,
        root: Folder = "data",
        memory: Weight = 3.0,
        workers: Natural = 2,
        fallback: Fallback = None,
    ) -> None:
        super().__init__(batch_size, seed, root, fallback)
        self.memory, self.workers = memory, workers

    def load(self) -> tuple[Source, Source, Source]:
        parts = [self._names(split) for split in ("train", "valid", "test")]
        ends = np.cumsum([len(part) for part in parts])
        names = [name for part in parts for name in part]
        splits = np.split(np.arange(len(names)), ends[:-1])
        labels = np.full(len(names), UNLABELLED)
        view = View(channels=3, size=self.image_shape[1], crop=CROP)
        images = str(Path(self.folder, "img_align_celeba"))
        return sources(images, names, splits, labels, view, self.memory, self.workers)

    def _names(self, split: str) -> list[str]:
        parent = self.folder.parent  # torchvision adds the folder's name itself
        return self.opened(lambda download: TorchvisionCelebA(parent, split, download=download)).filename
