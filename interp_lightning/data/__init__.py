"""Images in [−1, 1], in batches of a fixed global size. One file per data set, named like its yaml."""

from interp_lightning.data.base import ImageData
from interp_lightning.data.sources import InMemory, OnDisk, Source

__all__ = ["ImageData", "InMemory", "OnDisk", "Source"]
