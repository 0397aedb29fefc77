"""The run folder: the only thing one stage hands to the next.

    config.json       what was asked, fully resolved, with its hash
    provenance.json   versions, machine, seed, git
    metrics.jsonl     one JSON object a line, fixed names (docs/formats.md)
    checkpoints/      step-N/ with safetensors and state.json; enough to continue to the same bits
    ...               whatever else the recipe leaves (policy/, scores.json)

Everything is written to a temporary name and moved into place, so that a killed run never leaves half a file. Nothing
is a pickle. This file knows folders and formats; it does not know what is trained.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wikirl.errors import RunError

Json = Mapping[str, Any]

# What a run that was killed before its config.json was written leaves.
_BEGINNING = re.compile(r"checkpoints|\.lock|provenance\.json|\.(provenance|config)\.json\.\d+")


def cache_folder() -> Path:
    """Where converted data are kept: `$WIKIRL_CACHE`, or `~/.cache/wikirl`."""
    return Path(os.environ.get("WIKIRL_CACHE") or Path.home() / ".cache" / "wikirl")


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a question the loop asks between steps; the second one acts at once."""
    asked = False

    def ask(_number: int, _frame: object) -> None:
        nonlocal asked
        asked = True
        for number in before:
            signal.signal(number, signal.default_int_handler)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, ask)
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def config_hash(config: Json) -> str:
    """Twelve hexadecimal digits that change whenever a setting does."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


@contextmanager
def noting(place: Path) -> Iterator[None]:
    """Note on an error where it happened; of a full disk neither the system's nor those of libraries in Rust say it."""
    try:
        yield
    except Exception as error:
        error.add_note(f"at {place}")
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with noting(path):
        temporary.write_bytes(data)
        temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        RunError: there is no such file, or it is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"expected a JSON file at {path}; found: {error}") from error


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` when the block ends well, and vanishes when it does not.

    An older `target` is moved aside before it is deleted, so that a kill never leaves half of it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (target.with_name(f".{target.name}.{os.getpid()}{suffix}") for suffix in ("", ".old"))
    for folder in (temporary, old):
        shutil.rmtree(folder, ignore_errors=True)
    temporary.mkdir()
    try:
        with noting(target):
            yield temporary
        if target.exists():
            target.replace(old)
        temporary.replace(target)
    finally:
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Checkpoint:
    """One saved moment of a run."""

    step: int
    folder: Path

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors saved under `name`.

        Raises:
            RunError: the file is missing or damaged.
        """
        path = self.folder / f"{name}.safetensors"
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise RunError(
                f"expected tensors at {path}; found: {error}; delete this checkpoint to use the one before"
            ) from error

    @property
    def state(self) -> dict[str, Any]:
        """The JSON state saved beside the tensors."""
        state: dict[str, Any] = read_json(self.folder / "state.json")
        return state


class Run:
    """A run folder that is being written; use it as a context manager so that only one process writes at a time."""

    def __init__(self, folder: Path, config: Json, provenance: Json) -> None:
        """Create the folder, or open it again if it holds the same configuration.

        Raises:
            RunError: the folder holds another configuration, something that is no run, or is in use.
        """
        self.folder = folder
        existing = folder / "config.json"
        if existing.exists():
            _require_same_config(existing, config)
        elif folder.is_file() or (
            folder.is_dir() and not all(_BEGINNING.fullmatch(path.name) for path in folder.iterdir())
        ):
            raise RunError(
                f"expected a new or empty folder for the run; {folder} holds something else; choose another --out"
            )
        self._lock = keep_others_out(folder)
        (folder / "checkpoints").mkdir(exist_ok=True)
        if not existing.exists():
            write_json(folder / "provenance.json", provenance)
            write_json(existing, {**config, "hash": config_hash(config)})

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def log(self, metrics: Json) -> None:
        """Append one line to metrics.jsonl."""
        path = self.folder / "metrics.jsonl"
        with noting(path), path.open("a") as file:
            file.write(json.dumps(metrics, allow_nan=False) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl so far."""
        return read_metrics(self.folder)

    def save_checkpoint(
        self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Json, keep: int = 2
    ) -> None:
        """Save everything needed to continue after `step`, and drop all but the newest `keep` checkpoints."""
        with replacing_folder(self.folder / "checkpoints" / f"step-{step}") as temporary:
            for name, values in tensors.items():
                save_file(
                    {key: value.detach().contiguous().cpu() for key, value in values.items()},
                    temporary / f"{name}.safetensors",
                )
            write_json(temporary / "state.json", {"step": step, **state})
        for old in self._checkpoints()[:-keep]:
            shutil.rmtree(old.folder)

    def resume(self, at: int | None = None) -> Checkpoint | None:
        """The newest checkpoint, or the one of step `at`, with what came later taken back; None for a fresh run.

        What a kill left of a checkpoint half written is deleted.

        Raises:
            RunError: there is no checkpoint of step `at`, or all work would be lost; nothing is deleted then.
        """
        checkpoints = self._checkpoints()
        if at is not None:
            earlier = [checkpoint for checkpoint in checkpoints if checkpoint.step <= at]
            if (earlier[-1].step if earlier else 0) != at or (at == 0 and checkpoints):
                raise RunError(
                    f"expected {self.folder} to go on from step {at}; it stands at step {self.newest_step}; finish it "
                    "alone, choose another --out, or delete it to begin anew"
                )
            for later in checkpoints[len(earlier) :]:
                shutil.rmtree(later.folder)
            checkpoints = earlier
        for half in (self.folder / "checkpoints").glob(".step-*"):
            shutil.rmtree(half)
        step = checkpoints[-1].step if checkpoints else 0
        path = self.folder / "metrics.jsonl"
        if path.exists():
            kept = [line for line in self.metrics() if line["step"] <= step] if checkpoints else []
            temporary = path.with_name(".metrics.jsonl")
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
            temporary.replace(path)
        return checkpoints[-1] if checkpoints else None

    @property
    def newest_step(self) -> int:
        """Step of the newest checkpoint; 0 for a fresh run."""
        checkpoints = self._checkpoints()
        return checkpoints[-1].step if checkpoints else 0

    def _checkpoints(self) -> list[Checkpoint]:
        return checkpoints_of(self.folder)


def keep_others_out(folder: Path) -> IO[str]:
    """Make a folder one's own until the file is closed or this process ends, however that comes about.

    Raises:
        RunError: another process has it, or it may not be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise RunError(f"expected to be able to write to {folder}; found: {error}; choose another --out") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise RunError(f"{folder} is in use by another process; wait for it or choose another --out") from error
    return lock


def checkpoints_of(folder: Path) -> list[Checkpoint]:
    """The checkpoints of a run folder, oldest first."""
    found = [Checkpoint(int(path.name[5:]), path) for path in (folder / "checkpoints").glob("step-*")]
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; a last line cut short by a kill is left out.

    Raises:
        RunError: another line is damaged.
    """
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(
            f"expected one JSON object on each line of {path}; found: {error}; delete the damaged line"
        ) from error


def _require_same_config(path: Path, config: Json) -> None:
    content = read_json(path)
    if not isinstance(content, dict):
        raise RunError(f"expected the settings of a run in {path}; found something else; choose another --out")
    found = {key: value for key, value in content.items() if key != "hash"}
    wanted = json.loads(json.dumps(config))
    different = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
    if different:
        detail = ", ".join(f"{key} {found.get(key)!r} there, {wanted.get(key)!r} asked" for key in different[:4])
        raise RunError(f"{path.parent} holds a run with other settings ({detail}); choose another --out or delete it")
