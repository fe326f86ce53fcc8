"""What can go wrong and be mended by the user; each says in one sentence the value, what is allowed, the way out."""


class ConfigError(ValueError):
    """A setting that cannot work."""


class DataError(ConfigError):
    """Data that are damaged, cannot be read, or are not what `data.contract` says."""


class DataNotFound(DataError):
    """Data files that are neither on disk nor to be fetched."""


class CheckpointError(ConfigError):
    """A checkpoint that is missing, damaged or another model's."""


class CheckpointMissing(CheckpointError):
    """A run without a checkpoint of that name, as when it was interrupted early."""


class Diverged(ConfigError):
    """Losses or gradients that are NaN or infinite."""


class ResultsError(ConfigError):
    """Results that are missing, damaged or not to be compared."""
