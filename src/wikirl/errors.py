"""Every error that a user can mend.

Each class is also the builtin kind that fits, so `except ValueError` works as expected. A message says what was
expected, what was found and what to do; the command line prints it on one line and exits with 2. Anything that is not a
`WikiRLError` is a bug of ours, but for what the system refuses: a full disk, or a place that may not be written.
"""

import errno
import os
import re
from typing import Any

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


class WikiRLError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(WikiRLError, ValueError):
    """A setting, or a combination of settings, that cannot work."""


class DatasetError(WikiRLError, ValueError):
    """Trajectories that cannot be read or make no sense; the message names file, field and episode."""


class UnsoundDatasetError(DatasetError):
    """A check that found errors; its result is worth showing all the same.

    Attributes:
        result: What the check would have returned.
    """

    def __init__(self, message: str, result: dict[str, Any]) -> None:
        super().__init__(message)
        self.result = result


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


def refusal_of_the_system(error: Exception) -> str:
    """One line on a full disk or a missing permission, whatever library met it; empty for all other errors.

    Libraries written in Rust (safetensors, tokenizers) give the system's error number in their text alone, and NumPy
    gives none where it could not write a whole array.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := re.search(r"\(os error (\d+)\)", str(error))):
        number = int(found[1])
    if number is None and isinstance(error, OSError) and re.fullmatch(r"\d+ requested and \d+ written", str(error)):
        number = errno.ENOSPC
    if number not in NO_ROOM + NOT_ALLOWED:
        return ""
    notes: list[str] = getattr(error, "__notes__", [])
    place = getattr(error, "filename", None)
    where = f" at {place}" if place else "".join(f" {note}" for note in notes[:1])
    elsewhere = "choose another place with --out or WIKIRL_CACHE, and give the same command again"
    if number in NO_ROOM:
        wish, remedy = f"room to write{where}", f"free some or {elsewhere}; what was written before is whole"
    else:
        wish, remedy = f"to be allowed to read and write{where}", f"change its permissions or {elsewhere}"
    return f"expected {wish}; found: {os.strerror(number)}; {remedy}"
