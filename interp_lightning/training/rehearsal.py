"""Check before a run that it fits into memory, and that its classes work: one step of both players."""

import io
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import Optimizer

from interp_lightning.data.base import ImageData
from interp_lightning.errors import ConfigError, of_own_code
from interp_lightning.models.base import Autoencoder, Pass
from interp_lightning.parameters import shown
from interp_lightning.runs.build import build, build_model
from interp_lightning.system.conf import find
from interp_lightning.system.machine import GIB, free_memory

FEW = 8  # images, enough for most classes
COPIES = 4  # of each weight in training: the weight, its gradient and an optimizer's two moments


def check_size(cfg: DictConfig, data: ImageData) -> None:
    """Raise ConfigError if the networks cannot fit into memory, before anything of their size is allocated."""
    network = build("network", cfg.network, image_shape=data.image_shape, latent_dim=cfg.latent_dim)
    kept: dict[int, int] = {}  # bytes that a forward pass saves for the gradient, by storage

    def keep(tensor: Tensor) -> Tensor:
        kept[id(tensor.untyped_storage())] = tensor.nbytes
        return tensor

    numbers = batch = 0
    try:
        with torch.device("meta"):
            x = torch.empty(data.batch_size, *data.image_shape)
            criticised = "critic" in getattr(find(cfg.model._target_), "critic_parts", ())
            parts = [network.encoder(), network.decoder(), *([network.critic()] if criticised else [])]
            if not all(isinstance(part, nn.Module) for part in parts):
                raise ConfigError(f"`{_name(network)}` must make torch.nn.Modules: encoder, decoder and critic")
            numbers = sum(parameter.numel() for part in parts for parameter in part.parameters())
            with saved_tensors_hooks(keep, lambda tensor: tensor):
                parts[1](parts[0](x))
        batch = sum(kept.values())
    except ConfigError:
        raise
    except Exception as error:  # a user's network may not support meta tensors
        if "overflow" in str(error).lower():  # of the number of bytes, for which torch has no type
            raise ConfigError(_too_large("more than can be counted")) from error
    # A user's penalty may mean something else by these names.
    sizes = [cfg.penalty.get(name) for name in ("width", "depth", "queue")]
    width, depth, queue = (size if isinstance(size, int) else 0 for size in sizes)
    numbers += width * (width * depth + cfg.latent_dim)
    codes = COPIES * 8 * queue * cfg.latent_dim  # in double precision, with intermediate results
    needed, free = COPIES * 4 * numbers + batch + codes, free_memory()
    if needed > free:
        raise ConfigError(_too_large(f"{needed / GIB:,.1f} GiB, of which {free / GIB:,.1f} GiB are free"))


def _too_large(needed: str) -> str:
    return (
        "out of memory; use a smaller data.batch_size, network.depth, latent_dim, penalty.width or penalty.queue: "
        f"training needs {needed}"
    )


def rehearse(cfg: DictConfig, data: ImageData) -> None:
    """Take one step of both players and a validation on random images, with a separate model.

    The global random state and the model that is trained later stay unchanged.

    Raises:
        ConfigError: a class returns a wrong value, or has parameters that no loss trains.
    """
    few = min(data.batch_size, FEW)
    with isolate_rng():
        try:
            _try(build_model(cfg, data), few, data.image_shape)
        except Exception:
            # Some divergences require more codes.
            try:
                _try(build_model(cfg, data), data.batch_size, data.image_shape)
            except Exception as error:
                targets = [cfg[part]._target_ for part in ("model", "penalty", "network")]
                theirs = [target for target in targets if not target.startswith("interp_lightning.")]
                if not theirs or isinstance(error, (ConfigError, MemoryError)) or of_own_code(error):
                    raise
                raise ConfigError(
                    f"a step with {', '.join(theirs)} on random images raised {type(error).__name__}: "
                    f"{' '.join(str(error).split())[:300]}; debug=true shows where"
                ) from error


def try_optimizer(model: Autoencoder) -> Optimizer:
    """Build an optimizer like the model's and take a step, which some settings require to show that they are wrong.

    Raises:
        ConfigError: the optimizer's settings do not fit.
    """
    try:
        model.configure_optimizers()
        number = torch.nn.Parameter(torch.zeros(1))
        number.grad = torch.zeros(1)
        optimizer = model.optimizer([number])
        optimizer.step()
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"`optimizer` cannot be set up: {reason}; --cfg job prints its settings") from error
    return optimizer


def _try(model: Autoencoder, n: int, image_shape: tuple[int, int, int]) -> None:
    x = 2 * torch.rand(n, *image_shape) - 1
    _check_network(model, x)
    _check_penalty(model, n)
    _check_players(model, x)
    _check_validation(model, x)
    _check_state(model)


def _check_network(model: Autoencoder, x: Tensor) -> None:
    """Check that the encoder maps images to codes, and the decoder codes to images."""
    z = model.encode(x)
    _check_shape("the network's encoder", z, (len(x), model.latent_dim), "codes (B, latent_dim)")
    _check_shape("the network's decoder", model.decode(z), x.shape, "images (B, C, H, W)")


def _check_penalty(model: Autoencoder, n: int) -> None:
    """Check that a penalty is a number that depends on the codes."""
    penalty, name = model.penalty, _name(model.penalty)
    noise = torch.randn(n, model.latent_dim)
    prior = penalty.prior(noise)
    _check_shape(f"`{name}.prior`", prior, noise.shape, "draws of the prior like the noise that it is given")
    z = torch.randn(n, model.latent_dim, requires_grad=True)
    value = penalty(z, prior)
    _check_number(f"`{name}.forward`", value)
    depends = value.requires_grad and torch.autograd.grad(value, z, allow_unused=True)[0] is not None
    _require(
        depends or penalty.lam == 0,
        f"`{name}.forward` must return a tensor that depends on z, computed by torch without detach(), item() or "
        "no_grad(), as the autoencoder learns from its gradient",
        value,
    )
    _check_losses(f"`{name}.critic_losses`", penalty.critic_losses(z.detach(), prior))


