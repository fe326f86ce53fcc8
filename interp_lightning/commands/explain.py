"""Explain an error in one sentence, if the user can mend it. Imports no torch."""

import difflib
import re
import traceback

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf.errors import KeyValidationError, OmegaConfBaseException
from yaml import YAMLError

from interp_lightning.config.launchers import missing_package
from interp_lightning.errors import ConfigError, chain, of_own_code

LOST_JOB = ("TerminatedWorkerError", "UncompletedJobError")  # joblib's and submitit's


def reason(error: Exception) -> str:
    """The sentence for a run that is skipped because of any error, the user's to mend or not.

    Raises:
        BrokenPipeError: nobody reads the output any more, which is no fault of the run.
    """
    if isinstance(error, BrokenPipeError):
        raise error
    return explain(error) or f"{' '.join(str(error).split())} ({type(error).__name__}; debug=true shows where)"


def explain(error: BaseException) -> str | None:
    """The sentence for something that the user can mend; None for an error of ours."""
    links = chain(error)
    for link in links:
        if isinstance(link, ConfigError):
            return str(link)
        # A GPU's, a CPU's in torch, a CPU's in numpy.
        if type(link).__name__ == "OutOfMemoryError" or "allocate memory" in str(link) or isinstance(link, MemoryError):
            return "out of memory; use a smaller data.batch_size, network.depth or latent_dim"
    if sentence := of_own_code(error):
        return sentence
    if isinstance(error, RuntimeError) and ("by peer" in str(error) or type(error).__name__ == "DistNetworkError"):
        return (
            "The process of another device has ended, and this one with it; what ended it is said above, or else it "
            "was killed: go on with ckpt_path=last, if training had begun"
        )
    for link in links:
        if sentence := missing_package(str(link)):
            return sentence
        if type(link).__name__ in LOST_JOB:
            return (
                "The process of a job has been killed, by the system if memory was short, and the sweep ends with it; "
                "finished jobs are kept: go on with sweep.resume=true, and if memory was short with fewer jobs at once"
            )
    if 'detect "srun"' in str(error):
        return "hydra/launcher=submitit_slurm wants SLURM, and there is no srun here; use joblib or submitit_local"
    if str(error).startswith("No trials are completed"):
        return (
            "the search has found nothing, because no job has finished; the table has each one's error, and if "
            "there is none, hydra.sweeper.n_trials must be ≥ 1"
        )
    if isinstance(error, RecursionError):
        names = " → ".join(_files_in_a_circle(error))
        return f"a configuration file refers to itself{names and f' ({names})'}; remove one of its references"
    if isinstance(error, InstantiationException):
        *_, key = str(error).split("full_key: ")  # "Error in call to target '…':\nTypeError(…)\nfull_key: …"
        return f"`{key.strip()}` cannot be set up: {' '.join(str(error.__cause__ or error).split())}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        near = difflib.get_close_matches(choice, error.options, n=1)
        hint = f"; did you mean {group}={near[0]}?" if near else ""
        return f"`{group}` (={choice}) must be one of: {', '.join(error.options)}{hint}"
    if unknown := re.match(r"Could not override '(.+?)'", str(error)):
        from interp_lightning.config.check import did_you_mean  # which imports this

        ours = not unknown[1].startswith("hydra.")
        hint = did_you_mean(unknown[1]) if ours else "--cfg hydra prints those there are"
        return f"`{unknown[1].split('@')[0]}` is no setting of this run; {hint}"
    if str(error).startswith("Config group override must be"):
        return "a group such as model= or trainer= must name one of its choices, not null; --help lists them"
    if type(error).__name__ == "MisconfigurationException":  # Lightning's, in sentences
        return " ".join(str(error).split())
    if any(isinstance(link, KeyValidationError) for link in links) or "Incompatible key type" in str(error):
        return 'a configuration file has a key that is null or no text; put it in quotes, as in "null": 3'
    if isinstance(error, HydraException):
        # What is missing and what there is; not where it was looked for.
        sentence = str(error).split("\nConfig search path")[0].strip()
        if isinstance(error, OverrideParseException):
            sentence = f"`{error.override}` cannot be read: {' '.join(sentence.split())}"
        if isinstance(error.__cause__, OmegaConfBaseException):
            sentence += f": {str(error.__cause__).splitlines()[0]}"
        if "does not support sweep type" in sentence:
            sentence += "; hydra/sweeper=optuna searches in intervals"
        quotes = "; a value with special characters wants quotes within quotes, as in 'name=\"a b\"'"
        return sentence + quotes * isinstance(error, OverrideParseException)
    if isinstance(error, OmegaConfBaseException):
        return f"`{error.full_key}`: {str(error).splitlines()[0]}; --cfg job prints the configuration"
    if isinstance(error, UnicodeDecodeError):
        return f"a configuration file is no text in UTF-8: {error}"
    if "Exceeds the limit" in str(error):  # Python reads no longer ones
        return "a number in the settings has thousands of digits; it must fit into 64 bits"
    if isinstance(error, YAMLError):
        return f"a configuration file is no valid YAML: {' '.join(str(error).split())}"
    if isinstance(error, OSError) and error.filename:
        return f"`{error.filename}` cannot be written or read ({error.strerror}); name a folder of yours"
    return None


def _files_in_a_circle(error: RecursionError) -> list[str]:
    """The configuration files whose defaults lead to one another, as Hydra came upon them."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    paths = [frame.f_locals.get("path") for frame in frames if frame.f_code.co_name == "_create_defaults_tree_impl"]
    repeated = dict.fromkeys(path for path in paths if isinstance(path, str) and paths.count(path) > 1)
    return [*repeated, *list(repeated)[:1]]
