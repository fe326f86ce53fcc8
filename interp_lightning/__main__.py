"""`python -m interp_lightning [COMMAND] …`, the same as the console script interp-lightning. Imports no torch."""

import sys
from importlib import import_module

COMMANDS = ("train", "evaluate", "interpolate", "compare")


def main() -> None:
    """Run the command that the first argument names; without one, train."""
    name = sys.argv.pop(1) if sys.argv[1:2] and sys.argv[1] in COMMANDS else "train"
    import_module(f"interp_lightning.commands.{name}").main()


if __name__ == "__main__":
    main()
