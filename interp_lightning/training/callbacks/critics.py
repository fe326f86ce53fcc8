"""Warn when a critic is dead or saturated, so that the autoencoder learns nothing from it."""

import logging

import lightning as L

log = logging.getLogger(__name__)

DEAD = 0.02  # spread of predictions over the spread of targets
SATURATED = 0.995  # share of the targets' variance that predictions explain


class Critics(L.Callback):
    """Log each critic that is dead or saturated in two validations in a row.

    A dead critic predicts nearly the same for every input, a saturated one is always right; either way its gradient is
    little use to the autoencoder (for GANs: Arjovsky and Bottou 2017, section 2, https://arxiv.org/abs/1701.04862).
    The criteria are `val/critic/<name>_spread` and `val/critic/<name>_explained`.
    """

    def __init__(self) -> None:
        self._found: dict[str, str] = {}  # at the previous validation
        self._said: dict[str, str] = {}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        for key, spread in trainer.callback_metrics.items():
            name = key.removeprefix("val/critic/").removesuffix("_spread")
            if key == f"val/critic/{name}_spread":
                explained = trainer.callback_metrics[f"val/critic/{name}_explained"]
                self._say(name, float(spread), float(explained), trainer.current_epoch + 1)

    def _say(self, name: str, spread: float, explained: float, epoch: int) -> None:
        """Log a change of a critic's state."""
        state = "dead" if spread < DEAD else "saturated" if explained > SATURATED else "well"
        lasts = self._found.get(name) == state
        self._found[name] = state
        if not lasts or state == self._said.get(name, "well"):
            return
        self._said[name] = state
        if state == "dead":
            log.warning(
                f"Epoch {epoch}: the critic `{name}` is dead: it predicts nearly the same for every input (its "
                f"predictions spread {spread:.1%} as far as the targets); a smaller learning rate for it may help"
            )
        elif state == "saturated":
            log.warning(
                f"Epoch {epoch}: the critic `{name}` is saturated: it is always right (its predictions explain "
                f"{explained:.1%} of the targets), so that the autoencoder learns little from it; a smaller learning "
                "rate for it, a larger weight for its term, or for penalty=gan a larger penalty.r1 may help"
            )
        else:
            log.info(f"Epoch {epoch}: the critic `{name}` has recovered")
