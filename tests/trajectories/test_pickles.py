"""`pickles.py`: Decision Transformer's files are read; nothing in a pickle is ever run."""

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikirl.errors import DatasetError
from wikirl.trajectories.dataset import build_dataset
from wikirl.trajectories.pickles import load_restricted, read_pickle

from .making import Fields, make_fields, same_data


def _episodes(fields: Fields) -> list[dict[str, Any]]:
    episodes = []
    for number, (start, stop) in enumerate(zip(fields["starts"][:-1], fields["starts"][1:], strict=True)):
        episode = {key: fields[key][start:stop] for key in ("observations", "actions", "rewards")}
        terminals = np.zeros(stop - start, dtype=bool)
        terminals[-1] = fields["terminated"][number]
        episodes.append({**episode, "next_observations": episode["observations"] + 1, "terminals": terminals})
    return episodes


def _dump(path: Path, value: Any, protocol: int = pickle.DEFAULT_PROTOCOL) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("discrete", [False, True])
def test_every_protocol_is_read(tmp_path: Path, protocol: int, discrete: bool) -> None:
    fields = make_fields(discrete=discrete)
    path = _dump(tmp_path / "logs.pkl", _episodes(fields), protocol)
    dataset = read_pickle(path, name="logs", environment="Toy-v0")
    assert same_data(dataset, build_dataset("logs", **fields))
    assert dataset.environment == "Toy-v0"


def test_numpy_1_paths_are_read(tmp_path: Path) -> None:
    fields = make_fields()
    content = pickle.dumps(_episodes(fields), protocol=2)  # protocol 2 names globals in lines that can be edited
    assert b"numpy._core.multiarray\n" in content
    path = tmp_path / "logs.pkl"
    path.write_bytes(content.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n"))
    assert same_data(read_pickle(path, name="logs"), build_dataset("logs", **fields))


def test_lists_of_numbers_are_read(tmp_path: Path) -> None:
    fields = make_fields()
    lists = [{key: value.tolist() for key, value in episode.items()} for episode in _episodes(fields)]
    assert same_data(read_pickle(_dump(tmp_path / "logs.pkl", lists), name="logs"), build_dataset("logs", **fields))


arrays = st.sampled_from(["<f4", ">f8", "<i8", ">i2", "u1", "?", "<f2"])


@given(arrays, st.lists(st.integers(0, 4), min_size=0, max_size=3), st.booleans(), st.integers(0, 5))
def test_arrays_come_back_equal(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, shape: list[int], fortran: bool, protocol: int
) -> None:
    values = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    array = np.asfortranarray(values) if fortran else np.asarray(values)
    value = {"array": array, "number": np.float64(0.5), "nested": [(1, "text", None, 2.5, True)]}
    loaded = load_restricted(_dump(tmp_path_factory.mktemp("pickles") / "value.pkl", value, protocol))
    np.testing.assert_array_equal(loaded.pop("array"), array)
    assert loaded == {"number": 0.5, "nested": [(1, "text", None, 2.5, True)]}


class _Runs:
    def __init__(self, function: Any, *arguments: Any):
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, r"(posix|os)\.system"),
        (eval, r"(builtins|__builtin__)\.eval"),
        (exec, r"(builtins|__builtin__)\.exec"),
        (getattr, r"(builtins|__builtin__)\.getattr"),
        (np.load, r"numpy\.load"),
        (np.fromfile, r"numpy.*fromfile"),
    ],
)
def test_other_globals_are_refused_by_name_and_not_run(tmp_path: Path, protocol: int, function: Any, name: str) -> None:
    mark = tmp_path / "ran"
    path = _dump(tmp_path / "evil.pkl", [_Runs(function, f"touch {mark}")], protocol)
    with pytest.raises(DatasetError, match=rf"evil\.pkl: the pickle wants to run {name}, which is refused") as caught:
        read_pickle(path, name="evil")
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def _handmade(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def test_a_name_with_a_line_break_stays_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "evil.pkl").write_bytes(b"\x80\x04\x8c\x03o\ns\x8c\x06system\x93.")
    with pytest.raises(DatasetError, match=r"wants to run o\\ns\.system, which is refused"):
        load_restricted(tmp_path / "evil.pkl")


