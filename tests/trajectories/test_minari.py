"""`minari.py`: datasets that minari itself has written, and what is refused."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest
from minari import create_dataset_from_buffers
from minari.data_collector import EpisodeBuffer
from PIL import Image

from wikirl.errors import DatasetError
from wikirl.trajectories import stored
from wikirl.trajectories.columns import ColumnMapping
from wikirl.trajectories.dataset import build_dataset
from wikirl.trajectories.importing import import_trajectories
from wikirl.trajectories.minari import local_ids, read_minari, source_files
from wikirl.types import Space

from .making import make_fields, same_data
from .serving import free_port

BOX = gym.spaces.Box(-np.inf, np.inf, (2,), dtype=np.float32)
ACTIONS = gym.spaces.Box(-1, 1, (3,), dtype=np.float32)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "minari"


def _buffers(fields: dict[str, Any], wrap: Any = lambda observations: observations) -> list[Any]:
    buffers = []
    for number, (start, stop) in enumerate(zip(fields["starts"][:-1], fields["starts"][1:], strict=True)):
        ended = bool(fields["terminated"][number])
        observations = fields["observations"][start:stop]
        buffers.append(
            EpisodeBuffer(
                id=number,
                observations=wrap(np.concatenate([observations, observations[-1:] + 1])),
                actions=fields["actions"][start:stop],
                rewards=fields["rewards"][start:stop].tolist(),
                terminations=[False] * (stop - start - 1) + [ended],
                truncations=[False] * (stop - start - 1) + [not ended],
                infos={},
            )
        )
    return buffers


def _create(dataset_id: str, buffers: list[Any], observations: Any = BOX, actions: Any = ACTIONS, **more: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # minari recommends to describe a dataset at length
        create_dataset_from_buffers(
            dataset_id,
            buffers,
            observation_space=observations,
            action_space=actions,
            algorithm_name="by hand",
            author="us",
            **more,
        )


def _read(dataset_id: str) -> Any:
    return read_minari(*source_files(dataset_id), name=f"minari:{dataset_id}")


def test_what_minari_wrote_is_read() -> None:
    fields = make_fields((3, 5, 2))
    _create("toy/box-v0", _buffers(fields), env="CartPole-v1")
    dataset = _read("toy/box-v0")
    assert same_data(dataset, build_dataset("toy", **fields))
    assert dataset.environment == "CartPole-v1"
    assert dataset.observation_space == Space((2,), "float32", -np.inf, np.inf)
    assert dataset.action_space == Space((3,), "float32", -1.0, 1.0)
    assert dataset.details["attribution"]["author"] in ("us", ["us"])
    assert local_ids() == ["toy/box-v0"]


def test_more_than_ten_episodes_keep_their_order() -> None:
    fields = make_fields([2] * 12)
    _create("many-v0", _buffers(fields))
    assert same_data(_read("many-v0"), build_dataset("toy", **fields))
    assert _read("many-v0").environment is None


def test_discrete_actions_are_counted_from_zero() -> None:
    fields = make_fields(discrete=True)
    shifted = {**fields, "actions": fields["actions"] + 5}
    _create("choices-v0", _buffers(shifted), actions=gym.spaces.Discrete(4, start=5))
    dataset = _read("choices-v0")
    assert same_data(dataset, build_dataset("toy", **fields))
    assert dataset.action_space == Space.discrete(4)
    assert dataset.details["first_choice"] == 5


def test_float64_observations_become_float32() -> None:
    fields = make_fields()
    wide = {**fields, "observations": fields["observations"].astype(np.float64)}
    _create("wide-v0", _buffers(wide), observations=gym.spaces.Box(-np.inf, np.inf, (2,), dtype=np.float64))
    assert same_data(_read("wide-v0"), build_dataset("toy", **fields))


def _pixels(shape: tuple[int, ...]) -> dict[str, Any]:
    """A ramp, which JPEG keeps but for a little."""
    fields = make_fields((3, 2))
    ramp = np.linspace(0, 220, num=5 * int(np.prod(shape))).reshape(5, *shape)
    fields["observations"] = ramp.astype(np.uint8)
    return fields


@pytest.mark.parametrize("shape", [(32, 48), (48, 32, 3), (4, 84, 84), (84, 84, 4), (2, 3, 4, 5), (9,)])
def test_images_without_jpeg_are_read_to_the_bit(shape: tuple[int, ...]) -> None:
    space = gym.spaces.Box(0, 255, shape, dtype=np.uint8)
    _create("pixels-v0", _buffers(_pixels(shape)), observations=space, jpeg_encoding=False)
    dataset = _read("pixels-v0")
    assert same_data(dataset, build_dataset("toy", **_pixels(shape)))
    assert "lossy_images" not in dataset.details


@pytest.mark.parametrize("shape", [(32, 48), (48, 32, 3)])
@pytest.mark.parametrize(
    "constant", [False, True]
)  # equal images have equally many bytes, which minari packs otherwise
def test_images_with_jpeg_are_decoded_and_called_lossy(shape: tuple[int, ...], constant: bool) -> None:
    space = gym.spaces.Box(0, 255, shape, dtype=np.uint8)
    fields = _pixels(shape)
    fields["observations"][1:] = fields["observations"][:1] if constant else fields["observations"][1:]
    wrap = (lambda values: np.repeat(values[:1], len(values), 0)) if constant else (lambda values: values)
    _create("jpeg-v0", _buffers(fields, wrap), observations=space)
    dataset = _read("jpeg-v0")
    assert dataset.observations.shape == (5, *shape)
    distance = np.abs(dataset.observations.astype(int) - fields["observations"])
    assert distance.mean() < 3
    theirs = minari.load_dataset("jpeg-v0")
    assert (dataset.observations[:3] == theirs[0].observations[:-1]).all()
    assert dataset.details["lossy_images"] is True
    assert "jpeg_encoding=False" in dataset.details["warnings"][0]


def _jpeg(width: int, height: int) -> Any:
    stream = io.BytesIO()
    Image.new("RGB", (width, height)).save(stream, "JPEG")
    return np.frombuffer(stream.getvalue(), dtype=np.uint8)


def _claiming(frame: Any, width: int, height: int) -> Any:
    """The same JPEG with another size in its header."""
    content = frame.tobytes()
    at = content.index(b"\xff\xc0") + 5
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return np.frombuffer(content[:at] + size + content[at + 4 :], dtype=np.uint8)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros(9, np.uint8), r"cannot identify"),
        (_jpeg(33, 32), r"found \(32, 33, 3\)"),
        (_jpeg(32, 32)[:-40], "Truncated"),
        (_claiming(_jpeg(32, 32), 65000, 65000), "decompression bomb"),
    ],
)
def test_damaged_images_are_named(root: Path, frame: Any, message: str) -> None:
    space = gym.spaces.Box(0, 255, (32, 32, 3), dtype=np.uint8)
    _create("jpeg-v0", _buffers(_pixels((32, 32, 3))), observations=space)
    with h5py.File(root / "jpeg-v0" / "data" / "main_data.hdf5", "a") as file:
        frames = list(file["episode_1/observations"][()])
        frames[1] = frame
        del file["episode_1/observations"]
        file["episode_1"].create_dataset("observations", (3,), dtype=h5py.vlen_dtype(np.uint8))
        for number, values in enumerate(frames):
            file["episode_1/observations"][number] = values
    with pytest.raises(
        DatasetError, match=rf"episode_1: observation 1 is no JPEG of shape \(32, 32, 3\) \(.*{message}"
    ):
        _read("jpeg-v0")


def _linked(file: h5py.File, images: Any) -> None:
    file["elsewhere"] = images
    file["episode_1/observations"] = h5py.SoftLink("/elsewhere")


def _floats(file: h5py.File, images: Any) -> None:
    kept = file["episode_1"].create_dataset("observations", images.shape, dtype=h5py.vlen_dtype(np.float64))
    kept[0] = np.full(4, np.nan)


@pytest.mark.parametrize(
    ("put", "message"),
    [
        (_linked, "observations is a link to /elsewhere"),
        (_floats, "observations holds objects"),
        (lambda file, _: file.create_dataset("episode_1/observations", (3, 9), np.float32), r"found float32 of shape"),
        (lambda file, _: file.create_dataset("episode_1/observations", data=np.uint8(3)), r"found uint8 of shape \(\)"),
    ],
)
def test_what_is_no_list_of_images_is_refused(root: Path, put: Any, message: str) -> None:
    space = gym.spaces.Box(0, 255, (32, 32, 3), dtype=np.uint8)
    _create("jpeg-v0", _buffers(_pixels((32, 32, 3))), observations=space)
    with h5py.File(root / "jpeg-v0" / "data" / "main_data.hdf5", "a") as file:
        images = file["episode_1/observations"]
        del file["episode_1/observations"]
        put(file, images)
    with pytest.raises(DatasetError, match=message):
        _read("jpeg-v0")


def test_an_import_passes_the_warning_on(tmp_path: Path) -> None:
    space = gym.spaces.Box(0, 255, (32, 48), dtype=np.uint8)
    _create("jpeg-v0", _buffers(_pixels((32, 48))), observations=space)
    dataset = import_trajectories("minari:jpeg-v0", ColumnMapping(), tmp_path / "made")
    assert same_data(dataset, _read("jpeg-v0"))
    assert "jpeg_encoding=False" in dataset.details["import"]["warnings"][0]


def test_images_are_decoded_in_pieces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    space = gym.spaces.Box(0, 255, (32, 48), dtype=np.uint8)
    _create("jpeg-v0", _buffers(_pixels((32, 48))), observations=space)
    whole = _read("jpeg-v0")
    monkeypatch.setattr(stored, "PIECE_BYTES", 2 * 32 * 48)
    assert same_data(read_minari(*source_files("jpeg-v0"), name="toy", scratch=tmp_path), whole)


@pytest.mark.parametrize(
    ("observations", "wrap", "actions", "message"),
    [
        (
            gym.spaces.Dict(a=BOX),
            lambda values: {"a": values},
            ACTIONS,
            "the observation space is Dict; only",
        ),
        (gym.spaces.Tuple((BOX,)), lambda values: (values,), ACTIONS, "the observation space is Tuple; only"),
        (
            BOX,
            lambda values: values,
            gym.spaces.MultiDiscrete([2, 2, 2]),
            "the action space is MultiDiscrete",
        ),
        (
            gym.spaces.Discrete(9),
            lambda values: values[:, 0].astype(int),
            ACTIONS,
            "observations are discrete",
        ),
    ],
)
def test_other_spaces_are_refused(observations: Any, wrap: Any, actions: Any, message: str) -> None:
    fields = make_fields((3, 2))
    if actions is not ACTIONS:
        fields["actions"] = np.zeros((5, 3), dtype=np.int64)
    _create("odd-v0", _buffers(fields, wrap), observations=observations, actions=actions)
    with pytest.raises(DatasetError, match=rf"minari:odd-v0: {message}"):
        _read("odd-v0")


def _damage(root: Path, edit: Any) -> None:
    _create("toy-v0", _buffers(make_fields((3, 2))))
    with h5py.File(root / "toy-v0" / "data" / "main_data.hdf5", "a") as file:
        edit(file)


def _replace(file: Any, key: str, values: Any) -> None:
    del file[key]
    file[key] = values


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda f: f.pop("episode_1/rewards"), "rewards is missing"),
        (
            lambda f: _replace(f, "episode_1/observations", np.zeros((2, 2))),
            "observations has 2 rows, expected 3",
        ),
        (
            lambda f: _replace(f, "episode_1/actions", np.zeros((5, 3))),
            "actions has 5 steps but rewards has 2",
        ),
        (lambda f: _replace(f, "episode_1/rewards", np.zeros(0)), "the episode is empty"),
        (
            lambda f: _replace(f, "episode_1/observations", np.zeros((3, 9))),
            r"expected observations of shape \(2,\), found float64 of shape \(9,\)",
        ),
    ],
)
def test_damaged_episodes_are_named(root: Path, edit: Any, message: str) -> None:
    _damage(root, edit)
    with pytest.raises(DatasetError, match=rf"minari:toy-v0, episode_1: .*{message}"):
        _read("toy-v0")


def test_truncated_or_missing_files(root: Path) -> None:
    _create("toy-v0", _buffers(make_fields((300, 200))))
    path = root / "toy-v0" / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DatasetError, match=r"main_data\.hdf5: not a readable Minari file"):
        _read("toy-v0")
    (root / "toy-v0" / "data" / "metadata.json").write_text("{")
    with pytest.raises(DatasetError, match=r"metadata\.json is missing or damaged"):
        _read("toy-v0")


def test_arrow_is_refused(root: Path) -> None:
    _create("toy-v0", _buffers(make_fields()))
    path = root / "toy-v0" / "data" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "data_format": "arrow"}))
    with pytest.raises(DatasetError, match="stored as arrow, only hdf5 is read"):
        source_files("toy-v0")


def test_offline_says_what_is_there_at_once(root: Path) -> None:
    _create("toy-v0", _buffers(make_fields()))
    with pytest.raises(DatasetError, match=r"is not in .*minari \(there: toy-v0\) and HF_HUB_OFFLINE forbids"):
        source_files("mujoco/hopper/medium-v0")


def test_no_network_says_so_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without HF_HUB_OFFLINE, and before the hub's own client begins to try again and again."""
    pytest.importorskip("huggingface_hub")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{free_port()}")
    for dataset_id in ("toy-v0", "hf://somebody/toy-v0"):
        with pytest.raises(
            DatasetError, match=r"minari:toy-v0 is not in .* \(127\.0\.0\.1 cannot be reached .*refused"
        ):
            source_files(dataset_id)


