"""Keep trained judges in the user's cache, so that each is trained once."""

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from interp_lightning.functional.digests import sealed, unsealed
from interp_lightning.metrics.judges.own import OwnJudge
from interp_lightning.system.disk import cache_folder, lock, regular, replace

log = logging.getLogger(__name__)


def trained(judge: OwnJudge, key: bytes, train: Callable[[OwnJudge], None]) -> OwnJudge:
    """Return a judge with the weights in the cache, or train it and keep them there.

    Of several processes one trains, and the others wait. A damaged file is replaced.

    Args:
        judge: untrained.
        key: digest of all that its weights follow from.
        train: trains it in place.
    """
    folder = cache_folder()
    if folder is None:
        log.warning("There is no folder for a cache, so this judge is trained again next time; set XDG_CACHE_HOME")
        train(judge)
        return judge
    file = folder / "judges" / f"{key.hex()[:32]}.safetensors"
    if _loaded(judge, file, key):
        return judge
    with suppress(OSError):  # said below
        file.parent.mkdir(parents=True, exist_ok=True)
    waiting = "Waiting for another process that trains a judge of these images …"
    with lock(file.with_suffix(".lock"), lambda: log.info(waiting)):
        if _loaded(judge, file, key):
            return judge
        train(judge)
        try:
            replace(file, sealed(judge.state_dict(), key))
        except OSError as error:
            log.warning(
                f"{file} could not be written ({error.strerror}), so this judge is trained again next time; name a "
                "writable folder by XDG_CACHE_HOME"
            )
    return judge


def _loaded(judge: OwnJudge, file: Path, key: bytes) -> bool:
    """Load a judge's weights, and freeze it; return False if there are none to use."""
    try:
        state = unsealed(regular(file).read_bytes(), key)
    except FileNotFoundError:
        return False
    except (OSError, SafetensorError, ValueError, KeyError):
        state = None
    if state is None:
        log.warning(f"{file} is damaged; this judge is trained again")
        return False
    judge.load_state_dict(state)
    judge.eval().requires_grad_(False)
    return True
