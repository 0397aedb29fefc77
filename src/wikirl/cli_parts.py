"""What the verbs of the command line share: flags from dataclasses, results as lines and tables.

This file knows argparse and plain values. It deliberately knows no verb.
"""

import argparse
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any

Result = dict[str, Any]


def finishing(parser: argparse.ArgumentParser, run: Callable[..., Result], show: Callable[[Result], str]) -> None:
    """Add `--json` and say what runs and how its result is shown."""
    parser.add_argument("--json", action="store_true", help="print one JSON object to stdout and nothing else there")
    parser.set_defaults(run=run, show=show)


def machine_flags(parser: argparse.ArgumentParser) -> None:
    """`--device` and `--num-threads`."""
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument(
        "--num-threads", type=int, help="CPU threads (default: PyTorch's choice); the bits depend on it"
    )


def use_threads(num_threads: int | None) -> None:
    """Take `--num-threads` at its word; None leaves it to PyTorch."""
    if num_threads is not None:
        import torch

        torch.set_num_threads(max(num_threads, 1))


def add_fields(
    parser: argparse.ArgumentParser, config: type, *, only_given: bool = False, skip: tuple[str, ...] = ()
) -> None:
    """One `--flag` per field of a dataclass; its type, default and help come from the field.

    With `only_given`, flags that were not given are left out of the result, so that a preset can decide them. Fields
    in `skip` have no flag.
    """
    hints = typing.get_type_hints(config)
    for field in (field for field in fields(config) if field.name not in skip):
        options = _options(field, _without_none(hints[field.name]))
        if only_given and field.default is not MISSING:
            options |= {
                "default": argparse.SUPPRESS,
                "help": options["help"].replace("%(default)s", str(field.default)),
            }
        parser.add_argument("--" + field.name.replace("_", "-"), **options)


class _StoreTuple(argparse.Action):
    """Several values as the tuple that the field is."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, tuple(values))


def _options(field: Field[Any], kind: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"help": field.metadata.get("help", ""), "dest": field.name}
    if field.default is MISSING:
        options["required"] = True
    else:
        options["default"] = field.default
        if field.default not in (None, "", ()) and kind is not bool:
            several = isinstance(field.default, tuple)
            options["help"] += f" (default: {' '.join(field.default)})" if several else " (default: %(default)s)"
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is bool:
        return options | {"action": argparse.BooleanOptionalAction}
    if origin is typing.Literal:
        return options | {"choices": arguments}
    if origin is tuple:
        if typing.get_origin(arguments[0]) is typing.Literal:
            choices = {"choices": typing.get_args(arguments[0]), "metavar": "NAME"}
            return options | choices | {"nargs": "+", "action": _StoreTuple}
        return options | {"type": arguments[0], "nargs": "+", "metavar": "X", "action": _StoreTuple}
    return options | {"type": kind, "metavar": {int: "N", float: "X"}.get(kind, "NAME")}


def _without_none(hint: Any) -> Any:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def lines(result: Result) -> str:
    """One line per entry."""
    width = max(len(key) for key in result)
    return "\n".join(f"{key.replace('_', ' '):<{width}}  {cell(value)}" for key, value in result.items())


def run_lines(result: Result) -> str:
    """What a run that left a policy came to: its figures, and one line of scores per target return."""
    in_full = ("evaluations", "protocols", "summary", "warnings")
    figures = {key: value for key, value in result.items() if key not in in_full}
    for summary in result.get("summary", []):
        unit = "" if summary["last_normalized"] is None else " (normalised)"
        kind = "return" if summary["last_normalized"] is None else "normalized"
        values = ", ".join(
            f"{rule.replace('_', ' ')} {summary[f'{rule}_{kind}']:.1f}" for rule in ("last", "mean_last_four", "best")
        )
        target = summary["target_return"]
        figures["score" if target is None else f"target {target:g}"] = values + unit
    return lines(figures | ({"warning": "; ".join(result["warnings"])} if result.get("warnings") else {}))


def table(rows: list[Result]) -> str:
    """One row per entry, which share their keys."""
    if not rows:
        return "none"
    columns = list(rows[0])
    cells = [
        [key.replace("_", " ") for key in columns],
        *([cell(row[key]) for key in columns] for row in rows),
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def cell(value: Any) -> str:
    """A value in a line or a table."""
    match value:
        case None:
            return "–"
        case float():
            return f"{value:,.4g}" if abs(value) < 100 else f"{value:,.1f}"
        case int() if not isinstance(value, bool):
            return f"{value:,}"
        case list() | tuple():
            return ", ".join(cell(item) for item in value)
        case dict():
            return ", ".join(f"{key} {cell(item)}" for key, item in value.items())
    return str(value)
