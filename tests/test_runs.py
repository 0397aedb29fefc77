import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from wikirl.errors import RunError
from wikirl.runs import (
    Run,
    cache_folder,
    config_hash,
    interruptible,
    read_json,
    read_metrics,
    replacing_folder,
    write_json,
)

CONFIG = {"kind": "test", "learning_rate": 0.1, "sizes": (1, 2)}


def open_run(folder: Path, **changes: Any) -> Run:
    return Run(folder, {**CONFIG, **changes}, {"seed": 0})


def save(run: Run, step: int) -> None:
    run.save_checkpoint(step, {"model": {"weight": torch.full((3,), float(step))}}, {"note": f"after {step}"})


def train_some(folder: Path, first: int, last: int) -> None:
    with open_run(folder) as run:
        run.resume()
        for step in range(first, last + 1):
            run.log({"step": step, "loss": 1 / step})
            if step % 2 == 0:
                save(run, step)


def one_line(error: pytest.ExceptionInfo[RunError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WIKIRL_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("WIKIRL_CACHE", "")
    assert cache_folder() == Path.home() / ".cache" / "wikirl"


def test_json_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    write_json(path, {"a": 1})
    for bad in (float("nan"), object()):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, {"a": bad})
    assert read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["scores.json"]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", None])
def test_unreadable_json_names_the_file(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(RunError, match=r"state\.json") as error:
        read_json(tmp_path / "state.json")
    one_line(error)


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "policy"
    for content in ("old", "new"):
        with replacing_folder(target) as temporary:
            (temporary / content).write_text(content)
            assert not (target / content).exists()
    assert [file.name for file in target.iterdir()] == ["new"]
    assert [file.name for file in target.parent.iterdir()] == ["policy"]


def test_a_block_that_fails_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "policy"
    with replacing_folder(target) as temporary:
        (temporary / "old").touch()
    with pytest.raises(KeyError), replacing_folder(target) as temporary:  # noqa: PT012
        (temporary / "new").touch()
        raise KeyError
    assert [file.name for file in tmp_path.rglob("*")] == ["policy", "old"]


def test_a_kill_while_replacing_never_leaves_half_a_folder(tmp_path: Path) -> None:
    """A process that dies at the second file it deletes leaves all of the old or all of the new folder."""
    program = """
import os, sys
from pathlib import Path
from wikirl.runs import replacing_folder
target = Path(sys.argv[1])
with replacing_folder(target) as temporary:
    for name in "abc":
        (temporary / name).write_text("old")
num_deleted, deleting = 0, False
def die(event, _):
    global num_deleted
    num_deleted += deleting and event == "os.remove"
    if num_deleted == 2:
        os._exit(9)
sys.addaudithook(die)
with replacing_folder(target) as temporary:
    for name in "abc":
        (temporary / name).write_text("new")
    deleting = True
"""
    target = tmp_path / "policy"
    died = subprocess.run([sys.executable, "-c", program, str(target)], check=False)
    assert died.returncode == 9
    contents = {file.read_text() for file in target.iterdir()}
    assert len(list(target.iterdir())) == 3
    assert len(contents) == 1


def test_a_run_resumes_after_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train_some(folder, 1, 5)
    assert [line["step"] for line in read_metrics(folder)] == [1, 2, 3, 4, 5]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # killed while writing
    stray = folder / "checkpoints" / ".step-6.4242"
    stray.mkdir()
    (stray / "model.safetensors").write_bytes(b"half")
    assert read_metrics(folder)[-1]["step"] == 5

    with open_run(folder) as run:
        found = run.resume()
        assert found is not None
        assert found.step == 4
        assert found.tensors("model")["weight"].tolist() == [4.0] * 3
        assert found.state == {"step": 4, "note": "after 4"}
        assert [line["step"] for line in run.metrics()] == [1, 2, 3, 4]
        assert run.metrics()[2] == {"step": 3, "loss": 1 / 3}
    train_some(folder, 5, 6)
    assert [line["step"] for line in read_metrics(folder)] == [1, 2, 3, 4, 5, 6]


def test_a_run_without_checkpoint_starts_afresh(tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run:
        assert run.resume() is None
        run.log({"step": 1})
    with open_run(tmp_path / "run") as run:
        assert run.resume() is None
        assert run.metrics() == []


@pytest.mark.parametrize("left", [[], ["provenance.json"], ["provenance.json", ".config.json.77"]])
def test_a_run_killed_while_it_began_can_begin_again(tmp_path: Path, left: list[str]) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for name in [".lock", *left]:
        (tmp_path / "run" / name).write_text("{}")
    with open_run(tmp_path / "run") as run:
        assert read_json(run.folder / "provenance.json") == {"seed": 0}
        assert read_json(run.folder / "config.json")["kind"] == "test"


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run:
        for step in (8, 9, 10, 100):
            save(run, step)
        assert sorted(path.name for path in (run.folder / "checkpoints").iterdir()) == ["step-10", "step-100"]
        save(run, 100)
        found = run.resume()
    assert found is not None
    assert found.step == 100


def test_half_a_checkpoint_that_a_kill_left_is_deleted(tmp_path: Path) -> None:
    train_some(tmp_path / "run", 1, 4)
    half = tmp_path / "run" / "checkpoints" / ".step-6.1234"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    train_some(tmp_path / "run", 5, 4)
    assert not half.exists()
    assert {path.name for path in half.parent.iterdir()} == {"step-2", "step-4"}


def test_the_folder_says_what_was_asked(tmp_path: Path) -> None:
    with open_run(tmp_path / "run"):
        pass
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert written == {**CONFIG, "sizes": [1, 2], "hash": config_hash(CONFIG)}
    assert config_hash(CONFIG) == config_hash(dict(reversed(CONFIG.items())))
    assert config_hash(CONFIG) != config_hash({**CONFIG, "learning_rate": 0.2})
    assert json.loads((tmp_path / "run" / "provenance.json").read_text()) == {"seed": 0}


def test_provenance_is_that_of_the_beginning(tmp_path: Path) -> None:
    with open_run(tmp_path / "run"):
        pass
    with Run(tmp_path / "run", CONFIG, {"seed": 0, "later": True}):
        pass
    assert read_json(tmp_path / "run" / "provenance.json") == {"seed": 0}


@pytest.mark.parametrize("changes", [{"learning_rate": 0.2}, {"sizes": (1, 2, 3)}, {"new": 1}])
def test_another_configuration_is_refused_by_name(tmp_path: Path, changes: dict[str, Any]) -> None:
    with open_run(tmp_path / "run"):
        pass
    with pytest.raises(RunError, match=next(iter(changes))) as error:
        open_run(tmp_path / "run", **changes)
    assert "--out" in one_line(error)


@pytest.mark.parametrize("name", ["thesis.doc", ".git", "policy"])
def test_a_foreign_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(RunError, match="holds something else"):
        open_run(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    with pytest.raises(RunError, match="holds something else"):
        open_run(tmp_path / name)


@pytest.mark.parametrize("content", ["[]", "{", '"text"', '{"kind": "another program"}'])
def test_a_foreign_config_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(RunError) as error:
        open_run(tmp_path)
    assert str(tmp_path) in one_line(error)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with open_run(tmp_path / "run"):
        with pytest.raises(RunError, match="in use"):
            open_run(tmp_path / "run")
        program = (
            "import sys; from pathlib import Path; from wikirl.runs import Run\n"
            f"Run(Path(sys.argv[1]), {CONFIG!r}, {{}})"
        )
        other = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "run")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "RunError" in other.stderr
    with open_run(tmp_path / "run"):
        pass


@pytest.mark.parametrize("damage", ["cut", "garbage", "missing"])
def test_damaged_tensors_name_the_file(tmp_path: Path, damage: str) -> None:
    with open_run(tmp_path / "run") as run:
        save(run, 1)
        found = run.resume()
    assert found is not None
    path = found.folder / "model.safetensors"
    match damage:
        case "cut":
            os.truncate(path, path.stat().st_size - 2)
        case "garbage":
            path.write_bytes(b"\x00" * 40)
        case _:
            path.unlink()
    with pytest.raises(RunError, match=r"step-1/model\.safetensors") as error:
        found.tensors("model")
    one_line(error)


def test_damaged_metrics_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n\x00\x00\x00\n{"step": 3}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl") as error:
        read_metrics(tmp_path)
    one_line(error)


def test_nothing_in_a_run_is_a_pickle(tmp_path: Path) -> None:
    train_some(tmp_path / "run", 1, 4)
    files = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert {file.suffix or file.name for file in files} == {".json", ".jsonl", ".safetensors", ".lock"}
    for file in files:
        assert not file.read_bytes().startswith((b"\x80", b"PK")), file


@pytest.fixture
def _handlers() -> Iterator[None]:
    """Put back whatever handlers there were, even if the code under test does not."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_acts(first: signal.Signals, second: signal.Signals) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), interruptible() as stopped:  # noqa: PT012
        assert not stopped()
        signal.raise_signal(first)
        assert stopped()
        signal.raise_signal(second)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.usefixtures("_handlers")
def test_handlers_are_restored_after_a_quiet_block() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with interruptible() as stopped:
        pass
    assert not stopped()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
