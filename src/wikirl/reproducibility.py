"""Seeds and provenance: what it takes to run again and get the same bits.

The library never draws from a global generator, with one exception: PyTorch's weight initialisation, just after
`seed_everything`.
"""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wikirl.errors import ConfigError

PACKAGES = (
    "wikirl",
    "torch",
    "numpy",
    "transformers",
    "tokenizers",
    "safetensors",
    "gymnasium",
    "mujoco",
    "minari",
    "h5py",
)


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A NumPy generator of its own for each purpose, so that one sampler's draws never shift another's."""
    return np.random.default_rng([seed, *purpose.encode()])


def seed_everything(seed: int) -> None:
    """Seed PyTorch's global generator, which draws weights; everything else takes a generator of its own."""
    torch.manual_seed(seed)


def available_cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(device: str) -> str:
    """Resolve `auto` to `cuda` where there is one, else `cpu`.

    Raises:
        ConfigError: the device does not exist here.
    """
    available = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if available else "cpu"
    if device != "cpu" and not (device.startswith("cuda") and available):
        raise ConfigError(
            f"expected device auto, cpu or cuda; found {device!r}, and CUDA is {available} here; use --device cpu"
        )
    return device


def choose_precision(precision: str, device: str) -> torch.dtype | None:
    """The autocast type for a precision setting; None for plain float32.

    `auto` takes bfloat16 where the hardware multiplies it natively (CUDA, or a CPU with AVX512-BF16 or AMX).

    Raises:
        ConfigError: an unknown setting.
    """
    match precision:
        case "float32":
            return None
        case "bfloat16":
            return torch.bfloat16
        case "auto":
            return torch.bfloat16 if device.startswith("cuda") or _cpu_has_bfloat16() else None
    raise ConfigError(f"expected precision auto, float32 or bfloat16; found {precision!r}")


def precision_name(autocast: torch.dtype | None) -> str:
    """What `choose_precision` chose, in a word."""
    return "float32" if autocast is None else str(autocast).removeprefix("torch.")


def _cpu_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux: assume the slow kind
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def provenance(seed: int) -> dict[str, Any]:
    """Where and how a run was made: versions, machine, seed, git commit, command and time (UTC)."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "seed": seed,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "num_cpus": os.cpu_count(),
            "num_threads": torch.get_num_threads(),
            "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "git": _git(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def _git() -> dict[str, Any] | None:
    """Commit and cleanliness of the checkout this package lies in; None when it is installed without one."""
    folder = Path(__file__).parent

    def ask(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if Path(ask("rev-parse", "--show-toplevel")) != folder.parents[1]:
            return None
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):  # no git, no commit yet
        return None
