"""Frozen dataclasses from JSON, checked on the way in.

This file knows types and JSON. It deliberately knows nothing of runs and suites.
"""

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

from wikirl.errors import ConfigError

T = TypeVar("T")
_WORDS = {
    str: "text", int: "a whole number", float: "a finite number", bool: "true or false", dict: "an object",
    type(None): "null",
}  # fmt: skip


def value_from_json(kind: type[T], value: object, where: str) -> T:
    """A dataclass from its `asdict`, as JSON keeps it: tuples are lists there. Keys it does not know are left out.

    Fields may be plain values, objects (`dict[str, Any]`), tuples, other dataclasses (by their own `from_json` if they
    have one), and unions of one of these with None.

    Raises:
        ConfigError: something is missing or of the wrong kind; says where.
    """
    built: T = _dataclass(kind, value, where)
    return built


def _build(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _build(next(k for k in arguments if k is not type(None)), value, where)
    if origin is tuple:
        return _tuple(arguments, value, where)
    if origin in (dict, Mapping) or kind is dict:
        return _plain(dict, value, where)
    if hasattr(kind, "from_json"):
        return kind.from_json(_plain(dict, value, where))
    if is_dataclass(kind):
        return _dataclass(kind, value, where)
    return _plain(kind, value, where)


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    given, hints = _plain(dict, value, where), typing.get_type_hints(kind)
    missing = [item.name for item in fields(kind) if item.name not in given and item.default is MISSING]
    if missing:
        raise ConfigError(
            f"expected {', '.join(missing)} at {where}; found only {', '.join(map(str, given)) or 'nothing'}"
        )
    names = [item.name for item in fields(kind) if item.name in given]
    return kind(**{name: _build(hints[name], given[name], f"{where}.{name}") for name in names})


def _tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    items = _plain(list, value, where)
    kinds = [arguments[0]] * len(items) if arguments[-1] is Ellipsis else list(arguments)
    if len(items) != len(kinds):
        raise ConfigError(f"expected {len(kinds)} values at {where}; found {len(items)}")
    return tuple(_build(kind, item, f"{where}[{k}]") for k, (kind, item) in enumerate(zip(kinds, items, strict=True)))


def _plain(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if kind is not float and type(value) is kind:
        return value
    found = repr(value)
    raise ConfigError(
        f"expected {_WORDS.get(kind, 'a list')} at {where}; found {found if len(found) < 60 else found[:57] + '…'}"
    )
