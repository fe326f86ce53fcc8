"""Autoencoder interpolation: ACAI, Wasserstein autoencoders and their combinations, on PyTorch Lightning."""

__version__ = "0.2.0"


def __getattr__(name: str) -> object:
    """`interp_lightning.load_run`, without torch for those who want the version only."""
    if name == "load_run":
        from interp_lightning.runs.load import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
