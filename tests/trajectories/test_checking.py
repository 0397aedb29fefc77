import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.trajectories.making import make_dataset, make_fields, sound_fields
from wikirl.errors import ConfigError, DatasetError
from wikirl.trajectories.checking import check_dataset, check_trajectories, suggestions
from wikirl.trajectories.dataset import TrajectoryDataset, build_dataset
from wikirl.trajectories.sources import ASSETS
from wikirl.trajectories.storage import open_dataset, save_dataset


def of_returns(*returns: float) -> TrajectoryDataset:
    fields = make_fields([1] * len(returns))
    return build_dataset("toy", **{**fields, "rewards": np.array(returns)})


@pytest.mark.parametrize("name", sorted(path.stem for path in ASSETS.glob("*.hdf5")))
def test_shipped_data_are_sound(name: str) -> None:
    report = check_trajectories(f"builtin:{name}")
    assert {finding.severity for finding in report.findings} <= {"note"}
    json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.parametrize("name", ["hopper-medium", "hopper-medium-replay"])
def test_a_true_note_on_shipped_data(name: str) -> None:
    (finding,) = check_trajectories(f"builtin:{name}").findings
    assert "come within a tenth" in finding.message


def test_what_to_ask_for() -> None:
    found = suggestions(of_returns(*np.linspace(0, 2969.618, 101).tolist()))
    assert list(found.target_returns) == [2960, 2670]
    assert "best" in found.rule
    assert found.return_scale == pytest.approx(2969.618)
    assert (found.context_length, found.max_timesteps) == (1, 1)
    assert suggestions(make_dataset((3, 30, 8)), 20).context_length == 20


@pytest.mark.parametrize(
    ("returns", "targets"),
    [
        ((5.0,), (5,)),
        ((0.0, 0.0), (0,)),
        ((-4319.8, -375.3), (-376, -770)),
        ((1.0, 1.0, 1.0, 0.0), (1,)),
        ((0.012345, 0.0), (0.0123, 0.0111)),
        ((3e38, -3e38), (3e38, 2.4e38)),
    ],
)
def test_targets_never_ask_for_more_than_was_seen(returns: tuple[float, ...], targets: tuple[float, ...]) -> None:
    dataset = of_returns(*returns)
    found = suggestions(dataset)
    assert found.target_returns == pytest.approx(targets)
    assert max(found.target_returns) <= dataset.returns.max() * (1 + 1e-6 * np.sign(dataset.returns.max()))
    assert found.return_scale > 0


def test_the_most_severe_comes_first() -> None:
    fields = sound_fields()
    fields["actions"] = np.zeros_like(fields["actions"])
    fields["observations"][:, 0] = 1
    fields["observations"][:, 2] = fields["observations"][:, 1]
    report = check_dataset(build_dataset("faulty", **fields))
    assert [finding.severity for finding in report.findings] == ["error", "warning", "note"]
    assert [report.count(severity) for severity in ("error", "warning", "note")] == [1, 1, 1]


@pytest.mark.parametrize(
    "dataset",
    [
        make_dataset((1,)),
        make_dataset((1, 1)),
        make_dataset((7,)),
        make_dataset(discrete=True),
        build_dataset("frames", **{**make_fields(), "observations": np.zeros((10, 4, 20, 20), dtype=np.uint8)}),
        build_dataset("huge", **{**make_fields(), "rewards": np.full(10, 6e37)}),
        build_dataset("huge", **make_fields([2] * 30) | {"observations": np.resize([3e38, -3e38, 0], (60, 2))}),
        build_dataset("wide", **{**make_fields(), "observations": np.full((10, 2), 3e38) * [[1, -1]]}),
    ],
    ids=lambda dataset: f"{dataset.name} {dataset.num_steps} {dataset.num_episodes}",
)
def test_small_and_odd_data_make_a_report(dataset: TrajectoryDataset) -> None:
    found = check_dataset(dataset).to_json()
    json.dumps(found, allow_nan=False)
    assert found["statistics"]["num_steps"] == dataset.num_steps
    assert found["num_warnings"] == sum(finding["severity"] == "warning" for finding in found["findings"])


def test_many_coordinates_are_not_listed() -> None:
    wide = build_dataset("wide", **{**make_fields(), "observations": np.random.default_rng(0).normal(size=(10, 300))})
    statistics = check_dataset(wide).to_json()["statistics"]
    assert statistics["observations"] is None
    assert len(statistics["actions"]["mean"]) == 3


def test_data_that_cannot_be_read_make_a_report(tmp_path: Path) -> None:
    fields = sound_fields()
    fields["observations"][100:142, 1] = np.nan
    fields["starts"], fields["terminated"] = fields["starts"][:-1], fields["terminated"]
    np.savez(tmp_path / "nan.npz", **fields)
    report = check_trajectories(f"file:{tmp_path / 'nan.npz'}")
    (finding,) = report.findings
    assert (finding.severity, finding.topic) == ("error", "reading")
    assert "observations holds nan" in finding.message
    assert "42 of 2," in finding.message
    assert report.to_json()["statistics"] is None
    (tmp_path / "torn.hdf5").write_bytes(b"no")
    assert check_trajectories(str(tmp_path / "torn.hdf5")).count("error") == 1


def test_what_is_not_there_is_no_report(tmp_path: Path) -> None:
    for missing in ("builtin:nothing", f"file:{tmp_path / 'nothing.npz'}", "nothing"):
        with pytest.raises(DatasetError, match="nothing"):
            check_trajectories(missing)
    with pytest.raises(ConfigError, match="context_length"):
        check_trajectories("builtin:hopper-medium", context_length=0)


def test_a_folder_that_was_changed_afterwards(tmp_path: Path) -> None:
    save_dataset(build_dataset("sound", **sound_fields()), tmp_path / "saved")
    rewards = np.load(tmp_path / "saved" / "rewards.npy")
    rewards[3:5] = np.inf
    np.save(tmp_path / "saved" / "rewards.npy", rewards)
    with pytest.raises(DatasetError, match=r"rewards holds inf .* in episode 0, step 3; 2 of"):
        check_dataset(open_dataset(tmp_path / "saved"))
    assert check_trajectories(str(tmp_path / "saved")).count("error") == 1


def test_checking_leaves_the_data_alone() -> None:
    dataset = build_dataset("sound", **sound_fields())
    for field in ("observations", "actions", "rewards", "returns_to_go", "starts", "terminated"):
        getattr(dataset, field).flags.writeable = False
    one, other = check_dataset(dataset).to_json(), check_dataset(replace(dataset)).to_json()
    assert one == other
