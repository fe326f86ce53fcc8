"""logger=text: all numbers in a text file."""

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only


class TextLogger(Logger):
    """A line per number: step, name, value.

    Args:
        name: of the file in the run's folder.
        save_dir: the run's folder.
    """

    def __init__(self, name: str, save_dir: Path, **kwargs: Any) -> None:
        super().__init__()
        self.file = Path(save_dir) / name

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        with self.file.open("a") as file:
            file.writelines(f"{step} {name} {value}\n" for name, value in metrics.items())

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass
