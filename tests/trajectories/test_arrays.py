"""`arrays.py`: marks at ends of episodes, and `.npz` files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikirl.errors import DatasetError
from wikirl.trajectories.arrays import episode_borders, read_npz
from wikirl.trajectories.dataset import build_dataset

from .making import make_fields, marked, same_data

flags = st.lists(st.booleans(), min_size=1, max_size=40)


def _slow_borders(
    terminals: list[bool], timeouts: list[bool] | None, limit: int | None
) -> tuple[list[int], list[bool], int]:
    """D4RL's loop over steps, one by one."""
    starts, terminated, length = [0], [], 0
    for step, terminal in enumerate(terminals):
        length += 1
        cut = timeouts[step] if timeouts is not None else length == limit
        if terminal or cut:
            starts.append(step + 1)
            terminated.append(terminal)
            length = 0
    return starts, terminated, length


@given(flags, st.none() | st.integers(1, 9), st.booleans(), st.integers(0, 99))
def test_borders_equal_a_loop_over_steps(
    terminals: list[bool], limit: int | None, marked_cuts: bool, seed: int
) -> None:
    timeouts = np.random.default_rng(seed).random(len(terminals)) < 0.2 if marked_cuts else None
    borders = episode_borders(np.array(terminals), timeouts, limit)
    expected = _slow_borders(terminals, None if timeouts is None else timeouts.tolist(), limit)
    assert (borders.starts.tolist(), borders.terminated.tolist(), borders.dropped_steps) == expected


def test_a_step_marked_both_ways_has_terminated() -> None:
    both = np.array([False, True])
    assert episode_borders(both, both, None).terminated.tolist() == [True]


def _fields_with_ends(fields: dict[str, Any], layout: str) -> dict[str, Any]:
    flat = {key: fields[key] for key in ("observations", "actions", "rewards")}
    match layout:
        case "marks":
            return marked(fields)
        case "starts closed":
            return {**flat, "starts": fields["starts"], "terminated": fields["terminated"]}
        case "starts open":
            return {**flat, "starts": fields["starts"][:-1], "terminated": fields["terminated"]}
        case _:
            return {**flat, "episode_ends": fields["starts"][1:], "terminated": fields["terminated"]}


@pytest.mark.parametrize("layout", ["marks", "starts closed", "starts open", "episode_ends"])
@pytest.mark.parametrize("discrete", [False, True])
def test_npz_layouts(tmp_path: Path, layout: str, discrete: bool) -> None:
    fields = make_fields(discrete=discrete)
    np.savez_compressed(tmp_path / "logs.npz", **_fields_with_ends(fields, layout))
    dataset = read_npz(tmp_path / "logs.npz", name="logs", environment="Toy-v0")
    assert same_data(dataset, build_dataset("logs", **fields))
    assert dataset.environment == "Toy-v0"


def test_unfinished_steps_are_dropped_and_counted(tmp_path: Path) -> None:
    arrays = marked(make_fields((3, 5, 2)))
    arrays["terminals"][-1] = arrays["timeouts"][-1] = False
    np.savez(tmp_path / "logs.npz", **arrays)
    dataset = read_npz(tmp_path / "logs.npz", name="logs")
    assert (dataset.num_steps, dataset.details["dropped_steps"]) == (8, 2)


def _changed(**changes: Any) -> dict[str, Any]:
    arrays = {**marked(make_fields()), **changes}
    return {key: value for key, value in arrays.items() if value is not None}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (_changed(rewards=None), "logs: rewards missing; found actions, observations, terminals, timeouts"),
        (_changed(terminals=None, timeouts=None), "logs: terminated missing"),
        (_changed(terminals=None, terminated=[True]), "logs: episode_ends missing"),
        (
            _changed(terminals=np.zeros(10), timeouts=np.zeros(10)),
            "logs: no episode ends within the 10 steps",
        ),
        (_changed(terminals=np.zeros(9, bool)), r"logs: terminals has shape \(9,\) but rewards has \(10,\)"),
        (_changed(timeouts=np.zeros(11, bool)), r"logs: timeouts has shape \(11,\) but rewards has \(10,\)"),
        (_changed(terminals=np.full(10, 0.5)), "logs: terminals must hold only true and false"),
        (_changed(observations=np.zeros((12, 2))), "logs: observations has 12 steps but rewards has 10"),
        (
            _changed(terminals=None, starts=[0.0, 5.0], terminated=[True] * 2),
            "logs: starts must be .* found float64",
        ),
    ],
)
def test_bad_archives_give_one_line(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "logs.npz", **arrays)
    with pytest.raises(DatasetError, match=message) as caught:
        read_npz(tmp_path / "logs.npz", name="logs")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_archives(tmp_path: Path) -> None:
    path = tmp_path / "logs.npz"
    with pytest.raises(DatasetError, match=r"logs\.npz: not a readable \.npz archive: it is missing"):
        read_npz(path, name="logs")
    np.savez(path, **marked(make_fields()))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"logs\.npz: not a complete \.npz archive"):
        read_npz(path, name="logs")
    position = whole.index(b"rewards.npy") + 150
    path.write_bytes(
        whole[:position] + bytes(255 - byte for byte in whole[position : position + 8]) + whole[position + 8 :]
    )
    with pytest.raises(DatasetError, match=r"logs\.npz: not a readable"):
        read_npz(path, name="logs")


def test_objects_in_archives_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "logs.npz", **_changed(rewards=np.array([object] * 10)), allow_pickle=True)
    with pytest.raises(DatasetError, match=r"not a readable \.npz archive \(Object arrays cannot be loaded"):
        read_npz(tmp_path / "logs.npz", name="logs")
