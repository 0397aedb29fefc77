"""`importing.py` and what it is made of: every kind of table becomes the same data; what is wrong is said in a line."""

import csv
import gzip
import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikirl.errors import DatasetError, MissingExtraError
from wikirl.trajectories import parquet
from wikirl.trajectories.columns import ColumnMapping
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset
from wikirl.trajectories.delimited import open_csv
from wikirl.trajectories.importing import ImportOptions, import_trajectories
from wikirl.trajectories.storage import save_dataset
from wikirl.types import Space

from .making import make_dataset, make_fields, marked, same_data

Row = dict[str, Any]
GUESS = ColumnMapping()


def rows_of(fields: dict[str, Any]) -> list[Row]:
    """A row a step, with a column a coordinate."""
    rows = []
    for episode, (start, stop) in enumerate(zip(fields["starts"][:-1], fields["starts"][1:], strict=True)):
        for step in range(start, stop):
            action = fields["actions"][step]
            actions = (
                {"action": int(action)} if action.ndim == 0 else {f"act_{i}": float(a) for i, a in enumerate(action)}
            )
            rows.append(
                {
                    "episode": episode,
                    "step": step - start,
                    **{f"obs_{i}": float(value) for i, value in enumerate(fields["observations"][step])},
                    **actions,
                    "reward": float(fields["rewards"][step]),
                    "terminated": bool(fields["terminated"][episode] and step == stop - 1),
                }
            )
    return rows


def write_csv(path: Path, rows: Sequence[Row], delimiter: str = ",", **options: Any) -> Path:
    with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w", newline="", **options) as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_json_lines(path: Path, rows: Sequence[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def load(path: Path | str, mapping: ColumnMapping = GUESS, **options: Any) -> TrajectoryDataset:
    folder = Path(f"{path}-imported")
    shutil.rmtree(folder, ignore_errors=True)
    return import_trajectories(str(path), mapping, folder, ImportOptions(**options))


def refused(path: Path | str, mapping: ColumnMapping = GUESS, **options: Any) -> str:
    """The one line that an import ends with; nothing is left behind."""
    with pytest.raises(DatasetError) as caught:
        load(path, mapping, **options)
    assert not [entry for entry in Path(path).parent.iterdir() if f"{Path(path).name}-imported" in entry.name]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def by_step(fields: dict[str, Any]) -> list[Row]:
    """A row a step, with lists for vectors."""
    rows = []
    for row in rows_of(fields):
        lists = {
            "obs": [row["obs_0"], row["obs_1"]],
            "action": row.get("action", [row.get(f"act_{i}") for i in range(3)]),
        }
        rows.append({"episode": row["episode"], **lists, "reward": row["reward"], "terminated": row["terminated"]})
    return rows


def by_episode(fields: dict[str, Any], more: int) -> list[Row]:
    """An episode a row, with `more` observations than actions."""
    episodes = []
    for number, (start, stop) in enumerate(zip(fields["starts"][:-1], fields["starts"][1:], strict=True)):
        observations = fields["observations"][start:stop].tolist()
        episodes.append(
            {
                "observations": observations + [[9.0, 9.0]] * more,
                "actions": fields["actions"][start:stop].tolist(),
                "rewards": fields["rewards"][start:stop].tolist(),
                "terminated": bool(fields["terminated"][number]),
            }
        )
    return episodes


def with_semicolons(path: Path, fields: dict[str, Any]) -> Path:
    return write_csv(path / "logs.csv", rows_of(fields), ";")


