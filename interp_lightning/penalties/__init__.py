"""Penalties D(Q_z, P_z), the distance of the codes from the prior. One file each, named like its yaml."""

from interp_lightning.penalties.base import Penalty

__all__ = ["Penalty"]
