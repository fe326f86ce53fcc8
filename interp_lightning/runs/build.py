"""Build the parts of a run from its configuration."""

from collections.abc import Callable
from functools import partial
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch.optim import Optimizer

from interp_lightning.data.base import ImageData
from interp_lightning.errors import ConfigError
from interp_lightning.models.base import Autoencoder
from interp_lightning.networks.base import Network
from interp_lightning.penalties.base import Penalty
from interp_lightning.steps.schedules import Schedule

# The parts of a configuration that are built from a `_target_`, and the base class of each.
PARTS = {
    "data": ImageData,
    "network": Network,
    "penalty": Penalty,
    "optimizer": Optimizer,
    "schedule": Schedule,
    "model": Autoencoder,
}
# The attribute that the constructor of each base class sets last; a subclass that does not call it lacks it.
SET_UP = {"data": "fallback", "network": "depth", "penalty": "lr", "model": "_recorded"}


def build(part: str, settings: Any, **arguments: Any) -> Any:
    """Build a part of a run from trusted settings, which can run any code; see `foreign.build_ours` for others.

    Args:
        part: a key of `PARTS`.
        settings: that part of the configuration.
        arguments: passed to the constructor beside the settings.

    Raises:
        ConfigError: `_target_` builds an object of another class.
    """
    # Called here and not by Hydra, which would convert an argument that is a dataclass, such as a user's penalty.
    make = instantiate(settings, _convert_="all", _partial_=True)
    try:
        built = make if settings.get("_partial_") else make(**arguments)
    except Exception as error:
        target = settings["_target_"]
        raise InstantiationException(f"Error in call to target '{target}':\n{error!r}\nfull_key: {part}") from error
    base = PARTS[part]
    if not isinstance(built, base) and not (isinstance(built, partial) and _is_class(built.func, base)):
        raise ConfigError(f"`{part}._target_` (={settings['_target_']}) must name a subclass of {base.__name__}")
    if part in SET_UP and not hasattr(built, SET_UP[part]):
        raise ConfigError(
            f"`{settings['_target_']}.__init__` must call super().__init__ with the arguments of {base.__name__}"
        )
    return built


def build_model(cfg: Any, data: ImageData, make: Callable[..., Any] = build) -> Autoencoder:
    """Build the model of a configuration for the images of a data set.

    Args:
        cfg: the configuration.
        data: the data set.
        make: `build`, or `build_ours` for a configuration from someone else's checkpoint.
    """
    return make(
        "model",
        cfg["model"],
        network=make("network", cfg["network"], image_shape=data.image_shape, latent_dim=cfg["latent_dim"]),
        penalty=make("penalty", cfg["penalty"]),
        optimizer=make("optimizer", cfg["optimizer"]),
        schedule=make("schedule", cfg["schedule"]),
        guard=cfg["guard"],
        clip=cfg["clip"],
        seed=cfg["seed"],
    )


def _is_class(thing: object, base: type) -> bool:
    return isinstance(thing, type) and issubclass(thing, base)
