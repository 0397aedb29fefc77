"""Files that want to do harm, and files in which anything may have changed: one line, or the data; nothing else."""

import gzip
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikirl.errors import DatasetError, WikiRLError
from wikirl.trajectories.arrays import read_npz
from wikirl.trajectories.columns import ColumnMapping
from wikirl.trajectories.d4rl import read_hdf5
from wikirl.trajectories.dataset import build_dataset
from wikirl.trajectories.importing import import_trajectories
from wikirl.trajectories.minari import read_minari
from wikirl.trajectories.pickles import load_restricted, read_pickle
from wikirl.trajectories.storage import open_dataset, save_dataset

from .making import make_fields, marked, same_data


def one_line(read: Callable[..., Any], path: Path, *arguments: Any, **options: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        read(path, *arguments, name="logs", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def data_or_a_line(read: Callable[[], Any]) -> Any:
    """What is read, or None after one line; nothing else may happen."""
    try:
        return read()
    except WikiRLError as error:
        message = str(error)
    assert "\n" not in message
    return None


def _npy(shape: str, dtype: str = "<f4", body: bytes = b"", order: str = "False") -> bytes:
    header = f"{{'descr': {dtype!r}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def _archive(path: Path, method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Path:
    """A good archive in which some members are replaced."""
    arrays = marked(make_fields())
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                if name in members:
                    file.write(members[name])
                else:
                    np.lib.format.write_array(file, values)
    return path


ABSURD_SHAPES = {
    "(10,)": "announces 40 bytes of numbers but holds 0",
    "(1000000000000,)": "would inflate from",
    "(99999999999999999999999999, 3)": "announces an absurd shape",
    "(10, 1000000000)": "announces 1000000000 numbers a step",
    "(-5,)": "not a readable .npz archive",
    "(True, 2)": "not a readable .npz archive",
    "(" + "1, " * 3000 + ")": "announces an absurd shape",
    "(" * 200 + ")" * 200: "not a readable .npz archive",
    "'x'": "not a readable .npz archive",
    "None": "not a readable .npz archive",
}


@pytest.mark.parametrize("shape", ABSURD_SHAPES, ids=range(len(ABSURD_SHAPES)))
def test_absurd_headers_in_archives(tmp_path: Path, shape: str) -> None:
    assert ABSURD_SHAPES[shape] in one_line(read_npz, _archive(tmp_path / "logs.npz", rewards=_npy(shape)))


@pytest.mark.parametrize("dtype", ["O", "|O", "<f4,O", "S0", "V0", "M8[s]", "<U4", "nonsense", "|V8"])
def test_types_in_archives_that_are_no_numbers(tmp_path: Path, dtype: str) -> None:
    one_line(read_npz, _archive(tmp_path / "logs.npz", rewards=_npy("(10,)", dtype, bytes(160))))


def test_bombs_are_refused_before_they_inflate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wikirl.trajectories.stored.FREE_GROWTH_BYTES", 1 << 20)
    monkeypatch.setattr("wikirl.trajectories.text_lines.FREE_GROWTH_BYTES", 1 << 20)
    zeros = _npy(f"({1 << 22},)", body=bytes(1 << 24))
    assert "would inflate from" in one_line(read_npz, _archive(tmp_path / "bomb.npz", rewards=zeros))
    assert (tmp_path / "bomb.npz").stat().st_size < 1 << 16
    (tmp_path / "logs.jsonl.gz").write_bytes(gzip.compress(b" \n" * (1 << 22)))
    with pytest.raises(DatasetError, match="inflates to more than 200 times its size"):
        import_trajectories(str(tmp_path / "logs.jsonl.gz"), ColumnMapping(), tmp_path / "out")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression_is_refused(tmp_path: Path, method: int) -> None:
    assert "compressed by an unusual method" in one_line(read_npz, _archive(tmp_path / "logs.npz", method))


def test_names_that_lead_elsewhere_are_only_names(tmp_path: Path) -> None:
    path = tmp_path / "logs.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../../rewards.npy", "/etc/actions.npy", "obs\n.npy"):
            with archive.open(name, "w") as file:
                np.lib.format.write_array(file, np.zeros(3))
    message = one_line(read_npz, path)
    assert r"found ../../rewards, /etc/actions, obs\n" in message
    assert [entry.name for entry in tmp_path.iterdir()] == ["logs.npz"]


def _hdf5(path: Path, edit: Callable[[Any], None]) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in marked(make_fields()).items():
            file[name] = values
        edit(file)
    return path


def _replaced(file: Any, name: str, value: Any = None, **options: Any) -> None:
    del file[name]
    if options:
        file.create_dataset(name, **options)
    else:
        file[name] = value


def _virtual(file: Any) -> None:
    del file["rewards"]
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "rewards", (10,))
    file.create_virtual_dataset("rewards", layout)


