"""Check annotations, shapes above all, in modules of pure functions, while tests run."""

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float

ROOMS = [f"interp_lightning.{room}" for room in ("functional", "metrics", "paths")]
install_import_hook(ROOMS, "typechecks.typechecked")
