"""Find the configuration files. Imports no torch."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# In an installed wheel, beside the package in a checkout.
CONF = next(folder for folder in (PACKAGE / "conf", PACKAGE.parent / "conf") if folder.is_dir())