WRITERS: dict[str, Callable[[Path, dict[str, Any]], Path]] = {
    "csv": lambda path, fields: write_csv(path / "logs.csv", rows_of(fields)),
    "semicolons": with_semicolons,
    "tabs": lambda path, fields: write_csv(path / "logs.tsv", rows_of(fields), "\t"),
    "gzip": lambda path, fields: write_csv(path / "logs.csv.gz", rows_of(fields)),
    "byte-order mark": lambda path, fields: write_csv(path / "logs.csv", rows_of(fields), encoding="utf-8-sig"),
    "steps": lambda path, fields: write_json_lines(path / "logs.jsonl", by_step(fields)),
    "episodes": lambda path, fields: write_json_lines(path / "logs.jsonl", by_episode(fields, 0)),
    "one observation more": lambda path, fields: write_json_lines(path / "logs.jsonl", by_episode(fields, 1)),
}


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_text_becomes_the_same_data(tmp_path: Path, kind: str, discrete: bool) -> None:
    fields = make_fields((3, 5, 2), discrete=discrete)
    dataset = load(WRITERS[kind](tmp_path, fields), environment="Toy-v0", name="mine")
    assert same_data(dataset, build_dataset("toy", **fields))
    assert (dataset.environment, dataset.name) == ("Toy-v0", "mine")
    assert isinstance(dataset.observations, np.memmap)
    assert len(dataset.details["sha256"]) == 64
    assert dataset.action_space == (Space.discrete(4) if discrete else Space((3,), "float32", -1.0, 1.0))


def test_large_text_is_read_in_several_blocks(tmp_path: Path) -> None:
    fields = make_fields([700] * 40)
    path = write_csv(tmp_path / "logs.csv", rows_of(fields))
    assert path.stat().st_size > 2 << 20
    assert same_data(load(path), build_dataset("toy", **fields))


def _flat(fields: dict[str, Any]) -> dict[str, Any]:
    episodes = np.repeat(np.arange(len(fields["terminated"])), np.diff(fields["starts"]))
    return {
        "state": np.asfortranarray(fields["observations"].astype(np.float64)), "act": fields["actions"],
        "rew": fields["rewards"], "traj_id": episodes, "done": marked(fields)["terminals"],
        "timeouts": marked(fields)["timeouts"],
    }  # fmt: skip


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_arrays_of_any_name(tmp_path: Path, kind: str, discrete: bool) -> None:
    fields = make_fields((30, 50, 20), discrete=discrete)
    path = tmp_path / f"logs.{kind}"
    if kind == "npz":
        np.savez_compressed(path, **_flat(fields))
    else:
        with h5py.File(path, "w") as file:
            for name, values in _flat(fields).items():
                file.create_dataset(name, data=values, chunks=(7, *values.shape[1:]), compression="gzip")
    dataset = load(path)
    assert same_data(dataset, build_dataset("toy", **fields))
    assert dataset.details["import"]["mapping"]["episode"] == "traj_id"
    assert dataset.details["import"]["warnings"] == []


def test_formats_with_their_own_layout_need_no_mapping(tmp_path: Path) -> None:
    fields = make_fields()
    expected = build_dataset("toy", **fields)
    np.savez(tmp_path / "logs.npz", **marked(fields))
    with h5py.File(tmp_path / "logs.h5", "w") as file:
        for name, values in marked(fields).items():
            file[name] = values
        file["notes"] = ["text that nobody asked for"]
    borders = zip(fields["starts"][:-1], fields["starts"][1:], strict=True)
    episodes = [{name: values[start:stop] for name, values in marked(fields).items()} for start, stop in borders]
    (tmp_path / "logs.pkl").write_bytes(pickle.dumps(episodes))
    for name in ("logs.npz", "logs.h5", "logs.pkl"):
        dataset = load(tmp_path / name)
        assert len(dataset.details["sha256"]) == 64
        assert same_data(dataset, expected)
        assert dataset.details["import"] == {"mapping": None, "warnings": []}
    assert "says itself what is what" in refused(tmp_path / "logs.pkl", ColumnMapping(reward="r"))


def test_unmarked_last_steps_of_an_own_layout_are_dropped_with_a_warning(tmp_path: Path) -> None:
    arrays = marked(make_fields((3, 5, 2)))
    arrays["terminals"][-1] = arrays["timeouts"][-1] = False
    np.savez(tmp_path / "logs.npz", **arrays)
    dataset = load(tmp_path / "logs.npz")
    assert dataset.num_steps == 8
    assert "2 steps after the last end were dropped" in dataset.details["import"]["warnings"][0]


