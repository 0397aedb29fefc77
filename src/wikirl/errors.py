"""Every error that a user can mend.

Each class is also the builtin kind that fits, so `except ValueError` works as expected. A message says what was
expected, what was found and what to do; the command line prints it on one line and exits with 2. Anything that is not a
`WikiRLError` is a bug of ours.
"""


class WikiRLError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(WikiRLError, ValueError):
    """A setting, or a combination of settings, that cannot work."""


class DatasetError(WikiRLError, ValueError):
    """Trajectories that cannot be read or make no sense; the message names file, field and episode."""


class CorpusError(WikiRLError, ValueError):
    """Text that cannot be read, tokenized or packed."""


class BackboneError(WikiRLError, ValueError):
    """A backbone that cannot be found, read or used as a causal sequence model."""


class BundleError(WikiRLError, ValueError):
    """A policy bundle that is incomplete or damaged."""


class RunError(WikiRLError, ValueError):
    """A run folder that is missing, damaged or belongs to another configuration."""


class DivergedError(WikiRLError, FloatingPointError):
    """Training produced a loss that is not a finite number."""


class EnvironmentNotFoundError(WikiRLError, LookupError):
    """An environment that Gymnasium does not know or that does not fit the policy."""


class MissingExtraError(WikiRLError, ImportError):
    """An optional package is needed; the message names the extra to install."""