def test_a_folder_as_mirror(root: Path, tmp_path: Path) -> None:
    _create("toy/box-v0", _buffers(make_fields()))
    root.rename(tmp_path / "mirror")
    with pytest.raises(DatasetError, match=r"minari:toy/none-v0 is neither in .*minari nor in .*mirror"):
        source_files("toy/none-v0", mirror=str(tmp_path / "mirror"))
    files = source_files("toy/box-v0", mirror=str(tmp_path / "mirror"))
    assert same_data(read_minari(*files, name="toy"), build_dataset("toy", **make_fields()))
    assert minari.load_dataset("toy/box-v0").total_steps == 10
    assert minari.namespace.list_local_namespaces() == ["toy"]
    with pytest.raises(DatasetError, match=r"a mirror of Minari is hf://ORG or a folder; found https://x"):
        source_files("other-v0", mirror="https://x")


def test_an_id_may_name_its_organisation(root: Path) -> None:
    _create("toy/box-v0", _buffers(make_fields()))
    assert source_files("hf://somebody/toy/box-v0") == source_files("toy/box-v0")
    with pytest.raises(DatasetError, match=r"\.\./box-v0 is no Minari id"):
        source_files("hf://somebody/../box-v0")


@pytest.mark.parametrize("dataset_id", ["../../etc/passwd-v0", "/etc-v0", "toy", "a//b-v0", ""])
def test_malformed_ids(dataset_id: str) -> None:
    with pytest.raises(DatasetError, match="is no Minari id"):
        source_files(dataset_id)
