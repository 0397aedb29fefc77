"""`wikirl baseline`: what a Decision Transformer is compared with.

Nothing heavy is imported before it runs.
"""

import argparse
from pathlib import Path
from typing import Any

from wikirl.cli_parts import Result, add_fields, finishing, machine_flags, run_lines, use_threads


def add_baseline(parser: argparse.ArgumentParser) -> None:
    """Flags of `wikirl baseline`, and what runs."""
    from wikirl.recipes.baseline_settings import BaselineConfig

    def run(out: Path, device: str, num_threads: int | None, **options: Any) -> Result:
        from wikirl.recipes.baseline import baseline

        use_threads(num_threads)
        return {"run": str(out), **baseline(BaselineConfig(**options), out, device=device)}

    parser.add_argument("--out", type=Path, required=True, help="run folder; run again to continue")
    add_fields(parser, BaselineConfig)
    machine_flags(parser)
    finishing(parser, run, run_lines)
