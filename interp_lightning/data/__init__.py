"""Images in [−1, 1], in batches of a fixed global size. One file per kind of source."""

from interp_lightning.data.base import ImageData

__all__ = ["ImageData"]
