"""Autoencoders as two players. One file each, named like its yaml."""

from interp_lightning.models.base import Autoencoder, Pass

__all__ = ["Autoencoder", "Pass"]
