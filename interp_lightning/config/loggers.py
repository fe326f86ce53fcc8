"""Settings of loggers, alone and as members of logger=many."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from interp_lightning.config.names import keys
from interp_lightning.errors import ConfigError
from interp_lightning.parameters import Count, Name, Natural, Text, check_value

# What classes of other packages take, where our files set it.
LOGGERS: dict[str, Any] = {
    **dict.fromkeys(("default_hp_metric", "offline"), bool),
    "name": Name,
    "flush_logs_every_n_steps": Count,
    "version": Natural | Literal[""] | Name,
    **dict.fromkeys(("project", "experiment_name", "tracking_uri", "artifact_location"), Text),
    "members": Annotated[
        dict[str, dict[str, Any]], Field(min_length=1, description="a mapping of loggers as in logger=many")
    ],
}


def check_members(members: Mapping[str, Mapping[str, Any]]) -> None:
    """Check each of several loggers as if it were the only one.

    Raises:
        ConfigError: a setting is not allowed, or two members would write to the same place.
    """
    places: dict[tuple[Any, ...], str] = {}
    for member, settings in members.items():
        target = settings.get("_target_")
        if not isinstance(target, str) or "members" in settings:
            raise ConfigError(
                f"`logger.members.{member}` must name the class of one logger in `_target_`; choose one by "
                f"+logger@logger.members.{member}=csv, or remove it by ~logger.members.{member}"
            )
        ours = keys("logger", target)
        for key in settings.keys() & ours & LOGGERS.keys():
            check_value(f"logger.members.{member}.{key}", settings[key], LOGGERS[key])
        place = (target, *(settings.get(key) for key in ("name", "version", "project", "experiment_name")))
        if place in places:
            raise ConfigError(
                f"`logger.members.{places[place]}` and `logger.members.{member}` would write to the same place; remove "
                f"one by ~logger.members.{member}, or give it another `name`"
            )
        places[place] = member
