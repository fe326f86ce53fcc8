"""Autoencoders: the objectives that two players minimise. One file each, named like its yaml."""

from interp_lightning.models.base import Autoencoder, Pass

__all__ = ["Autoencoder", "Pass"]
