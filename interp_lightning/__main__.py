"""`python -m interp_lightning [COMMAND] …`, the same as the console script interp-lightning. Imports no torch."""

import difflib
import sys
from importlib import import_module

from interp_lightning.system.console import fail, guarded

COMMANDS = ("train", "evaluate", "interpolate", "compare", "explore")


def main() -> None:
    """Run the command that the first argument names; without one, train."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in COMMANDS:
        del sys.argv[1]
    elif word and "=" not in word and word[0] not in "-+~":  # neither a setting nor an option of Hydra's
        with guarded():
            fail(_unknown(word))
    else:
        word = "train"
    import_module(f"interp_lightning.commands.{word}").main()


def _unknown(word: str) -> str:
    near = difflib.get_close_matches(word, COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the commands are: {', '.join(COMMANDS)}."
    return f"`{word}` is no command; {hint} Settings are given as key=value."


if __name__ == "__main__":
    main()