BASE: list[Row] = [
    {"obs_0": 1, "obs_1": 2, "action": 0.5, "reward": 1, "episode": "a", "terminated": False, "step": 0},
    {"obs_0": 2, "obs_1": 3, "action": -0.5, "reward": 2, "episode": "a", "terminated": True, "step": 1},
    {"obs_0": 3, "obs_1": 4, "action": 0.25, "reward": 3, "episode": "b", "terminated": False, "step": 0},
    {"obs_0": 4, "obs_1": 5, "action": 0.75, "reward": 4, "episode": "b", "terminated": False, "step": 1},
    {"obs_0": 5, "obs_1": 6, "action": 0.0, "reward": 5, "episode": "b", "terminated": False, "step": 2},
]


def changed(*without: str, rows: Sequence[int] = range(5), **values: Sequence[Any]) -> list[Row]:
    """BASE without some columns, with other values in some, and in another order."""
    table = [{**row, **{name: given[number] for name, given in values.items()}} for number, row in enumerate(BASE)]
    return [{name: value for name, value in table[row].items() if name not in without} for row in rows]


def test_names_globs_and_ranges(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "logs.csv", changed())
    for observation in (("obs_1", "obs_0"), ("obs_?",), ("obs_0:obs_1",)):
        dataset = load(path, ColumnMapping(observation=observation))
        first = [2.0, 1.0] if observation[0] == "obs_1" else [1.0, 2.0]
        assert dataset.observations[0].tolist() == first


@pytest.mark.parametrize(
    ("without", "lengths", "terminated", "warning"),
    [
        (("terminated",), [2, 3], [False, False], "no column says which episodes reached a terminal state"),
        (("episode",), [2, 3], [True, False], None),
        (("episode", "step"), [2, 3], [True, False], "lost rows would go unnoticed"),
        (("episode", "terminated"), [2, 3], [False, False], "no column says"),
        (("step",), [2, 3], [True, False], None),
    ],
)
def test_what_tells_episodes_apart(
    tmp_path: Path, without: tuple[str, ...], lengths: list[int], terminated: list[bool], warning: str | None
) -> None:
    dataset = load(write_csv(tmp_path / "logs.csv", changed(*without)))
    assert (dataset.lengths.tolist(), dataset.terminated.tolist()) == (lengths, terminated)
    warnings = dataset.details["import"]["warnings"]
    assert warnings == [] if warning is None else any(warning in text for text in warnings)


@pytest.mark.parametrize("text", [False, True])
def test_scattered_rows_are_put_together(tmp_path: Path, text: bool) -> None:
    episode = {} if text else {"episode": [7, 7, 3, 3, 3]}
    dataset = load(write_csv(tmp_path / "logs.csv", changed(rows=[2, 0, 3, 1, 4], **episode)))
    assert dataset.observations[:, 0].tolist() == [3, 4, 5, 1, 2]
    assert dataset.actions[:, 0].tolist() == [0.25, 0.75, 0.0, 0.5, -0.5]
    assert dataset.terminated.tolist() == [False, True]
    assert "put together" in dataset.details["import"]["warnings"][0]


def test_last_rows_without_an_action_are_dropped(tmp_path: Path) -> None:
    rows = changed(action=[0.5, "", 0.25, 0.75, ""], reward=[1, "", 3, 4, ""])
    dataset = load(write_csv(tmp_path / "logs.csv", rows))
    assert dataset.lengths.tolist() == [1, 2]
    assert dataset.terminated.tolist() == [True, False], "the mark of the dropped row counts"
    assert "2 last rows without an action" in dataset.details["import"]["warnings"][0]
    rows = changed(action=["left", "", "right", "left", ""])
    dataset = load(write_csv(tmp_path / "words.csv", rows))
    assert dataset.actions.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("actions", "choices", "found"),
    [
        ([2, 0, 3, 0, 2], [0, 1, 2, 3], [2, 0, 3, 0, 2]),
        ([2, 4, 2, 3, 2], [2, 3, 4], [0, 2, 0, 1, 0]),
        ([-1, 1, 1, 0, -1], [-1, 0, 1], [0, 2, 2, 1, 0]),
        ([10**6, 0, 5, 5, 0], [0, 5, 10**6], [2, 0, 1, 1, 0]),
        (["left", "up", "left", "down", "up"], ["down", "left", "up"], [1, 2, 1, 0, 2]),
        ([True, False, False, True, True], ["False", "True"], [1, 0, 0, 1, 1]),
    ],
)
def test_choices_are_counted_from_zero(
    tmp_path: Path, actions: list[Any], choices: list[Any], found: list[int]
) -> None:
    dataset = load(write_csv(tmp_path / "logs.csv", changed(action=actions)))
    assert dataset.actions.tolist() == found
    assert dataset.details["import"]["choices"] == choices
    assert dataset.action_space == Space.discrete(len(choices) if max(found) + 1 == len(choices) else max(found) + 1)


