"""The command line: quick to answer, one line for mistakes, one JSON object on demand."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.recipes.toys import corpus, dataset
from wikirl.cli import main
from wikirl.trajectories.sources import ASSETS, load_trajectories


def run(*arguments: str) -> int:
    return main(list(arguments))


def line(capsys: pytest.CaptureFixture[str]) -> str:
    """The only line on stderr."""
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().split("\n")
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize("code", ["import wikirl", "import wikirl.cli; wikirl.cli._parser(['--help'])"])
def test_answers_without_heavy_imports(code: str) -> None:
    heavy = "{'torch', 'transformers', 'gymnasium', 'mujoco', 'matplotlib', 'numpy', 'minari'}"
    check = f"{code}\nimport sys\nprint(sorted({heavy} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_front_door() -> None:
    import wikirl

    assert all(getattr(wikirl, name) for name in wikirl.__all__)
    assert dir(wikirl) == sorted(wikirl.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = wikirl.nothing


@pytest.mark.parametrize(
    "verb",
    [
        [],
        ["demo"],
        ["pretrain"],
        ["data"],
        ["data", "show"],
        ["data", "import"],
        ["data", "check"],
        ["data", "collect"],
        ["data", "download"],
        ["data", "transform"],
        ["finetune"],
        ["baseline"],
        ["evaluate"],
    ],
)
def test_help(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*verb, "--help")
    assert stop.value.code == 0
    assert f"usage: {' '.join(['wikirl', *verb])}" in " ".join(capsys.readouterr().out.split())


def test_data_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "list", "--json") == 0
    entries = json.loads(capsys.readouterr().out)["datasets"]
    assert "builtin:hopper-medium-replay" in {entry["id"] for entry in entries}
    assert run("data", "show", "builtin:hopper-medium-replay", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["num_steps"], shown["num_episodes"], shown["environment"]) == (120_000, 1000, "Hopper-v5")
    assert shown["return_mean"] == pytest.approx(304.5, abs=0.1)
    assert run("data", "show", "builtin:hopper-medium-replay") == 0
    assert "120,000" in capsys.readouterr().out


def test_data_show_names_the_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "show", "builtin:hopper-medium", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["reference"]["name"], shown["reference"]["mark"]) == ("D4RL hopper", "V")
    assert shown["return_mean_normalized"] == pytest.approx(100 * (shown["return_mean"] + 20.272305) / 3254.572305)
    scaled = f"file:{tmp_path / 'scaled'}"
    assert run("data", "transform", "builtin:hopper-medium", "--to", scaled, "--reward-scale", "0.01", "--json") == 0
    capsys.readouterr()
    assert run("data", "show", scaled, "--json") == 0
    assert json.loads(capsys.readouterr().out)["return_mean_normalized"] is None


def test_data_transform(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def transform(name: str, *options: str) -> dict[str, Any]:
        assert run("data", "transform", *options, "--to", f"file:{tmp_path / name}", "--json") == 0
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert load_trajectories(f"file:{tmp_path / name}").fingerprint == result["fingerprint"]
        return result

    both = ("builtin:hopper-medium", "builtin:hopper-medium-replay")
    whole = transform("whole", *both)
    assert (whole["num_steps"], whole["num_episodes"], whole["parts"]) == (199_366, 1184, list(both))
    everything = ("--delayed-reward", "--top-fraction", "0.5", "--random-fraction", "0.1", "--reward-scale", "0.01")
    cut = transform("cut", *both, "--fractions", "1", "0.5", *everything, "--seed", "3")
    assert [note.split(":")[0] for note in cut["transforms"]] == [
        "delayed_reward", "top_fraction", "random_fraction", "scale_rewards"
    ]  # fmt: skip
    assert load_trajectories(f"file:{tmp_path / 'cut'}").details["transform_seed"] == 3
    assert cut["return_max"] < 100
    again = transform("again", *both, "--fractions", "1", "0.5", *everything, "--seed", "3")
    other = transform("other", *both, "--fractions", "1", "0.5", *everything, "--seed", "4")
    assert again["fingerprint"] == cut["fingerprint"] != other["fingerprint"]
    assert run("data", "transform", both[0], "--to", f"file:{tmp_path / 'shown'}", "--reward-shift", "1") == 0
    assert "hopper-medium+scaled1+1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--to {to}", "expected several datasets or at least one change"),
        ("--to nowhere --delayed-reward", "expected --to file:DIR; found nowhere"),
        ("--to file:{full} --delayed-reward", "exists already: choose another folder"),
        ("--to {to} --top-fraction 2", "fraction must lie above 0"),
        ("--to {to} --reward-scale 0", "a factor other than 0"),
        ("--to {to} --random-fraction 0.5 --seed -1", "expected a seed of at least 0"),
        ("--to {to} --fractions 1 1", "expected one fraction for each of 1 datasets; found 2"),
        ("builtin:hoper-medium --to {to}", "did you mean builtin:hopper-medium"),
    ],
)
def test_data_transform_refuses_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    words = options.format(to=f"file:{tmp_path / 'new'}", full=tmp_path / "full").split()
    assert run("data", "transform", "builtin:hopper-medium", *words) == 2
    assert message in line(capsys)
    assert not (tmp_path / "new").exists()


def test_data_download(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIKIRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    shutil.copy(ASSETS / "hopper-medium.hdf5", mirror / "hopper_medium-v2.hdf5")
    for options in (["--mirror", str(mirror), "--json"], ["--json"]):
        assert run("data", "download", "d4rl:hopper-medium-v2", *options) == 0
        (file,) = json.loads(capsys.readouterr().out)["files"]
        assert file["path"] == str(tmp_path / "cache" / "d4rl" / "hopper_medium-v2.hdf5")
        assert file["sha256"] == hashlib.sha256((ASSETS / "hopper-medium.hdf5").read_bytes()).hexdigest()
    assert run("data", "download", "d4rl:hopper-expert-v2", "--mirror", str(mirror)) == 2
    assert "hopper_expert-v2.hdf5 cannot be read" in line(capsys)


def test_data_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("data", "check", "builtin:hopper-medium-replay") == 0
    printed = capsys.readouterr().out
    for words in ("120,000", "NOTE (returns): 7 of 1,000", "what to do: ", "--target-returns 2960 688", "Page: runs/"):
        assert words in printed, words
    assert (tmp_path / "runs" / "check" / "hopper-medium-replay.html").is_file()
    out = tmp_path / "mine.html"
    assert run("data", "check", "builtin:hopper-medium-replay", "--json", "--out", str(out)) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["num_errors"], found["num_warnings"], found["num_notes"], found["page"]) == (0, 0, 1, str(out))
    assert found["suggestions"]["target_returns"] == [2960, 688]
    assert out.is_file()


def test_data_check_with_errors_is_2_and_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, page = tmp_path / "<b>mine.npz", tmp_path / "page.html"

    def write(action: float) -> None:
        np.savez(
            data, observations=np.ones((9, 2)), actions=np.full((9, 1), action), rewards=np.ones(9), starts=[0, 4],
            terminated=[True, True],
        )  # fmt: skip

    write(0.0)
    assert run("data", "check", str(data), "--out", str(page)) == 2
    captured = capsys.readouterr()
    assert captured.out.index("ERROR (actions)") < captured.out.index("WARNING (")
    assert captured.err.startswith(f"wikirl: file:{data}: no action differs from any other; check the columns")
    assert captured.err.count("\n") == 1
    assert "&lt;b&gt;mine" in page.read_text()
    # Nor does it need to be readable.
    write(np.nan)
    assert run("data", "check", str(data), "--no-page", "--json") == 2
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert (found["findings"][0]["topic"], found["statistics"], found["page"]) == ("reading", None, None)
    assert captured.err.count("\n") == 1
    assert "9 of 9 steps" in captured.err


def test_the_road_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, data = corpus(tmp_path), dataset(tmp_path)
    small = ["--vocab-size", "300", "--hidden-size", "16", "--num-positions", "32", "--num-steps", "2"]
    backbone, out = tmp_path / "backbone", tmp_path / "run"
    assert run("pretrain", "--corpus", str(text), "--out", str(backbone), *small, "--json") == 0
    assert json.loads(capsys.readouterr().out)["backbone"] == str(backbone)
    options = ["--num-steps", "2", "--context-length", "4", "--batch-size", "2", "--json"]
    assert run("finetune", "--dataset", data, "--backbone", str(backbone), "--out", str(out), *options) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["run"] == str(out)
    assert run("evaluate", str(out), "--json") == 0
    assert json.loads(capsys.readouterr().out)["held_out_action_error"] == scores["held_out_action_error"]
    # And in words.
    assert run("evaluate", str(out)) == 0
    assert "held out action error" in capsys.readouterr().out


def test_a_baseline_in_json_and_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--environment", "CartPole-v1", "--num-steps", "3", "--eval-episodes", "2", "--num-threads", "1"]
    command = ["baseline", "--dataset", "builtin:cartpole-medium-replay", *options, "--out", str(tmp_path / "run")]
    assert run(*command, "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["run"] == str(tmp_path / "run")
    assert scores["protocols"][0]["target_return"] is None
    assert run(*command) == 0
    assert f"score           last {scores['summary'][0]['last_normalized']:.1f}, mean" in capsys.readouterr().out
    assert run("evaluate", str(tmp_path / "run"), "--episodes", "2") == 0
    assert f"{scores['summary'][0]['last_return']:.1f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("data show builtin:hoper-medium-replay", "hopper-medium-replay"),
        ("data show file:missing.hdf5", "missing.hdf5"),
        ("data check builtin:hoper-medium-replay", "hopper-medium-replay"),
        ("data check builtin:hopper-medium-replay --context-length 0", "context_length"),
        ("finetune --dataset builtin:hopper-medium-replay --environment Hoper-v5 --out {out}", "Hopper-v5"),
        ("finetune --dataset builtin:hopper-medium-replay --backbone ./nowhere --out {out}", "nowhere"),
        ("finetune --dataset builtin:hopper-medium-replay --num-steps 0 --out {out}", "num_steps"),
        ("finetune --dataset builtin:hopper-medium-replay --device tpu --out {out}", "--device cpu"),
        ("pretrain --corpus missing.txt --out {out}", "missing.txt"),
        ("baseline --dataset builtin:hopper-medium --environment Hoper-v5 --out {out}", "Hopper-v5"),
        ("baseline --dataset builtin:hopper-medium --top-fraction 2 --out {out}", "top_fraction"),
        ("baseline --dataset builtin:cartpole-medium-replay --algorithm iql --out {out}", "use bc or cql"),
        ("evaluate {out}", "wikirl finetune"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(
    arguments: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments.format(out=tmp_path / "out").split()) == 2
    assert words in line(capsys)


def test_an_unknown_verb_or_flag_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["nonsense"], ["finetune", "--nonsense"], ["evaluate"]):
        with pytest.raises(SystemExit) as stop:
            run(*arguments)
        assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_ctrl_c_is_130_and_the_same_command_goes_on(tmp_path: Path) -> None:
    data, out = dataset(tmp_path), tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "wikirl.cli",
        "finetune",
        "--dataset",
        data,
        "--backbone",
        "scratch",
        "--out",
        str(out),
    ]
    command += [
        "--num-steps",
        "400",
        "--context-length",
        "4",
        "--batch-size",
        "2",
        "--eval-every",
        "400",
        "--num-threads",
        "1",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (out / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(2)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130, complaint
    assert "Traceback" not in complaint
    assert len(list((out / "checkpoints").glob("step-*"))) == 1
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    steps = [json.loads(text)["step"] for text in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 401))


def test_a_reader_that_leaves_is_no_error() -> None:
    found = subprocess.run(
        f"{sys.executable} -m wikirl.cli data list --json | true",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stderr == ""


# Runs the command line with files of at most argv[1] bytes, which is as close to a full disk as a test can come.
SMALL_DISK = """
import resource, signal, sys
from wikirl.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


