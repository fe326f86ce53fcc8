"""A sweep's jobs: what became of each, in its own folder and in a summary, and which are left to do. Without torch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from interp_lightning.errors import ConfigError
from interp_lightning.folders import SUMMARY, flat, write_whole

JOB = "job.json"
UNFINISHED, FINISHED, FAILED = "unfinished", "finished", "failed"
COLUMNS = ("job", "settings", "status", "error")
# Settings that may differ between the parts of one run.
INDIFFERENT = {"outputs", "ckpt_path", "sweep", "debug", "threads", "checkpoint"}


def begin(folder: Path, cfg: DictConfig, overrides: Sequence[str]) -> bool:
    """Begin a job of a sweep, or go on with it; False if it has finished before.

    A job goes on with sweep.resume=true, and where a cluster starts it once more in the folder of its first attempt.

    Args:
        folder: the job's own, in which Hydra has put down its configuration.
        cfg: its configuration; set to go on from the newest checkpoint if there is one.
        overrides: its settings, as on the command line.

    Raises:
        ConfigError: the folder is that of a job with other settings.
    """
    if resumes(cfg) or (folder / JOB).is_file():
        _check_same(folder, cfg)
        if _read(folder)["status"] == FINISHED:
            return False
        if any(folder.glob("checkpoints/*.ckpt")):
            cfg.ckpt_path = "last"
    put_down(folder, overrides, UNFINISHED)
    return True


def resumes(cfg: DictConfig) -> bool:
    """Whether sweep.resume is true, in a configuration that has not been checked yet."""
    settings = cfg.get("sweep")
    return isinstance(settings, DictConfig) and settings.get("resume") is True


def put_down(folder: Path, overrides: Sequence[str], status: str, error: str | None = None) -> None:
    """Write what became of a job into its folder, and the summary of its sweep anew."""
    own = [override for override in overrides if not override.startswith("sweep.")]
    content = {"overrides": own, "status": status, "error": error}
    write_whole(folder / JOB, json.dumps(content, indent=2) + "\n")
    _summarise(folder.parent)


def score(folder: Path, objective: str) -> float | None:
    """The metric of a finished job that a search goes by; None if it has not been measured, or is no finite number."""
    return json.loads((folder / "results.json").read_text())["metrics"].get(objective)


def report(sweep: Path) -> bool:
    """Print what became of a sweep's jobs, and say whether all have finished."""
    rows = _summarise(sweep)  # anew: of jobs that end together, the last one need not have seen the others' ends
    finished = sum(row[2] == FINISHED for row in rows)
    table = Table(title=f"{finished} of {len(rows)} jobs have finished")
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row, style="red" if row[2] == FAILED else "")
    console = Console()
    console.print(table)
    console.print(f"Summary:  {sweep / SUMMARY}", soft_wrap=True, highlight=False)
    console.print(f"Compare:  python -m interp_lightning.compare {sweep}", soft_wrap=True, highlight=False)
    return finished == len(rows)


def _summarise(sweep: Path) -> list[tuple[str, str, str, str]]:
    """Write a sweep's summary from what its jobs have put down, and return its rows."""
    rows = _rows(sweep)
    lines = [" | ".join(text.replace("|", "\\|") for text in row) for row in (COLUMNS, ("---",) * len(COLUMNS), *rows)]
    write_whole(sweep / SUMMARY, "".join(f"| {line} |\n" for line in lines))
    return rows


def _rows(sweep: Path) -> list[tuple[str, str, str, str]]:
    """Each job's number, own settings, status and error, by number."""
    found = [(path.parent, _read(path.parent)) for path in sweep.glob(f"*/{JOB}")]
    found.sort(key=lambda each: (len(each[0].name), each[0].name))
    shared = set.intersection(*(set(job["overrides"]) for _, job in found)) if len(found) > 1 else set()
    return [
        (
            folder.name,
            " ".join(override for override in job["overrides"] if override not in shared),
            job["status"],
            " ".join((job["error"] or "").split()),
        )
        for folder, job in found
    ]


def _read(folder: Path) -> dict[str, Any]:
    """What a job has put down; of one that has put down nothing, or of a damaged file, that it has not finished."""
    try:
        job = json.loads((folder / JOB).read_text())
        if isinstance(job["overrides"], list) and {type(job["status"]), *map(type, job["overrides"])} == {str}:
            return job
        reason = "it is another program's"
    except FileNotFoundError:
        reason = ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error) or type(error).__name__
    return {"overrides": [], "status": UNFINISHED, "error": reason and f"{JOB} could not be read ({reason})"}


def _check_same(folder: Path, cfg: DictConfig) -> None:
    """Refuse to go on with a job in the folder of another one."""
    now, before = (_settings(config) for config in (cfg, OmegaConf.load(folder / ".hydra" / "config.yaml")))
    for key in now.keys() | before.keys():
        if now.get(key) != before.get(key):
            raise ConfigError(
                f"`sweep.resume` (=true) finds {key}={before.get(key)} in {folder}, where this sweep has {key}="
                f"{now.get(key)}; give the settings that it was begun with, or start another without sweep.resume"
            )


def _settings(config: Any) -> dict[str, Any]:
    """All settings that matter, by their dotted names."""
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    return flat({str(key): value for key, value in resolved.items() if key not in INDIFFERENT})
