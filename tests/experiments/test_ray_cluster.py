"""A local Ray of two workers: workers killed in the middle of runs, runs that fail, and the same table all the same."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.recipes.toys import dataset, finetune_config
from wikirl.errors import ConfigError, RunError
from wikirl.experiments.many_runs import RunPlan
from wikirl.experiments.ray_cluster import run_on_ray
from wikirl.experiments.worker import Machine, make_run
from wikirl.recipes.settings import FinetuneConfig
from wikirl.runs import checkpoints_of, read_json, read_metrics

pytestmark = pytest.mark.extras
MACHINE = Machine(device="cpu", precision="float32", num_threads=1)
SEEDS = (0, 1, 2, 3, 4, 5)
KILLED, HOPELESS = 0, 9  # seeds


@pytest.fixture(scope="module", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray keeps a key in the user's home; this one is for the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


def plans_in(folder: Path, config: FinetuneConfig) -> list[RunPlan]:
    long = replace(config, num_steps=90, eval_every=30)
    configs = [replace(long if seed == KILLED else config, seed=seed) for seed in SEEDS]
    return [RunPlan("arm", one, folder / "runs" / f"toy.seed-{one.seed}") for one in configs]


def pid_of(plan: RunPlan) -> int | None:
    """Who holds the run's lock."""
    try:
        file = (plan.folder / ".lock").stat().st_ino
    except FileNotFoundError:
        return None
    locks = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return next((int(words[4]) for words in locks if words[1] == "FLOCK" and words[5].endswith(f":{file}")), None)


class Killer(threading.Thread):
    """Kills the worker of a run once it has saved itself, and that of another whenever it has begun."""

    def __init__(self, once: RunPlan, always: RunPlan) -> None:
        super().__init__(daemon=True)
        self.once, self.always = once, always
        self.at_step = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.03):
            if not self.at_step and (saved := checkpoints_of(self.once.folder)) and (pid := pid_of(self.once)):
                os.kill(pid, signal.SIGKILL)
                self.at_step = saved[-1].step
            if pid := pid_of(self.always):
                os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Disturbed:
    config: FinetuneConfig
    plans: list[RunPlan]
    failed: dict[str, str]
    killed_at_step: int


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    folder = tmp_path_factory.mktemp("ray")
    config = finetune_config(dataset(folder))
    plans = plans_in(folder, config)
    missing = RunPlan("arm", replace(config, dataset="file:nowhere"), folder / "runs" / "missing")
    endless = replace(config, num_steps=10**6, eval_every=10**6, seed=HOPELESS)
    hopeless = RunPlan("arm", endless, folder / "runs" / "hopeless")
    killer = Killer(plans[KILLED], hopeless)
    killer.start()
    failed = run_on_ray([missing, hopeless, *plans], MACHINE, num_workers=2)
    killer.over.set()
    killer.join()
    return Disturbed(config, plans, failed, killer.at_step)


def test_the_table_is_that_of_undisturbed_runs(disturbed: Disturbed, tmp_path: Path) -> None:
    assert disturbed.killed_at_step in (30, 60)
    for plan, alone in zip(disturbed.plans, plans_in(tmp_path, disturbed.config), strict=True):
        make_run(alone, MACHINE)
        assert read_json(plan.folder / "scores.json") == read_json(alone.folder / "scores.json")
        steps = [[line | {"seconds": 0} for line in read_metrics(one.folder)] for one in (plan, alone)]
        assert steps[0] == steps[1]
        files = [{path.name: path.read_bytes() for path in (one.folder / "policy").iterdir()} for one in (plan, alone)]
        assert files[0] == files[1]
    assert f"| {disturbed.killed_at_step}/90 [" in disturbed.plans[KILLED].log.read_text()  # went on from there


def test_a_run_that_fails_does_not_stop_the_others(disturbed: Disturbed) -> None:
    assert disturbed.failed.keys() == {"missing", "hopeless"}
    assert disturbed.failed["missing"] == "file:nowhere does not exist"
    assert "died 4 times without progress" in disturbed.failed["hopeless"]


INTERRUPTED = """
import sys
from pathlib import Path
from wikirl.experiments.many_runs import RunPlan
from wikirl.experiments.ray_cluster import run_on_ray
from wikirl.experiments.worker import Machine
from wikirl.recipes.settings import FinetuneConfig

config = FinetuneConfig(sys.argv[1], backbone="scratch", architecture="dt", num_steps=10**6, eval_every=10**6)
try:
    run_on_ray([RunPlan("arm", config, Path("runs/endless"))], Machine("cpu", "float32"), num_workers=1)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_runs_save_themselves_when_asked_to_stop(tmp_path: Path) -> None:
    words = [sys.executable, "-c", INTERRUPTED, dataset(tmp_path)]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as driver:
        while not read_metrics(tmp_path / "runs/endless"):
            assert driver.poll() is None
            time.sleep(0.1)
        driver.send_signal(signal.SIGINT)
        _, said = driver.communicate(timeout=200)
    assert (driver.returncode, said) == (130, "")
    (saved,) = checkpoints_of(tmp_path / "runs/endless")
    assert saved.step == len(read_metrics(tmp_path / "runs/endless")) > 0
    assert not list((tmp_path / "runs").glob(".ray-*"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A node that was started elsewhere, and does not know where wikirl is."""
    folder = tmp_path_factory.mktemp("node")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words: list[str | Path] = [
        Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus=1", f"--port={port}",
        "--include-dashboard=false", "--disable-usage-stats", f"--object-store-memory={10**8}",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        node = subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log)
    while b"--block" not in (folder / "log").read_bytes():  # the last thing it says
        assert node.poll() is None, (folder / "log").read_text()
        time.sleep(0.2)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        node.terminate()
        node.wait()


def test_a_cluster_is_told_where_the_package_is_and_must_share_the_folder(
    cluster: str, disturbed: Disturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset(tmp_path)
    plan = RunPlan("arm", replace(disturbed.config, dataset="file:data", seed=3), Path("runs/alone"))
    own = RunPlan("arm", plan.config, Path("/proc/self/cwd/runs/own"))  # another folder in every process
    with pytest.raises(RunError, match=r"expected /proc/self/cwd/runs to be the same folder on every node; node"):
        run_on_ray([own], MACHINE, address=cluster)
    with pytest.raises(ConfigError, match=r"a node with 2 cores and 0 GPUs for a run; found 1 and 0;"):
        run_on_ray([plan], replace(MACHINE, num_threads=2), address=cluster)
    broken = RunPlan("arm", replace(plan.config, seed=2**70), Path("runs/broken"))  # PyTorch's error, not ours
    with pytest.raises(RuntimeError, match=r"^broken: ValueError: Overflow .*; all of it is in .*broken\.log$"):
        run_on_ray([broken, plan], replace(MACHINE, device="auto"), address=cluster)
    assert "Traceback" in Path("runs/broken.log").read_text()
    assert read_json(Path("runs/alone/scores.json")) == read_json(disturbed.plans[3].folder / "scores.json")


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("127.0.0.1:1", r"a Ray cluster at 127\.0\.0\.1:1; found: .*refused"),
        ("nonsense", "as host:port, or auto; found 'nonsense'"),
        ("ray://127.0.0.1:10001", "as host:port, or auto; found 'ray://"),
    ],
)
def test_a_cluster_that_is_not_there_is_refused_at_once(address: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        run_on_ray([], MACHINE, address=address)
