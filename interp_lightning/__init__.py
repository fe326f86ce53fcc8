"""Autoencoder interpolation: ACAI, Wasserstein autoencoders and their combinations, on PyTorch Lightning."""

__version__ = "0.1.0"