def with_small_disk(size: int, *arguments: str, cache: Path) -> str:
    """The line that the command ends with."""
    found = subprocess.run(
        [sys.executable, "-c", SMALL_DISK, str(size), *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, "WIKIRL_CACHE": str(cache)},
    )  # fmt: skip
    assert found.returncode == 2, found.stderr
    assert "Traceback" not in found.stderr
    assert found.stdout == ""
    return found.stderr[found.stderr.rindex("wikirl: ") :]


def test_a_full_disk_costs_one_line_and_nothing_else(tmp_path: Path) -> None:
    text, out, cache = corpus(tmp_path, 400), tmp_path / "out", tmp_path / "cache"
    small = ["--hidden-size", "64", "--num-positions", "32", "--checkpoint-every", "1", "--num-steps", "2"]
    command = ["pretrain", "--corpus", str(text), "--out", str(out), "--tokenizer", "bytes", *small]
    # Room for the tokenizer, but not for the packed text, 50 kB of characters at two bytes each.
    line = with_small_disk(50_000, *command, cache=cache)
    assert line.startswith(f"wikirl: expected room to write at {cache}")
    assert line.count("\n") == 1
    assert not list(cache.glob("packed/[!.]*"))
    # Room for the packed text, but not for a checkpoint.
    line = with_small_disk(200_000, *command, cache=cache)
    assert line.startswith(f"wikirl: expected room to write at {out / 'pretraining' / 'checkpoints' / 'step-1'}")
    assert list((out / "pretraining" / "checkpoints").iterdir()) == []
    # With room enough the same command goes on.
    assert run(*command) == 0
    assert (out / "model.safetensors").exists()


def test_nowhere_to_print_to() -> None:
    command = f"{sys.executable} -m wikirl.cli data list > /dev/full"
    found = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr.startswith("wikirl: expected room to write; found: No space left on device; ")
    assert found.stderr.count("\n") == 1


def test_a_cache_that_may_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WIKIRL_CACHE", "/sys/wikirl")  # not even root may make folders there
    options = ["--tokenizer", "bytes", "--num-steps", "1", "--out", str(tmp_path / "out")]
    assert run("pretrain", "--corpus", str(corpus(tmp_path)), *options) == 2
    assert line(capsys).startswith("wikirl: expected to be allowed to read and write at /sys/wikirl; found: ")


def test_any_other_error_of_the_system_is_a_bug(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WIKIRL_CACHE", str(tmp_path / "file"))
    options = ["--tokenizer", "bytes", "--num-steps", "1", "--out", str(tmp_path / "out")]
    with pytest.raises(NotADirectoryError):
        run("pretrain", "--corpus", str(corpus(tmp_path)), *options)