def test_the_user_decides_whether_actions_are_choices(tmp_path: Path) -> None:
    whole = write_csv(tmp_path / "whole.csv", changed(action=[2, 0, 3, 0, 2]))
    assert load(whole, discrete=False).actions.tolist() == [[2.0], [0.0], [3.0], [0.0], [2.0]]
    assert "--discrete needs a few whole numbers or words as actions, found 0.5" in refused(
        write_csv(tmp_path / "logs.csv", changed()), discrete=True
    )
    words = write_csv(tmp_path / "words.csv", changed(action=["a", "b", "a", "b", "a"]))
    assert "--continuous needs numbers as actions, found 'a'" in refused(words, discrete=False)
    two = changed(action_1=[1, 2, 3, 4, 5])
    assert "--discrete needs actions in one column" in refused(write_csv(tmp_path / "two.csv", two), discrete=True)


def test_quotes_blank_lines_and_carriage_returns(tmp_path: Path) -> None:
    path = tmp_path / "logs.csv"
    path.write_bytes(
        b'"note, or so","obs_0","action","reward","run"\r\n'
        b'"a, b","1.5","-1",2,"x ""1"""\r\n\r\nplain,2.5,-0.5,3,"y\r\n2"\r\nc,3.5,0.5,"4",z\r\n\r\n  \r\n'
    )
    dataset = load(path)
    assert dataset.observations.ravel().tolist() == [1.5, 2.5, 3.5]
    assert dataset.rewards.tolist() == [2, 3, 4]
    assert dataset.num_episodes == 3


@given(st.lists(st.tuples(*[st.sampled_from(["", "1", "-2.5", '"3"', "4e-1"])] * 6), min_size=1, max_size=8))
def test_both_parsers_of_csv_agree(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]]) -> None:
    path = tmp_path_factory.mktemp("cells") / "cells.csv"
    names = ["before", "x", "y", "unused", "z", "after"]
    path.write_text("\n".join([",".join(names), "1,1,1,1,1,1", *map(",".join, rows)]))
    table = open_csv(path)
    chunks = list(table.chunks(["z", "x", "y", "before"]))
    with path.open() as file:
        expected = [row for row in csv.DictReader(file) if any(row.values())]
    for name in chunks[0]:
        found = np.concatenate([chunk[name] for chunk in chunks])
        np.testing.assert_array_equal(found, [float(row[name] or "nan") for row in expected])


