"""Each finding about episodes: data that has the fault, and the sound data it was made from, which has none."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.trajectories.making import Fields, make_dataset, make_fields, sound_fields
from wikirl.trajectories.checking import check_dataset
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset
from wikirl.trajectories.findings import Finding

Change = Callable[[Fields], Fields]


def findings(dataset: TrajectoryDataset, **options: Any) -> tuple[Finding, ...]:
    return check_dataset(dataset, **options).findings


def find(words: str, found: tuple[Finding, ...]) -> Finding:
    """The only finding with these words."""
    hits = [finding for finding in found if words in finding.message]
    assert len(hits) == 1, [finding.message for finding in found]
    return hits[0]


@pytest.mark.parametrize("discrete", [False, True])
def test_sound_data_has_no_findings(discrete: bool) -> None:
    for seed in range(3):
        assert findings(build_dataset("sound", **sound_fields(discrete=discrete, seed=seed))) == ()


def _returns(values: npt.ArrayLike) -> Change:
    """Give episodes these returns, spread over their steps, over and over."""

    def change(fields: Fields) -> Fields:
        lengths = np.diff(fields["starts"])
        wanted = np.resize(np.asarray(values, dtype=np.float64), len(lengths))
        return {**fields, "rewards": np.repeat(wanted / lengths, lengths)}

    return change


def _ends(terminated: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]]) -> Change:
    return lambda fields: {**fields, "terminated": terminated(np.diff(fields["starts"]))}


def _lengths(*lengths: int) -> Change:
    """Cut the same steps into other episodes; all of them cut by the log but every other one."""

    def change(fields: Fields) -> Fields:
        many = list(np.resize(lengths, len(fields["rewards"])))
        starts = np.concatenate([[0], np.cumsum(many)])
        starts = starts[starts <= len(fields["rewards"])]
        steps = int(starts[-1])
        flat = {field: fields[field][:steps] for field in ("observations", "actions", "rewards")}
        return {**flat, "starts": starts, "terminated": np.arange(len(starts) - 1) % 2 == 0}

    return change


def _one_episode(fields: Fields) -> Fields:
    return {**fields, "starts": np.array([0, len(fields["rewards"])]), "terminated": np.array([False])}


def _one_huge(fields: Fields) -> Fields:
    return {**fields, "starts": np.delete(fields["starts"], slice(10, 50)), "terminated": fields["terminated"][40:]}


def _some_lost(fields: Fields) -> Fields:
    return {**fields, "starts": np.delete(fields["starts"], [5, 20, 40]), "terminated": fields["terminated"][3:]}


def _repeated(count: int) -> Change:
    def change(fields: Fields) -> Fields:
        parts = [slice(*fields["starts"][e : e + 2]) for e in range(count)]
        more = {k: np.concatenate([fields[k], *(fields[k][p] for p in parts)]) for k in ("observations", "actions")}
        rewards = np.concatenate([fields["rewards"], *(fields["rewards"][p] for p in parts)])
        added = fields["starts"][-1] + np.cumsum([p.stop - p.start for p in parts])
        ends = np.concatenate([fields["terminated"], fields["terminated"][:count]])
        return {**more, "rewards": rewards, "starts": np.concatenate([fields["starts"], added]), "terminated": ends}

    return change


CASES: dict[str, tuple[Change, str, str, str]] = {
    "time limit as terminal": (_ends(lambda n: n > 0), "warning", "ends", "after exactly 60 steps"),
    "all of one length": (_lengths(10), "warning", "ends", "after exactly 10 steps"),
    "no terminal": (_ends(lambda n: n < 0), "warning", "ends", "no episode terminated"),
    "no cut": (_lengths(40, 50, 44, 30, 61, 62, 48, 39), "note", "ends", "none was cut"),
    "one episode": (_one_episode, "warning", "ends", "are one episode"),
    "a huge one": (_one_huge, "warning", "ends", "its ends seem to be lost"),
    "lost ends": (_some_lost, "warning", "ends", "jumps to where episodes start"),
    "single steps": (_lengths(1), "warning", "episodes", "every episode has one step"),
    "some single steps": (_lengths(40, 1, 30, 50, 60), "warning", "episodes", "of the episodes have a single step"),
    "short episodes": (_lengths(8, 6, 9, 11), "note", "episodes", "mostly padding"),
    "one copy": (_repeated(1), "warning", "episodes", "1 of 61 episodes (1.6 %) repeat"),
    "no rewards": (_returns([0.0]), "warning", "returns", "every reward is 0"),
    "equal returns": (_returns([7.5]), "warning", "returns", "all 60 episodes return 7.5"),
    "tiny returns": (_returns([0.001, 0.002, 0.003]), "warning", "returns", "0.003 in size"),
    "narrow returns": (_returns([100, 101, 100.5]), "note", "returns", "hardly differ"),
    "a far return": (_returns([*range(59), 1e5]), "warning", "returns", "1 return far from all others: 100,000 of"),
    "rare best": (_returns([*range(59), 100]), "note", "returns", "1 of 60 episodes"),
}
ENDED = {"all of one length", "no cut"}  # faults of what is also all terminated


@pytest.mark.parametrize("name", CASES)
def test_what_is_found(name: str) -> None:
    change, severity, topic, words = CASES[name]
    fields = change(sound_fields())
    if name in ENDED:
        fields["terminated"] = np.ones_like(fields["terminated"])
    found = find(words, findings(build_dataset("faulty", **fields)))
    assert (found.severity, found.topic) == (severity, topic)
    assert found.advice


def test_a_limit_with_cuts_is_no_mistake() -> None:
    fields = _lengths(60)(sound_fields())  # half of the episodes terminated in the very step of the limit
    assert not [f for f in findings(build_dataset("limit", **fields)) if f.topic == "ends"]


def test_lengths_of_few_steps_pile_up_without_a_limit() -> None:
    fields = _lengths(9, 10, 8, 10, 10, 7)(sound_fields())
    fields["terminated"] = np.ones_like(fields["terminated"])
    assert "none was cut" in "".join(f.message for f in findings(build_dataset("short", **fields)))
    assert "exactly" not in "".join(f.message for f in findings(build_dataset("short", **fields)))


def test_cuts_of_one_length_are_no_mistake() -> None:
    fields = _lengths(60)(sound_fields())
    fields["terminated"] = np.zeros_like(fields["terminated"])
    assert not [f for f in findings(build_dataset("cut", **fields)) if f.topic == "ends"]


@pytest.mark.parametrize(("dropped", "severity"), [(3, "note"), (2000, "warning")])
def test_steps_that_were_left_out(dropped: int, severity: str) -> None:
    dataset = build_dataset("cut", **sound_fields(), details={"dropped_steps": dropped})
    assert find("were left out", findings(dataset)).severity == severity


def test_little_data() -> None:
    found = findings(make_dataset())
    assert find("only 3 episodes", found).severity == "warning"
    assert find("10 steps fill 0.5 windows of 20", found).severity == "warning"
    assert find("windows of 1", findings(make_dataset(), context_length=1)).topic == "amount"


def test_copies_are_a_note_where_they_are_rare() -> None:
    fields = _repeated(1)(sound_fields(120))
    assert find("repeat another one", findings(build_dataset("copy", **fields))).severity == "note"


def test_one_step() -> None:
    fields = make_fields((1,))
    found = findings(build_dataset("one", **fields))
    assert {finding.topic for finding in found} >= {"amount", "actions", "observations"}
