"""A connection to Ray, and whether its nodes can make runs: room, the same folder, wikirl itself.

This file deliberately knows no queue and no run; only names of folders.
"""

import logging
import os
import signal
import socket
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import wikirl
from wikirl.errors import ConfigError, MissingExtraError, RunError
from wikirl.experiments.worker import Machine
from wikirl.reproducibility import available_cpus, choose_device

_CONNECT_SECONDS = 10.0
_OBJECT_STORE_BYTES = 100 * 2**20  # nothing but plans and reasons goes through it
# What decides where data are found; Ray itself knows only the environment of each node's `ray start`.
_PASSED_ON = ("WIKIRL_CACHE", "MINARI_DATASETS_PATH", "D4RL_DATASET_DIR", "HF_HOME", "HF_HUB_OFFLINE")


@contextmanager
def connected(address: str | None, machine: Machine, num_workers: int | None) -> Iterator[Any]:
    """The module `ray`, connected to the cluster at `address`, or to one of our own while the block lasts.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: no cluster is there.
    """
    ray = _import_ray()
    options: dict[str, Any] = {"address": address or "local"}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        num_workers = num_workers or max(available_cpus() // machine.num_threads, 1)
        options |= {"num_cpus": num_workers * machine.num_threads, "object_store_memory": _OBJECT_STORE_BYTES}
        options |= {"include_dashboard": False}
    elif address != "auto":
        _require_listening(address)
    options |= {"runtime_env": {"env_vars": _environment()}, "log_to_driver": False, "logging_level": logging.WARNING}
    before = signal.getsignal(signal.SIGTERM)
    try:
        with _without_news():
            ray.init(**options)
    except ConnectionError as error:
        raise ConfigError(f"expected a Ray cluster at {address}; found: {in_one_line(error)}") from error
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray's own ends the process at once
    try:
        with redirect_stdout(sys.stderr):  # what nodes complain of would go there
            yield ray
    finally:
        ray.shutdown()


def _import_ray() -> Any:
    # That a worker died is said by us, in a line. Ray reads this when it is imported.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed while executing a task")
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(
            f"expected Ray, to run on a cluster; it is not installed ({error}); pip install 'wikirl[ray]'"
        ) from error
    return ray


def _require_listening(address: str) -> None:
    """Ray itself asks a dead address for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise ConfigError(f"expected the cluster's address as host:port, or auto; found {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"expected a Ray cluster at {address}; found: {error}; is it up, is this its port?"
        ) from error


def _environment() -> dict[str, str]:
    """What workers need of ours: this very package, where it is not installed, and where data lie."""
    source = Path(wikirl.__file__).parents[1]
    paths = [] if source == Path(sysconfig.get_path("purelib")) else [str(source)]
    paths += filter(None, [os.environ.get("PYTHONPATH")])
    found = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return found | {"TQDM_MININTERVAL": "60"} | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})


@contextmanager
def _without_news() -> Iterator[None]:
    """Without the line in which Ray says that only its own user may talk to it."""
    logger = logging.getLogger("ray._private.authentication.authentication_token_setup")

    def is_worth_it(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Token authentication is enabled")

    logger.addFilter(is_worth_it)
    try:
        yield
    finally:
        logger.removeFilter(is_worth_it)


def placed(ray: Any, machine: Machine, *, is_local: bool) -> Machine:
    """The machine with its device decided, once for all nodes.

    Raises:
        ConfigError: no node has the cores, or the GPU; Ray would wait for one for ever.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    device = machine.device
    if is_local:
        device = choose_device(device)
    elif device == "auto":
        device = "cuda" if any(node.get("GPU", 0) >= 1 for node in nodes) else "cpu"
    device = device.partition(":")[0]  # which GPU is Ray's choice
    num_gpus = int(device == "cuda")
    if not any(node.get("CPU", 0) >= machine.num_threads and node.get("GPU", 0) >= num_gpus for node in nodes):
        found = "; ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
        raise ConfigError(
            f"expected a node with {machine.num_threads} cores and {num_gpus} GPUs for a run; found {found}; choose "
            "another --num-threads or --device, or add a node"
        )
    return replace(machine, device=device)


@contextmanager
def marked(folders: Iterable[Path]) -> Iterator[dict[Path, Path]]:
    """Folder to a file in it that no other folder has, while the block lasts."""
    marks = {folder: folder / f".ray-{uuid4().hex}" for folder in set(folders)}
    try:
        for folder, mark in marks.items():
            folder.mkdir(parents=True, exist_ok=True)
            mark.touch()
        yield marks
    finally:
        for mark in marks.values():
            mark.unlink(missing_ok=True)


def require_shared(ray: Any, marks: Iterable[Path]) -> None:
    """Have every node that can make runs look for the files.

    Raises:
        RunError: a node does not see one, or cannot import wikirl.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(max_retries=1, num_cpus=0)(_unseen)
    asked = []
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU", 0):
            there = look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
            asked.append((node["NodeManagerHostname"], there.remote(list(marks))))
    for name, answer in asked:
        try:
            unseen = ray.get(answer)
        except ray.exceptions.RayError as error:
            said = in_one_line(error)[-300:]
            raise RunError(
                f"expected node {name} to run wikirl; found: {said}; install there what is installed here"
            ) from error
        if unseen:
            raise RunError(not_shared(unseen[0].parent, name))


def _unseen(marks: list[Path]) -> list[Path]:
    """What a node answers: which of the files it does not see."""
    return [mark for mark in marks if not mark.exists()]


def not_shared(folder: Path, node: str) -> str:
    """What to say of a node that has another folder under this name, or none."""
    return (
        f"expected {folder} to be the same folder on every node; node {node} does not see what was written there; "
        "choose --out on a file system that the cluster shares, under the same path everywhere"
    )


def in_one_line(error: BaseException) -> str:
    """An error's message without its line breaks."""
    return " ".join(str(error).split())