CSV_TEXTS = {
    "": "it is empty",
    "\n\n": "there is nothing in it",
    "obs,action,reward,episode\n": "there are no rows below the header",
    "1,2,3\n4,5,6\n": r"the first line holds numbers (1, 2, 3); expected the names",
    "obs,obs,action,reward,done\n1,2,3,4,0\n": "more than one column is called obs",
    "obs,action,reward,done\n1,2,3,0\n1,2,3\n": "data row 2 has 3 cells but the header has 4",
    "obs,action,reward,done\n1,2,3,0\n1,2,3,0,5\n": "data row 2 has 5 cells but the header has 4",
    "obs,action,reward,done\n1,2,3,0\n,2,3,1\n": "data row 2, column obs: it is empty",
    "obs,action,reward,done\n1,2,3,0\n1,2,inf,1\n": "data row 2, column reward: it is inf",
    "obs,action,reward,done\n1,2,3,0\n1,,3,0\n1,2,3,1\n": "data row 2 has no action but is not the last of its",
    "obs,action,reward,done\n1,2,3,0\n1,2,3,maybe\n": "data row 2, column done: expected true or false, found 'maybe'",
    "obs,action,reward,done\n1,2,3,0\n1,2,3,7\n": "data row 2, column done: expected true or false, found '7.0'",
    "obs,action,reward,done\n1,2,3,\n1,2,3,1\n": "data row 1, column done: expected true or false, it is empty",
    "obs,action,reward,ep\n1,2,3,x\n1,2,3,\n": "data row 2, column ep: it is empty",
    "foo,action,reward,done\n1,2,3,0\n": "no column looks like an observation; name it with --observation. Columns:",
    "obs,bar,reward,done\n1,2,3,0\n": "no column looks like an action; name it with --action",
    "obs,action,win,done\n1,2,3,0\n": "no column looks like a reward; name it with --reward",
    "obs,action,reward\n1,2,3\n": "no column says where episodes end; name one with --episode, --terminated",
    "obs_0,state_0,action,reward,done\n1,2,3,4,0\n": "obs_0 or state_0 may be the observation; choose with",
    "obs,action,reward,ep,run\n1,2,3,4,0\n": "ep, run may each be an episode; choose with --episode",
    "obs,action,reward,ep,done\n1,2,3,4,1\n1,2,3,4,0\n": "data row 1 is marked as an end, and it is not the last",
    "obs,action,reward,ep,t\n1,2,3,4,0\n1,2,3,4,0\n": "timestep 0 comes twice in its episode",
    "obs,action,reward,ep,t\n1,2,3,4,0\n1,2,3,4,2\n": "data row 2: timestep 2 comes after 0: steps are missing",
    "obs,action,reward,ep,t\n1,2,3,4,1\n1,2,3,4,0\n": "timestep 0 comes after 1: sort the rows",
    "obs,action,reward,ep,t\n1,2,3,4,0\n1,2,3,4,\n": "data row 2, column t: it is empty",
    "obs\n1\n": "no column looks like an action",
    'obs,action,reward,ep\n1,2,"3,4\n': "data row 1 has 3 cells",
    "\x1b[31mobs\x1b[0m,b\n1,2\n": r"Columns: \x1b[31mobs\x1b[0m, b",
    "../../etc/passwd,b\n1,2\n": "Columns: ../../etc/passwd, b",
}


@pytest.mark.parametrize("text", CSV_TEXTS)
def test_what_is_wrong_with_a_csv_is_said_in_a_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "logs.csv"
    path.write_text(text)
    assert CSV_TEXTS[text] in refused(path)


def test_a_word_among_numbers_is_found_beyond_the_sample(tmp_path: Path) -> None:
    rows: list[Row] = [{"obs": number, "action": 0.5, "reward": 1, "episode": number // 100} for number in range(5000)]
    rows[4321]["reward"] = "n_one"
    expected = "data row 4322, column reward: expected a number as in the rows before, found 'n_one'"
    assert expected in refused(write_csv(tmp_path / "logs.csv", rows))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("obs,action\n1,ä\n".encode("latin-1"), "byte 13 is not UTF-8"),
        ("obs,action\n1,2\n".encode("utf-16"), "is UTF-16; write it again as UTF-8"),
        (b"obs,action,reward,ep\n1,2,3,4\n" + b"x" * (18 << 20), "a line is longer than"),
        (b'obs,action,reward,ep\n1,2,3,"4\n' + b"1,2,3,4\n" * (3 << 20), "a quote opens and does not close"),
        (b"obs,action,reward,ep\n1,2,3,4\n1,\x00,3,4\n", "byte 31 is zero; this is no text"),
        (gzip.compress(b"obs,action\n1,2\n", mtime=0), "this is no text"),
    ],
    ids=["latin-1", "utf-16", "long line", "open quote", "zero byte", "gzip"],
)
def test_bytes_that_are_no_csv(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "logs.csv").write_bytes(content)
    assert message in refused(tmp_path / "logs.csv")