HDF5 = {
    "dangling": (lambda f: _replaced(f, "rewards", h5py.SoftLink("/nowhere")), "is a link to /nowhere"),
    "itself": (lambda f: _replaced(f, "rewards", h5py.SoftLink("/rewards")), "is a link to /rewards"),
    "external": (lambda f: _replaced(f, "rewards", h5py.ExternalLink("../../x.h5", "r")), "is a link to ../../x.h5"),
    "external storage": (
        lambda f: _replaced(f, "rewards", shape=(10,), dtype="f4", external=[("/etc/passwd", 0, 40)]),
        "takes its numbers from other files",
    ),
    "virtual": (_virtual, "takes its numbers from other files"),
    "objects": (lambda f: _replaced(f, "rewards", ["a"] * 10), "holds objects"),
    "references": (lambda f: _replaced(f, "rewards", shape=(10,), dtype=h5py.ref_dtype), "holds objects"),
    "empty": (lambda f: _replaced(f, "rewards", h5py.Empty("f4")), "it has no shape"),
    "scalar": (lambda f: _replaced(f, "rewards", 1.0), "terminals has shape (10,) but rewards has ()"),
    "huge": (lambda f: _replaced(f, "rewards", shape=(10**14,), dtype="f4", chunks=(1000,)), "would inflate from 0"),
    "wide": (
        lambda f: _replaced(f, "observations", shape=(10, 10**10), dtype="f4", chunks=(1, 1000)),
        "announces 10000000000 numbers a step",
    ),
    "one block": (
        lambda f: _replaced(f, "observations", shape=(10, 2), maxshape=(None, 2), dtype="f8", chunks=(10**8, 2)),
        "is stored in blocks of 1600000000 bytes",
    ),
    "structures": (lambda f: _replaced(f, "rewards", np.zeros(10, "f4,f4")), "rewards must hold numbers"),
}  # fmt: skip


@pytest.mark.parametrize("what", HDF5)
def test_hdf5_files_that_want_to_do_harm(tmp_path: Path, what: str) -> None:
    edit, message = HDF5[what]
    assert message in one_line(read_hdf5, _hdf5(tmp_path / "logs.hdf5", edit))


def test_pickles_that_want_all_memory_or_time(tmp_path: Path) -> None:
    path = tmp_path / "logs.pkl"
    path.write_bytes(b"\x80\x02]r\xff\xff\xff\x7f.")
    assert "numbers 2147483647 objects" in one_line(read_pickle, path)
    laughs: list[Any] = [0.0]
    for _ in range(50):
        laughs = [laughs, laughs]
    path.write_bytes(pickle.dumps([dict.fromkeys(("observations", "actions", "rewards", "terminals"), laughs)]))
    assert "lists that hold each other again and again" in one_line(read_pickle, path)
    array = np.zeros(100_000, dtype=np.float32)
    shared = {"observations": array, "actions": array, "rewards": array, "terminals": np.zeros(100_000, bool)}
    path.write_bytes(pickle.dumps([shared] * 1000))
    assert "more than 200 times" in one_line(read_pickle, path)
    endless: list[Any] = []
    endless.append(endless)
    path.write_bytes(pickle.dumps(endless))
    with pytest.raises(DatasetError, match="impossible sizes"):
        load_restricted(path)


