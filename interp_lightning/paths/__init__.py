"""Ways from one code to another. One file per kind, named like its yaml in conf/path."""

from interp_lightning.paths.base import Path, named

__all__ = ["Path", "named"]