def _check_players(model: Autoencoder, x: Tensor) -> None:
    """Check that each player's losses depend on all of its parameters."""
    name = _name(model)
    own = {f"{part}.{key}" for part in ("encoder", "decoder") for key, _ in getattr(model, part).named_parameters()}
    p = model(x)
    _require(isinstance(p, Pass), f"`{name}.forward` must return a Pass, see interp_lightning.models.base", p)
    losses = model.autoencoder_losses(p)
    _check_losses(f"`{name}.autoencoder_losses`", losses, least=1)
    _check_gradients(model, losses, own.__contains__, f"`{name}.autoencoder_losses`")
    losses = model.critic_losses(p.detach())
    _check_losses(f"`{name}.critic_losses`", losses)
    in_penalty = f"`{_name(model.penalty)}.critic_losses`"
    _check_gradients(model, losses, lambda key: key.startswith("penalty."), in_penalty)
    _check_gradients(
        model, losses, lambda key: key not in own and not key.startswith("penalty."), f"`{name}.critic_losses`"
    )


def _check_gradients(
    model: Autoencoder, losses: dict[str, Tensor], belongs: Callable[[str], bool], source: str
) -> None:
    """Check that the sum of losses depends on all parameters whose names belong to a player."""
    parameters = {key: each for key, each in model.named_parameters() if belongs(key) and each.requires_grad}
    if not parameters:
        return
    total = sum(losses.values(), torch.zeros(()))
    idle = list(parameters)
    if total.requires_grad:
        gradients = torch.autograd.grad(total, [*parameters.values()], retain_graph=True, allow_unused=True)
        idle = [key for key, gradient in zip(parameters, gradients, strict=True) if gradient is None]
        broken = [k for k, g in zip(parameters, gradients, strict=True) if g is not None and not g.isfinite().all()]
        _require(
            not broken,
            f"{source} must have finite gradients; that of {', '.join(broken[:3])} is not, perhaps because a "
            "weight such as penalty.lam is too large",
        )
    _require(
        not idle,
        f"{source} must return a loss that depends on {', '.join(idle[:3])}{', …' * (len(idle) > 3)}, which no other "
        "loss trains; or register it as a buffer, or set its requires_grad to False",
        losses,
    )


@torch.no_grad()
def _check_validation(model: Autoencoder, x: Tensor) -> None:
    """Check the losses in evaluation mode, and that critics' predictions have the shape of their targets."""
    model.eval()
    p = model(x)
    _check_losses(f"`{_name(model)}.autoencoder_losses`", model.autoencoder_losses(p), least=1)
    _check_number(f"`{_name(model.penalty)}.forward`", model.divergence(p.with_codes(p.prior)))
    found = model.critic_predictions(p)
    source = f"`{_name(model.penalty)}.critic_predictions`"
    pairs = isinstance(found, dict) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in found.values())
    _require(pairs, f"{source} must return a dictionary of pairs (predictions, targets)", found)
    for predicted, target in found.values():
        alike = isinstance(predicted, Tensor) and isinstance(target, Tensor) and predicted.shape == target.shape
        _require(alike, f"{source} must return predictions and targets of one shape, (M,) each", predicted)


def _check_state(model: Autoencoder) -> None:
    """Check that a checkpoint can hold the state: it is read without running code, so only tensors and plain values."""
    plain = {key: value for key, value in model.state_dict().items() if not isinstance(value, Tensor)}
    memory = io.BytesIO()
    for key, value in plain.items():
        try:
            torch.save(value, memory)
            memory.seek(0)
            torch.load(memory, weights_only=True)
        except Exception as error:
            raise ConfigError(
                f"`{key}` cannot be read back out of a checkpoint ({type(value).__name__}); let get_extra_state return "
                "tensors, numbers and text"
            ) from error


def _check_losses(source: str, losses: Any, least: int = 0) -> None:
    named = isinstance(losses, dict) and len(losses) >= least and all(isinstance(key, str) for key in losses)
    _require(named, f"{source} must return a dictionary of losses by their names{', not empty' * bool(least)}", losses)
    for key, loss in losses.items():
        _check_number(f'{source}["{key}"]', loss)


def _check_number(source: str, value: Any) -> None:
    number = isinstance(value, Tensor) and value.shape == () and value.is_floating_point()
    _require(number, f"{source} must be one number, a floating-point tensor of shape () computed by torch", value)
    _require(bool(value.isfinite()), f"{source} must be finite for random images and codes", value)


def _check_shape(source: str, value: Any, shape: tuple[int, ...], meaning: str) -> None:
    right = isinstance(value, Tensor) and value.shape == shape
    _require(right, f"{source} must return {meaning}, a tensor of shape {tuple(shape)}", value)


def _require(holds: bool, sentence: str, *returned: Any) -> None:
    if not holds:
        raise ConfigError("; it is ".join([sentence, *map(_described, returned)]))


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{shown(value.item())}" if value.dim() == 0 else f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, dict):
        return f"a dictionary with {', '.join(map(str, value)) or 'nothing in it'}"
    return f"{shown(value)}, of type {type(value).__name__}"


def _name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"