@pytest.mark.parametrize("suffix", ["npz", "hdf5", "pkl", "csv", "jsonl", "csv.gz"])
def test_places_that_are_no_files(tmp_path: Path, suffix: str) -> None:
    empty, folder, pipe = (tmp_path / f"{name}.{suffix}" for name in ("empty", "folder", "pipe"))
    empty.touch()
    folder.mkdir()
    os.mkfifo(pipe)
    for path, message in ((empty, "is empty"), (folder, "is a folder"), (pipe, "no plain file")):
        with pytest.raises(DatasetError, match=message):
            import_trajectories(str(path), ColumnMapping(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# What every reader takes, with what it should make of it.

FIELDS = make_fields((3, 5, 2))
EXPECTED = build_dataset("toy", **FIELDS)


def _write_npz(path: Path) -> None:
    np.savez(path, **marked(FIELDS))


def _write_packed_npz(path: Path) -> None:
    arrays: dict[str, Any] = {name: np.asfortranarray(values) for name, values in marked(FIELDS).items()}
    np.savez_compressed(path, **arrays)


def _write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, values in marked(FIELDS).items():
            file.create_dataset(name, data=values, chunks=(4, *values.shape[1:]), compression="gzip")


def _write_pickle(path: Path) -> None:
    borders = zip(FIELDS["starts"][:-1], FIELDS["starts"][1:], strict=True)
    flat = marked(FIELDS)
    path.write_bytes(pickle.dumps([{name: flat[name][start:stop] for name in flat} for start, stop in borders]))


def _rows() -> list[dict[str, Any]]:
    flat = marked(FIELDS)
    return [
        {
            **{f"obs_{i}": float(value) for i, value in enumerate(flat["observations"][step])},
            **{f"a{i}": float(value) for i, value in enumerate(flat["actions"][step])},
            "reward": float(flat["rewards"][step]),
            "done": int(flat["terminals"][step]),
            "timeout": int(flat["timeouts"][step]),
        }
        for step in range(10)
    ]


def _write_csv(path: Path) -> None:
    lines = [",".join(_rows()[0]), *(",".join(map(str, row.values())) for row in _rows())]
    path.write_text("\n".join(lines) + "\n")


def _write_packed_csv(path: Path) -> None:
    _write_csv(path)
    path.write_bytes(gzip.compress(path.read_bytes(), mtime=0))


def _write_json_lines(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in _rows()))


WRITERS = {
    "a.npz": _write_npz,
    "b.npz": _write_packed_npz,
    "a.hdf5": _write_hdf5,
    "a.pkl": _write_pickle,
    "a.csv": _write_csv,
    "b.csv.gz": _write_packed_csv,
    "a.jsonl": _write_json_lines,
}


@pytest.mark.parametrize("name", WRITERS)
def test_untouched_files_become_the_data(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    assert same_data(import_trajectories(str(tmp_path / name), ColumnMapping(), tmp_path / "out"), EXPECTED)


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Bytes changed, put in, cut out or cut off, a few times."""
    edits = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["change", "insert", "delete", "cut", "swap"]),
                st.floats(0, 1, exclude_max=True),
                st.binary(min_size=1, max_size=8)
                | st.sampled_from([b"\n", b",", b'"', b"[", b"nan", b"\xff" * 8, b"-1"]),
            ),
            min_size=1,
            max_size=4,
        )
    )

    def mutate(content: bytes) -> bytes:
        for what, share, patch in edits:
            place = int(share * len(content))
            match what:
                case "change":
                    content = content[:place] + patch + content[place + len(patch) :]
                case "insert":
                    content = content[:place] + patch + content[place:]
                case "delete":
                    content = content[:place] + content[place + 4 * len(patch) :]
                case "cut":
                    content = content[:place]
                case _:
                    content = content[place:] + content[:place]
        return content

    return mutate


@pytest.mark.parametrize("name", WRITERS)
@given(mutate=mutations())
def test_changed_bytes_end_in_a_line_or_in_data(
    tmp_path_factory: pytest.TempPathFactory, name: str, mutate: Callable[[bytes], bytes]
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    WRITERS[name](folder / name)
    (folder / name).write_bytes(mutate((folder / name).read_bytes()))
    dataset = data_or_a_line(lambda: import_trajectories(str(folder / name), ColumnMapping(), folder / "out"))
    if dataset is None:
        assert [entry.name for entry in folder.iterdir()] == [name]
    else:
        assert same_data(dataset, open_dataset(folder / "out"))


def _write_minari(folder: Path) -> tuple[Path, Path]:
    box = {"type": "Box", "dtype": "float32", "shape": [2], "low": [-9.0, -9.0], "high": [9.0, 9.0]}
    action = {"type": "Box", "dtype": "float32", "shape": [3], "low": [-1.0] * 3, "high": [1.0] * 3}
    metadata = {"observation_space": json.dumps(box), "action_space": json.dumps(action), "total_steps": 10}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    with h5py.File(folder / "main_data.hdf5", "w") as file:
        for episode, (start, stop) in enumerate(zip(FIELDS["starts"][:-1], FIELDS["starts"][1:], strict=True)):
            group = file.create_group(f"episode_{episode}")
            group["observations"] = np.concatenate([FIELDS["observations"][start:stop], np.zeros((1, 2), np.float32)])
            for field in ("actions", "rewards"):
                group[field] = FIELDS[field][start:stop]
            ends = np.arange(start, stop) == stop - 1
            group["terminations"] = ends & FIELDS["terminated"][episode]
            group["truncations"] = ends & ~FIELDS["terminated"][episode]
    return folder / "metadata.json", folder / "main_data.hdf5"


@pytest.mark.parametrize("which", [0, 1])
@given(mutate=mutations())
def test_changed_bytes_of_minari_end_in_a_line_or_in_data(
    tmp_path_factory: pytest.TempPathFactory, which: int, mutate: Callable[[bytes], bytes]
) -> None:
    files = _write_minari(tmp_path_factory.mktemp("odd"))
    assert same_data(read_minari(*files, name="logs"), EXPECTED)
    files[which].write_bytes(mutate(files[which].read_bytes()))
    data_or_a_line(lambda: read_minari(*files, name="logs"))


@given(mutate=mutations(), field=st.sampled_from(["dataset.json", "observations.npy", "starts.npy", "terminated.npy"]))
def test_changed_bytes_of_a_dataset_folder_end_in_a_line_or_in_data(
    tmp_path_factory: pytest.TempPathFactory, mutate: Callable[[bytes], bytes], field: str
) -> None:
    folder = tmp_path_factory.mktemp("odd") / "set"
    save_dataset(EXPECTED, folder)
    (folder / field).write_bytes(mutate((folder / field).read_bytes()))
    data_or_a_line(lambda: open_dataset(folder))


@pytest.mark.extras
@given(mutate=mutations())
def test_changed_bytes_of_parquet_end_in_a_line_or_in_data(
    tmp_path_factory: pytest.TempPathFactory, mutate: Callable[[bytes], bytes]
) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path_factory.mktemp("odd") / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(_rows()), path)
    path.write_bytes(mutate(path.read_bytes()))
    data_or_a_line(lambda: import_trajectories(str(path), ColumnMapping(), path.parent / "out"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["obs", "a", "r"]), inner, max_size=3),
    max_leaves=6,
)
records = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("obs", "action", "reward", "episode", "done", "t", "line"), json_values)
)


@given(st.lists(records, min_size=1, max_size=5))
def test_any_json_ends_in_a_line_or_in_data(tmp_path_factory: pytest.TempPathFactory, lines: list[Any]) -> None:
    path = tmp_path_factory.mktemp("odd") / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    data_or_a_line(lambda: import_trajectories(str(path), ColumnMapping(), path.parent / "out"))


cells = st.sampled_from(
    ["0", "1", "2.5", "-1e3", "", "nan", "inf", "true", "x", '"', '"a,b"', "1_0", " 3 ", "1e400", "٣"]
)


@given(st.lists(st.lists(cells, min_size=4, max_size=5), min_size=1, max_size=6), st.booleans())
def test_any_csv_ends_in_a_line_or_in_data(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], last: bool
) -> None:
    path = tmp_path_factory.mktemp("odd") / "a.csv"
    header = "obs,action,reward,episode" if last else "t,obs,reward,action,done"
    path.write_text("\n".join([header, *map(",".join, rows)]))
    data_or_a_line(lambda: import_trajectories(str(path), ColumnMapping(), path.parent / "out"))
