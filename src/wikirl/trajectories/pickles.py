"""Pickled trajectories in Decision Transformer's format, read without trusting the file.

A pickle is a program. This file's unpickler admits the instructions that rebuild arrays of numbers and
refuses every other global before it is imported. Even NumPy's own constructors are not called: plain
stand-ins collect what they would have been given, and arrays are made from that with checks.
"""

import pickle
import pickletools
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt

from wikirl.errors import DatasetError
from wikirl.trajectories.arrays import STEP_FIELDS, require_keys
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset
from wikirl.trajectories.growing import GrowingArrays
from wikirl.trajectories.stored import FREE_GROWTH_BYTES, MAX_GROWTH, require_file
from wikirl.trajectories.validation import as_flags, typed

_NUMBER = re.compile(r"[<>=|]?(?:\?|b1|[iu][1248]|f[248])")  # what np.dtype calls booleans, integers and floats


def read_pickle(
    path: Path, *, name: str, environment: str | None = None, scratch: Path | None = None
) -> TrajectoryDataset:
    """Read a pickled list of episodes, each a dict of `observations`, `actions`, `rewards` and `terminals`.

    An episode has terminated if its last terminal is true. Other keys, such as `next_observations`, are
    ignored.

    Source: kzl/decision-transformer, `gym/data/download_d4rl_datasets.py`.

    Args:
        path: The file; all of it is in memory while it is read.
        name: Begins every error message about its content.
        environment: Gymnasium id the data was made with.
        scratch: A folder to grow large arrays in; None: in memory.

    Raises:
        DatasetError: the file is missing, damaged, wants anything but arrays of numbers, dicts, lists,
            tuples, strings and numbers, or holds something else than such a list; or see `build_dataset`.
    """
    episodes = load_restricted(path)
    if not isinstance(episodes, list) or not all(isinstance(episode, dict) for episode in episodes):
        raise DatasetError(f"{path}: expected a list of dicts, one per episode, found {type(episodes).__name__}")
    if not episodes:
        raise DatasetError(f"{path}: there are no episodes")
    size = path.stat().st_size
    fields: dict[str, list[npt.NDArray[Any]]] = {field: [] for field in STEP_FIELDS}
    terminated: list[bool] = []
    for number, episode in enumerate(episodes):
        where = f"{name}, episode {number}"
        if not all(isinstance(key, str) for key in episode):
            raise DatasetError(f"{where}: expected names of fields as keys, found {list(episode)!r:.80}")
        require_keys(where, episode, (*STEP_FIELDS, "terminals"))
        arrays = {field: _array(where, field, episode[field], size) for field in STEP_FIELDS}
        _check_against(where, arrays, {field: fields[field][0] for field in STEP_FIELDS if fields[field]})
        for field in STEP_FIELDS:
            fields[field].append(arrays[field])
        terminated.append(_ended(where, episode["terminals"], len(arrays["rewards"]), size))
    total = sum(array.nbytes for parts in fields.values() for array in parts)
    if total > MAX_GROWTH * size + FREE_GROWTH_BYTES:
        raise DatasetError(f"{path}: {size} bytes would become {total}, more than {MAX_GROWTH} times; that is refused")
    grown = GrowingArrays(scratch)
    for field, parts in fields.items():
        common = np.result_type(*{array.dtype for array in parts})
        for array in parts:
            grown.append(field, typed(name, field, array.astype(common, copy=False)))
    lengths = [len(rewards) for rewards in fields["rewards"]]
    return build_dataset(
        name,
        grown.array("observations"),
        grown.array("actions"),
        grown.array("rewards"),
        np.concatenate([[0], np.cumsum(lengths)]),
        terminated,
        environment=environment,
        details={"source": str(path)},
    )


def load_restricted(path: Path) -> Any:
    """Unpickle arrays of numbers, dicts, lists, tuples, strings and numbers; nothing else.

    Raises:
        DatasetError: the file is missing, damaged, or asks for another global, which is named.
    """
    require_file(path, "pickle")
    try:
        with path.open("rb") as file:
            _check_memory(file)
            file.seek(0)
            return _finished(_Unpickler(file).load(), {})
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error})") from error
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        struct.error,
    ) as error:
        raise DatasetError(f"{path}: not a complete pickle of trajectories ({error})") from error
    except (OverflowError, MemoryError, RecursionError) as error:
        raise DatasetError(f"{path}: the pickle announces impossible sizes ({error})") from error


def _check_memory(file: BinaryIO) -> None:
    """Look for numbers of memory cells that nothing has filled: Python would make room for all below them."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(argument, int) and argument > count:
            raise DatasetError(f"the pickle numbers {argument} objects after {count} instructions")


class _Dtype:
    """Stands in for a pickled dtype: a plain number type and its byte order."""

    __slots__ = ("dtype",)

    def __init__(self, code: object, *_: object):
        if not isinstance(code, str) or not _NUMBER.fullmatch(code):
            raise DatasetError(f"the pickle holds an array of type {code!r}; only numbers are admitted")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        # (version, byte order, subarray, field names, fields, size, alignment, flags): plain numbers have
        # only an order.
        order = state[1] if isinstance(state, tuple) and len(state) > 4 and not any(state[2:5]) else None
        if order not in ("<", ">", "|", "="):
            raise DatasetError("the pickle holds an array of structured type; only numbers are admitted")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands in for an array that is being unpickled; `value` is None until its state has come."""

    __slots__ = ("value",)

    def __init__(self, *_: object):
        self.value: npt.NDArray[Any] | None = None

    def __setstate__(self, state: object) -> None:
        match state:
            case (
                _,
                tuple(shape),
                _Dtype() as dtype,
                bool() | int() as fortran,
                bytes() | bytearray() as raw,
            ):
                self.value = _rebuild(raw, dtype, shape, "F" if fortran else "C")
            case _:
                raise DatasetError("the pickle holds an array of objects; only numbers are admitted")


