"""data=few: 200 of the digits for training."""

from typing import ClassVar

from interp_lightning.data.digits import Digits
from interp_lightning.data.sources import InMemory, Source


class Few(Digits):
    """Digits with a small training split."""

    name: str = "few"
    epochs: ClassVar[int] = 1

    def load(self) -> tuple[Source, Source, Source]:
        train, val, test = super().load()
        return InMemory(train.images[:200], train.labels[:200]), val, test
