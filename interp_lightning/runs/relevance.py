"""The table of what each setting changes: weights, rounding, scores or nothing. Imports no torch."""

import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from typing import Any


class Effect(Enum):
    """The effect of a setting."""

    NOTHING = "only files and output"
    SCORES = "the scores of a trained model"
    ROUNDING = "the last bits of the weights"
    SEED = "the random draws"
    WEIGHTS = "the weights"


# By dotted name or a prefix of it; the longest match counts. A setting that is not listed changes the weights, so that
# a new one is never ignored by mistake.
EFFECTS = {
    **dict.fromkeys(
        ("name", "outputs", "ckpt_path", "debug", "sweep", "checkpoint", "logger", "milestones"), Effect.NOTHING
    ),
    **dict.fromkeys(("choices", "data.root", "data.fallback", "trainer._target_"), Effect.NOTHING),
    **dict.fromkeys(("trainer.limit_val_batches", "trainer.check_val_every_n_epoch"), Effect.NOTHING),
    **dict.fromkeys(("trainer.num_sanity_val_steps", "trainer.log_every_n_steps"), Effect.NOTHING),
    **dict.fromkeys(("trainer.enable_progress_bar", "trainer.enable_model_summary"), Effect.NOTHING),
    **dict.fromkeys(("trainer.profiler", "trainer.detect_anomaly"), Effect.NOTHING),
    **dict.fromkeys(("threads", "compile", "cuda_graphs", "optimizer.fused"), Effect.ROUNDING),
    **dict.fromkeys(("trainer.accelerator", "trainer.devices", "trainer.num_nodes"), Effect.ROUNDING),
    **dict.fromkeys(("trainer.strategy", "trainer.deterministic", "trainer.benchmark"), Effect.ROUNDING),
    "metrics": Effect.SCORES,
    "seed": Effect.SEED,
}


def effect(name: str) -> Effect:
    """Return the effect of a setting, given by its dotted name.

    Example:
        >>> effect("metrics.images"), effect("a_setting_of_yours")
        (<Effect.SCORES: 'the scores of a trained model'>, <Effect.WEIGHTS: 'the weights'>)
    """
    parts = name.split(".")
    known = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((EFFECTS[prefix] for prefix in known if prefix in EFFECTS), Effect.WEIGHTS)


def relevant(config: Mapping[str, Any], *effects: Effect) -> dict[str, Any]:
    """Return the settings that have one of these effects, by dotted name."""
    return {name: value for name, value in flat(config).items() if effect(name) in effects}


def config_hash(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all settings that determine the weights up to rounding."""
    settings = relevant(config, Effect.WEIGHTS, Effect.SEED)
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def changes(before: Mapping[str, Any], now: Mapping[str, Any], *effects: Effect) -> list[str]:
    """Return `key=now (was before)` for each setting with one of these effects that differs.

    Example:
        >>> changes({"seed": 0, "model": {"lam": 0.5}}, {"seed": 1, "model": {"lam": 1}}, Effect.WEIGHTS)
        ['model.lam=1 (was 0.5)']
    """
    one, other = relevant(before, *effects), relevant(now, *effects)
    different = sorted(key for key in one | other if one.get(key) != other.get(key))
    return [f"{key}={other.get(key)} (was {one.get(key)})" for key in different]


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their dotted names, as on the command line.

    Example:
        >>> flat({"model": {"lam": 0.5}})
        {'model.lam': 0.5}
    """
    settings: dict[str, Any] = {}
    for key, value in config.items():
        settings |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return settings