JSON_TEXTS = {
    "{": "line 1 is no JSON",
    "[1, 2]": "line 1 is no JSON object but list",
    "[" * 5000: "line 1 is no JSON",
    '{"obs": [1, 2], "action": [1], "reward": 1, "ep": 1}\n{"obs": [1], "action": [1], "reward": 1, "ep": 1}': (
        "line 2, column obs: expected [2] numbers as in the first line, found [1]"
    ),
    '{"obs": 1, "action": 1, "reward": 1, "ep": 1}\n{"obs": "x", "action": 1, "reward": 1, "ep": 1}': (
        'line 2, column obs: expected a number as in the first line, found "x"'
    ),
    '{"obs": 1, "action": 1, "reward": 1, "ep": 1}\n{"obs": null, "action": 1, "reward": 1, "ep": 1}': (
        "data row 2, column obs: it is empty"
    ),
    '{"obs": 1, "action": 1, "reward": NaN, "ep": 1}': "data row 1, column reward: it is empty, or not a number",
    '{"obs": {"x": 1}, "action": 1, "reward": 1, "ep": 1}': "column obs must hold numbers",
    '{"obs": 1e999, "action": 1, "reward": 1, "ep": 1}': "data row 1, column obs: it is inf",
    '{"obs": 1' + "0" * 400 + ', "action": 1, "reward": 1, "ep": 1}': "column obs: expected a number",
    '{"obs": [1, 2, 3, 4], "action": [1, 2], "reward": [1, 2]}': "line 1: action has 2 entries, another list 4",
}


@pytest.mark.parametrize("text", JSON_TEXTS, ids=range(len(JSON_TEXTS)))
def test_what_is_wrong_with_json_is_said_in_a_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "logs.jsonl").write_text(text)
    assert JSON_TEXTS[text] in refused(tmp_path / "logs.jsonl")


def test_sources_that_are_none(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "nothing.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "is a folder, but not in Minari's layout" in refused(tmp_path / "folder.csv")
    (tmp_path / "logs.xls").write_text("x")
    assert "has suffix '.xls'; read are .csv" in refused(tmp_path / "logs.xls")
    save_dataset(make_dataset(), tmp_path / "set")
    assert "is a dataset folder already" in refused(tmp_path / "set")
    path = write_csv(tmp_path / "logs.csv", changed())
    for flag, mapping in (("action", ColumnMapping(action=("nope",))), ("reward", ColumnMapping(reward="nope"))):
        assert f"--{flag}: there is no column 'nope'. Columns: obs_0" in refused(path, mapping)


def test_a_used_folder_is_left_alone(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "logs.csv", changed())
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine").write_text("mine")
    with pytest.raises(DatasetError, match="set exists already"):
        import_trajectories(str(path), ColumnMapping(), tmp_path / "set")
    assert [entry.name for entry in (tmp_path / "set").iterdir()] == ["mine"]


def test_an_interrupted_import_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_csv(tmp_path / "logs.csv", changed())

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wikirl.trajectories.importing.arrange", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["logs.csv"]


def test_parquet_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logs.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r'pip install "wikirl\[parquet\]"'):
        parquet.open_parquet(tmp_path / "logs.parquet")


@pytest.mark.extras
@pytest.mark.parametrize("discrete", [False, True])
def test_parquet(tmp_path: Path, discrete: bool) -> None:
    import pyarrow
    from pyarrow import parquet as writer

    fields = make_fields((3, 5, 2), discrete=discrete)
    for name, rows in (("flat", rows_of(fields)), ("lists", by_step(fields))):
        writer.write_table(pyarrow.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
        assert same_data(load(tmp_path / f"{name}.parquet"), build_dataset("toy", **fields))
    words = changed(action=["left", None, "up", "left", None])
    writer.write_table(pyarrow.Table.from_pylist(words), tmp_path / "words.parquet")
    assert load(tmp_path / "words.parquet").actions.tolist() == [0, 1, 0]


@pytest.mark.extras
def test_broken_parquet(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet as writer

    path = tmp_path / "logs.parquet"
    table = pyarrow.Table.from_pylist(by_step(make_fields()))
    writer.write_table(table, path)
    path.write_bytes(path.read_bytes()[:-20])
    assert "not a readable Parquet file" in refused(path)
    writer.write_table(table.slice(0, 0), path)
    assert "there are no rows" in refused(path)
    ragged = pyarrow.table({"obs": [[1.0, 2.0], [1.0]], "action": [0.5, 0.5], "reward": [1, 1], "ep": [0, 0]})
    writer.write_table(ragged, path)
    assert "data row 2, column obs: expected 2 numbers as in the first row, found 1" in refused(path)
    nulls = pyarrow.table({"obs": [1, None], "action": [0.5, 0.5], "reward": [1, 1], "ep": [0, 0]})
    writer.write_table(nulls, path)
    assert "data row 2, column obs: it is empty" in refused(path)