class _Admitted:
    """What a pickle gets when it asks for an admitted global: it may be called, and nothing else."""

    __slots__ = ("_make",)
    _make: Callable[..., Any]

    def __init__(self, make: Callable[..., Any]):
        object.__setattr__(self, "_make", make)  # past our own __setattr__

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setattr__(self, key: str, value: object) -> NoReturn:
        raise DatasetError("the pickle wants to change a function")

    def __setstate__(self, state: object) -> NoReturn:
        raise DatasetError("the pickle wants to change a function")


def _from_buffer(raw: object, dtype: object, shape: object, order: object) -> npt.NDArray[Any]:
    if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
        raise DatasetError("the pickle holds an array in a form that is not admitted")
    return _rebuild(raw, dtype, shape, "F" if order == "F" else "C")


def _scalar(dtype: object, raw: object = None) -> Any:
    if not isinstance(raw, bytes) or not isinstance(dtype, _Dtype):
        raise DatasetError("the pickle holds a NumPy scalar that is no number")
    return _rebuild(raw, dtype, (1,), "C")[0]


def _latin1(text: object, encoding: object) -> bytes:
    """Protocols 0 to 2 write bytes as text, to be encoded back."""
    if not isinstance(text, str) or encoding != "latin1":
        raise DatasetError("the pickle wants to encode something else than bytes")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """The way of protocols 0 to 2 to write empty bytes."""
    return b""


def _rebuild(raw: bytes | bytearray, dtype: _Dtype, shape: tuple[Any, ...], order: str) -> npt.NDArray[Any]:
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise DatasetError(f"the pickle holds an array of shape {shape!r}")
    flat = np.frombuffer(raw, dtype=dtype.dtype)
    # A view, never a copy: a pickle may ask for an array of the same bytes any number of times.
    return flat.reshape(shape, order="F" if order == "F" else "C")


_ADMITTED: Mapping[tuple[str, str], _Admitted] = {
    ("numpy", "dtype"): _Admitted(_Dtype),
    ("numpy", "ndarray"): _Admitted(_Array),
    ("_codecs", "encode"): _Admitted(_latin1),
    ("__builtin__", "bytes"): _Admitted(_no_bytes),
    **{
        (f"numpy.{core}.{module}", function): _Admitted(make)
        for core in ("core", "_core")  # NumPy 1 and 2
        for module, function, make in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    """Looks names up in a short table instead of importing them."""

    def find_class(self, module: str, name: str) -> Any:
        """Answer an admitted name.

        Raises:
            DatasetError: any other name.
        """
        if (module, name) not in _ADMITTED:
            wanted = ascii(f"{module}.{name}")[1:-1]  # on one line, whatever is in it
            raise DatasetError(
                f"the pickle wants to run {wanted:.200}, which is refused; only arrays of numbers, "
                "dicts, lists, tuples, strings and numbers are read"
            )
        return _ADMITTED[module, name]


def _finished(value: Any, done: dict[int, Any]) -> Any:
    """Put arrays in the place of their stand-ins; `done` holds what was met before, by identity.

    Without it a few lists that hold each other twice would take for ever.
    """
    match value:
        case _Array():
            if value.value is None:
                raise DatasetError("the pickle holds an array without content")
            return value.value
        case dict() | list() | tuple():
            if id(value) not in done:
                if isinstance(value, dict):
                    done[id(value)] = {key: _finished(item, done) for key, item in value.items()}
                else:
                    done[id(value)] = type(value)(_finished(item, done) for item in value)
            return done[id(value)]
        case _Dtype() | _Admitted():
            raise DatasetError("the pickle holds a type where data should be")
        case _:
            return value


def _array(where: str, field: str, value: object, largest: int) -> npt.NDArray[Any]:
    """`largest` is how many numbers there can be: no pickle writes one in less than a byte."""
    if _count(value, {}) > largest:
        raise DatasetError(f"{where}: {field} holds lists that hold each other again and again")
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise DatasetError(f"{where}: {field} cannot be an array ({error})") from error
    if array.dtype.kind not in "biuf" or array.ndim == 0:
        raise DatasetError(f"{where}: {field} must hold numbers per step, found {array.dtype} of shape {array.shape}")
    if len(array) == 0:
        raise DatasetError(f"{where}: {field} is empty")
    return array


def _count(value: object, known: dict[int, int]) -> int:
    """Leaves of nested lists, each list looked at once."""
    if not isinstance(value, list | tuple):
        return 1
    if id(value) not in known:
        known[id(value)] = sum(_count(item, known) for item in value)
    return known[id(value)]


def _check_against(where: str, arrays: Mapping[str, npt.NDArray[Any]], first: Mapping[str, npt.NDArray[Any]]) -> None:
    for field, array in arrays.items():
        if len(array) != len(arrays["rewards"]):
            raise DatasetError(f"{where}: {field} has {len(array)} steps but rewards has {len(arrays['rewards'])}")
        if field in first and array.shape[1:] != first[field].shape[1:]:
            raise DatasetError(
                f"{where}: {field} has shape {array.shape[1:]} per step but episode 0 has {first[field].shape[1:]}"
            )


def _ended(where: str, terminals: object, steps: int, largest: int) -> bool:
    flags = as_flags(where, "terminals", _array(where, "terminals", terminals, largest))
    if flags.shape != (steps,):
        raise DatasetError(f"{where}: terminals has shape {flags.shape}, expected ({steps},)")
    if flags[:-1].any():
        raise DatasetError(f"{where}: terminals is true at step {int(np.argmax(flags))}, before the episode's end")
    return bool(flags[-1])