DTYPE = b"cnumpy\ndtype\n"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps([{"rewards": np.array([None, 1], dtype=object)}]), "type 'O8'; only numbers"),
        (pickle.dumps([np.zeros(2, dtype=[("a", "f4"), ("b", "O")])]), "only numbers are admitted"),
        (pickle.dumps([np.array(["text"])]), "only numbers are admitted"),
        (pickle.dumps([np.datetime64("2020-01-01")]), "only numbers are admitted"),
        (pickle.dumps([np.dtype("f4")]), "a type where data should be"),
        (pickle.dumps([np.zeros(2, dtype="f4,f4")]), "only numbers are admitted"),
        (_handmade(b"cos\nsystem\n"), r"wants to run os\.system"),
        (_handmade(b"cnumpy\nndarray.tofile\n"), r"wants to run numpy\.ndarray\.tofile"),
        (_handmade(DTYPE + b"}b"), "wants to change a function"),
        (_handmade(DTYPE + b"}X\x05\x00\x00\x00_makeNsb"), "wants to change a function"),
        (_handmade(DTYPE + b"."), "a type where data should be"),
        (_handmade(RECONSTRUCT + b")R."), "an array without content"),
        (_handmade(RECONSTRUCT + b")R(K\x01K\x02tb"), "an array of objects"),
        (_handmade(b"ccopyreg\n_reconstructor\n"), r"wants to run copyreg\._reconstructor"),
    ],
)
def test_what_is_no_plain_number_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "odd.pkl"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_pickle(path, name="odd")


def test_a_dtype_state_with_forged_flags_is_refused(tmp_path: Path) -> None:
    # A void type that claims to hold objects would make NumPy follow addresses from the file.
    body = DTYPE + b"(X\x02\x00\x00\x00V8I00\nI01\ntR"
    (tmp_path / "forged.pkl").write_bytes(_handmade(body))
    with pytest.raises(DatasetError, match="type 'V8'; only numbers"):
        load_restricted(tmp_path / "forged.pkl")


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 5))
def test_truncated_pickles_give_one_line(tmp_path_factory: pytest.TempPathFactory, share: float, protocol: int) -> None:
    whole = pickle.dumps(_episodes(make_fields()), protocol=protocol)
    path = tmp_path_factory.mktemp("pickles") / "half.pkl"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DatasetError, match=r"half\.pkl") as caught:
        read_pickle(path, name="half")
    assert "\n" not in str(caught.value)


@given(st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 5))
def test_corrupted_pickles_never_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, position: int, byte: int, protocol: int
) -> None:
    content = bytearray(pickle.dumps(_episodes(make_fields((2, 1))), protocol=protocol))
    content[position % len(content)] = byte
    path = tmp_path_factory.mktemp("pickles") / "odd.pkl"
    path.write_bytes(content)
    with contextlib.suppress(DatasetError):
        read_pickle(path, name="odd")


def _edit(**changes: Any) -> Any:
    episodes = _episodes(make_fields())
    episodes[1] = {key: value for key, value in {**episodes[1], **changes}.items() if value is not None}
    return episodes


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"observations": []}, "expected a list of dicts, one per episode, found dict"),
        ([1, 2], "expected a list of dicts"),
        ([], "there are no episodes"),
        ([{1: 2}], r"logs, episode 0: expected names of fields as keys, found \[1\]"),
        (_edit(rewards=None), "logs, episode 1: rewards missing; found actions, next_observations"),
        (_edit(rewards=[]), "logs, episode 1: rewards is empty"),
        (_edit(rewards="text"), "logs, episode 1: rewards must hold numbers"),
        (_edit(actions=np.zeros((4, 3))), "logs, episode 1: actions has 4 steps but rewards has 5"),
        (_edit(observations=np.zeros((5, 7))), r"logs, episode 1: observations has shape \(7,\) .* \(2,\)"),
        (_edit(observations=[[1.0], [1.0, 2.0]]), "logs, episode 1: observations cannot be an array"),
        (_edit(rewards=np.full(5, np.nan)), "logs: rewards holds nan .* in episode 1, step 0"),
        (_edit(terminals=[False] * 4), r"logs, episode 1: terminals has shape \(4,\), expected \(5,\)"),
        (
            _edit(terminals=[False, True, False, False, False]),
            "terminals is true at step 1, before the episode's end",
        ),
    ],
)
def test_other_content_gives_one_line(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_pickle(_dump(tmp_path / "logs.pkl", value), name="logs")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not a readable pickle: it is missing"):
        read_pickle(tmp_path / "nowhere.pkl", name="logs")
