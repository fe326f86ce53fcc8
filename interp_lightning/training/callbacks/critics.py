"""Says when a critic no longer teaches: it is dead, or saturated."""

import logging

import lightning as L

log = logging.getLogger(__name__)

DEAD = 0.02  # spread of its answers over the spread of the right ones
SATURATED = 0.995  # share of the variance of the right answers that its own explain


class Critics(L.Callback):
    """Names in the log each critic that has stopped teaching the autoencoder, once two validations in a row show it.

    A dead critic says nearly the same of everything, a saturated one is right about everything; either way its gradient
    says little of where to go (for GANs: Arjovsky and Bottou 2017, section 2, https://arxiv.org/abs/1701.04862). What
    it goes by is `val/critic/<name>_spread` and `val/critic/<name>_explained`; see `Autoencoder.critic_predictions`.
    """

    def __init__(self) -> None:
        self._found: dict[str, str] = {}  # at the validation before
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
                f"Epoch {epoch}: the critic `{name}` is dead, it answers nearly the same to everything (its answers "
                f"spread {spread:.1%} of what they should); a smaller learning rate of its own may help it"
            )
        elif state == "saturated":
            log.warning(
                f"Epoch {epoch}: the critic `{name}` is saturated, it is right about everything (its answers explain "
                f"{explained:.1%}), so that the autoencoder learns little from it; a smaller learning rate for it, a "
                "larger weight for its term, or for penalty=gan a larger penalty.r1 may help"
            )
        else:
            log.info(f"Epoch {epoch}: the critic `{name}` has recovered")
