"""Minari datasets from their hub, by the minari package, or from a folder.

This file knows when no network is worth asking. It deliberately does not know how datasets are read (`minari`).
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import h5py
from tqdm import tqdm

from wikirl.errors import DatasetError, MissingExtraError
from wikirl.trajectories.connections import require_reachable
from wikirl.trajectories.downloads import fetch, sha256_of

_NAMESPACE_FILE = "namespace_metadata.json"  # Source: minari/namespace.py


def download(dataset_id: str, root: Path, *, mirror: str | None, local_ids: Sequence[str]) -> None:
    """Fetch a dataset into Minari's folder, or the rest of one that was interrupted.

    Args:
        dataset_id: NAME-vN or NAMESPACE/NAME-vN, already checked.
        root: Minari's folder.
        mirror: `hf://ORG`, or a folder that holds datasets as Minari's own does; default `$MINARI_REMOTE`, else where
            minari keeps its own. Another hub is named by `$HF_ENDPOINT`.
        local_ids: What to say is there, offline.

    Raises:
        DatasetError: the hub cannot be reached or has no such dataset that this version of minari reads.
        MissingExtraError: a package for downloads is missing.
    """
    missing = f"minari:{dataset_id} is not in {root}"
    if mirror and "://" not in mirror:
        _copy(dataset_id, root, Path(mirror).expanduser())
        return
    if mirror and not mirror.startswith("hf://"):
        raise DatasetError(
            f"a mirror of Minari is hf://ORG or a folder; found {mirror}; name another hub in HF_ENDPOINT"
        )
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        there = ", ".join(local_ids) or "none"
        raise DatasetError(f"{missing} (there: {there}) and HF_HUB_OFFLINE forbids to download it")
    try:
        import minari
        from huggingface_hub import constants
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise MissingExtraError(f"{missing}; to download it, pip install 'minari[hdf5,hf]' ({error})") from error
    # HfHubHTTPError is an OSError and an error of its HTTP client. Without a network the client's error comes
    # bare, and its package (httpx, httpx2) depends on the hub's version: so ask the class for its bases.
    expected: tuple[type[Exception], ...] = (ValueError, ImportError, *HfHubHTTPError.__bases__)
    try:
        if (mirror or os.environ.get("MINARI_REMOTE", "hf://")).startswith("hf://"):
            require_reachable(constants.ENDPOINT)  # the hub's own client would try for 25 seconds
        with contextlib.redirect_stdout(sys.stderr):  # minari prints; stdout belongs to our own caller
            # What an interrupted download left would count as there, unless forced.
            minari.download_dataset(
                f"{mirror}/{dataset_id}" if mirror else dataset_id, force_download=(root / dataset_id).exists()
            )
    except expected as error:
        line = " ".join(str(error).split())
        raise DatasetError(
            f"{missing} and cannot be downloaded ({line}); copy the dataset there, or name a mirror with "
            "wikirl data download --mirror"
        ) from error
    episodes = root / dataset_id / "data" / "main_data.hdf5"
    if episodes.is_file():
        size = f"{episodes.stat().st_size:,} bytes, SHA-256 {sha256_of(episodes)}"
        tqdm.write(f"minari:{dataset_id}: {episodes.name} has {size}", file=sys.stderr)


def name_namespaces(folder: Path, root: Path) -> None:
    """Leave in every folder from `folder` up to the root the file by which minari knows a namespace."""
    while folder != root:
        path = folder / _NAMESPACE_FILE
        if not path.exists():
            path.write_text("{}", encoding="utf-8")
        folder = folder.parent


def _copy(dataset_id: str, root: Path, mirror: Path) -> None:
    source, target = (folder / dataset_id / "data" for folder in (mirror, root))
    if not (source / "metadata.json").is_file():
        raise DatasetError(f"minari:{dataset_id} is neither in {root} nor in {mirror}")
    for name, is_right, kind in (
        ("main_data.hdf5", h5py.is_hdf5, "HDF5 file"),
        ("metadata.json", _is_object, "JSON object"),  # the last, because with it a dataset counts as there
    ):
        if not (target / name).is_file():
            fetch(str(source / name), target / name, is_right=is_right, kind=kind)
    name_namespaces((root / dataset_id).parent, root)


def _is_object(path: Path) -> bool:
    return path.read_bytes().lstrip().startswith(b"{")
