"""Docs that run: links, names, commands, code blocks, metrics and numbered differences in the Markdown pages.

A Python block below the line `<!-- run -->` is executed in a temporary folder; every other one only has to compile.
"""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.toys import backbone, dataset, finetune_config
from tests.reports.studies import SCRATCH, ToyArm, write_suite
from wikirl import cli
from wikirl.recipes.baseline import baseline
from wikirl.recipes.baseline_settings import BaselineConfig
from wikirl.recipes.finetune import finetune
from wikirl.recipes.pretrain_settings import PretrainConfig
from wikirl.recipes.settings import FinetuneConfig
from wikirl.reports.report import report
from wikirl.runs import read_metrics

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*(path for path in ROOT.glob("*.md") if path.stem.isupper()), *ROOT.glob("docs/**/*.md")],
    key=lambda path: str(path),
)
FENCE = re.compile(
    r"(?P<run><!-- run -->\s*\n)?^(?P<mark>```+)(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=mark)\s*$", re.M | re.S
)
LINK = re.compile(r"\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\(\s*<?(?P<target>[^()\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
ATTRIBUTE = re.compile(r"""<[^>]*\b(?:src|href)\s*=\s*["'](?P<target>[^"']+)["']""")
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.I)  # https:, mailto:


@dataclass(frozen=True)
class Block:
    """A fenced code block of a page."""

    page: Path
    line: int
    language: str
    text: str
    runs: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start("mark")) + 1
        yield Block(page, line, found["language"], found["text"], found["run"] is not None)


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def prose_of(page: Path) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", page.read_text())


def anchors_of(page: Path) -> set[str]:
    """The anchors GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+\s+(.+?)\s*#*$", prose_of(page), re.M)
    plain = (re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_check() -> None:
    names = {name(page) for page in PAGES}
    assert names >= {"README.md", "CONTRIBUTING.md", "docs/tour.md", "docs/formats.md", "docs/differences.md"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"(?<!\[)`[^`\n]*`(?!\])", "", prose_of(page))
    found = [match["target"] for pattern in (LINK, ATTRIBUTE) for match in pattern.finditer(prose)]
    broken = []
    for target in (unescape(target) for target in found if not ELSEWHERE.match(target)):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        inside = there.is_relative_to(ROOT) and there.exists()
        if not inside or (anchor and there.suffix == ".md" and anchor not in anchors_of(there)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_name_that_links_to_a_file_is_defined_there(page: Path) -> None:
    wrong = []
    for match in LINK.finditer(prose_of(page)):
        quoted = re.fullmatch(r"`([A-Za-z_][\w.]*)(?:\(.*\))?`", match["text"])
        if quoted is None or not match["target"].endswith(".py") or quoted[1].endswith(".py"):
            continue
        source = (page.parent / match["target"]).resolve().read_text()
        parts = quoted[1].split(".")
        if not all(re.search(rf"^\s*(?:(?:def|class) {part}\b|{part}\b.*[:=])", source, re.M) for part in parts):
            wrong.append(f"{quoted[1]} in {match['target']}")
    assert not wrong


def commands_of(block: Block) -> Iterator[list[str]]:
    """The words after `wikirl` of every such command in a shell block."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if not re.search(r"(?:^|[\s/;&|(])wikirl\s", line):
            continue
        words = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars=True)
        words.whitespace_split = True
        command: list[str] = []
        redirected = False
        for word in [*words, ";"]:
            if set(word) <= set(";&|()"):
                yield from _after_wikirl(command)
                command, redirected = [], False
            elif set(word) <= set("<>"):
                redirected = True
            elif not redirected:
                command.append(word)


def _after_wikirl(command: list[str]) -> Iterator[list[str]]:
    while command and re.fullmatch(r"\w+=.*", command[0]):  # VARIABLE=value before the program
        command = command[1:]
    if command and Path(command[0]).name == "wikirl":
        yield command[1:]


COMMANDS = [
    pytest.param(command, id=f"{block} {' '.join(command)[:40]}")
    for block in BLOCKS
    if block.language in ("", "sh", "bash", "shell", "console", "text")
    for command in commands_of(block)
]


def parse(command: list[str]) -> int:
    """The exit code of the parser; 0 if it takes the command, or prints its help."""
    try:
        cli._parser(command).parse_args(command)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(command) == 0, capsys.readouterr().err


def test_commands_are_found_and_mistakes_in_them_too() -> None:
    lines = [
        "git clone <this> wikirl && cd x && A=1 .venv/bin/wikirl demo \\",
        "  --out 'a b' | cat  # wikirl no",
        "$ wikirl data list > list",
        "wikirl finetune --nonsense",
    ]
    found = list(commands_of(Block(ROOT / "README.md", 1, "sh", "\n".join(lines), runs=False)))
    assert found == [["demo", "--out", "a b"], ["data", "list"], ["finetune", "--nonsense"]]
    assert [parse(command) for command in found] == [0, 0, 2]


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=str)
def test_python_blocks(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = compile(block.text, str(block), "exec")
    if block.runs:
        monkeypatch.chdir(tmp_path)
        exec(code, {"__name__": "__main__"})


@dataclass(frozen=True)
class TinyRuns:
    """Folders of a tiny pre-training run, a fine-tuning run with everything on, one of choices, and baselines."""

    backbone: Path
    run: Path
    choices: Path
    baselines: tuple[Path, Path]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> TinyRuns:
    folder = tmp_path_factory.mktemp("docs")
    start = backbone(folder)
    config = finetune_config(
        "builtin:hopper-medium-replay", start, recipe="paper", cotraining_corpus=str(folder / "corpus.txt"),
        environment="Hopper-v5", target_returns=(400.0,), eval_episodes=1, held_out_fraction=0.01,
        num_steps=2, eval_every=2,
    )  # fmt: skip
    finetune(config, folder / "run", device="cpu", precision="float32")
    choices = finetune_config(dataset(folder, choices=True), start, num_steps=1)
    finetune(choices, folder / "choices", device="cpu", precision="float32")
    cloned = BaselineConfig(
        "builtin:hopper-medium-replay", "Hopper-v5", num_steps=1, eval_episodes=1, held_out_fraction=0.01
    )
    baseline(cloned, folder / "cloned", device="cpu")
    baseline(BaselineConfig(choices.dataset, num_steps=1), folder / "cloned-choices", device="cpu")
    return TinyRuns(Path(start), folder / "run", folder / "choices", (folder / "cloned", folder / "cloned-choices"))


def section(title: str) -> str:
    """A section of formats.md, its subsections included."""
    text = (ROOT / "docs" / "formats.md").read_text()
    start = re.search(rf"^(#+) {re.escape(title)}$", text, re.M)
    assert start is not None, title
    end = re.compile(rf"^#{{1,{len(start[1])}}} ", re.M).search(text, start.end())
    return text[start.end() : end.start() if end else None]


def unlisted(names: set[str], title: str) -> set[str]:
    """Names that a section does not show as code."""
    return {word for word in names if f"`{word}`" not in section(title)}


def test_every_metric_is_listed(runs: TinyRuns) -> None:
    lines = read_metrics(runs.run)
    logged = {key for line in [*lines, *read_metrics(runs.choices)] for key in line}
    assert logged >= {"alignment_loss", "language_loss", "held_out_action_error", "evaluations"}
    assert not unlisted(logged | lines[-1]["evaluations"][0].keys(), "Metrics of `finetune`")
    pretraining = {key for line in read_metrics(runs.backbone / "pretraining") for key in line}
    assert not unlisted(pretraining, "Metrics of `pretrain`")
    cloning = {key for run in runs.baselines for line in read_metrics(run) for key in line}
    assert not unlisted(cloning, "Metrics of `baseline`")
    # And the other way: what is listed is logged. The first column names them.
    for title, names in (("finetune", logged), ("pretrain", pretraining), ("baseline", cloning)):
        assert set(re.findall(r"^\| `(\w+)` \|", section(f"Metrics of `{title}`"), re.M)) == names


def test_every_score_is_listed(runs: TinyRuns) -> None:
    scores: dict[str, Any] = json.loads((runs.run / "scores.json").read_text())
    assert len(scores["summary"]) == len(scores["protocols"]) == 1
    inner = [scores["summary"][0], scores["protocols"][0], scores["evaluations"][0]]
    scores |= json.loads((runs.choices / "scores.json").read_text())
    assert not unlisted(scores.keys() | {key for entry in inner for key in entry}, "scores.json")
    figures = json.loads((runs.backbone / "pretraining" / "summary.json").read_text())
    assert not unlisted({key for key in figures if not key.startswith("held_out_")}, "The backbone folder")


def test_every_file_is_listed(runs: TinyRuns) -> None:
    for folder, title in (
        (runs.run, "The run folder"),
        (runs.baselines[0], "The run folder"),
        (runs.run / "policy", "The policy bundle"),
        (runs.baselines[0] / "policy", "The bundle of a baseline"),
        (runs.backbone, "The backbone folder"),
    ):
        names = {path.name + "/" * path.is_dir() for path in folder.iterdir()}
        assert not unlisted(names - {"checkpoints/"}, title)
    checkpoint = next((runs.run / "checkpoints").iterdir())
    assert not unlisted({path.name for path in checkpoint.iterdir()}, "The run folder")
    added = json.loads((runs.run / "config.json").read_text()).keys() - FinetuneConfig.__dataclass_fields__.keys()
    added |= (
        json.loads((runs.backbone / "pretraining" / "config.json").read_text()).keys()
        - PretrainConfig.__dataclass_fields__.keys()
    )
    config = json.loads((runs.baselines[0] / "config.json").read_text())
    added |= config.keys() - BaselineConfig.__dataclass_fields__.keys()
    bundle = json.loads((runs.run / "policy" / "config.json").read_text()).keys()
    assert not unlisted(added, "The run folder") | unlisted(bundle, "The policy bundle")
    bundle = json.loads((runs.baselines[0] / "policy" / "config.json").read_text()).keys()
    assert not unlisted(bundle, "The bundle of a baseline")


def test_every_key_of_a_study_is_listed(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, [ToyArm("chibit", num_tokens=1), SCRATCH], seeds=(0, 1, 2))
    for run in json.loads((suite / "suite.json").read_text())["runs"][2:3]:
        (suite / "runs" / run["name"] / "scores.json").unlink()
    said = report(suite)
    written: dict[str, Any] = {"suite": json.loads((suite / "suite.json").read_text())}
    written |= {name: json.loads((suite / "report" / f"{name}.json").read_text()) for name in ("results", "analysis")}
    planned, found = written["suite"], written["results"]
    inner = [planned["budget"], planned["tasks"][0], planned["arms"][0], planned["arms"][0]["pretraining"]]
    assert not unlisted(
        planned.keys() | {key for entry in [*inner, planned["runs"][0]] for key in entry}, "The suite folder"
    )
    run = found["runs"][0]
    own = {key for entry in (run, run["scores"][0], found["missing"][0], found["origins"][0]) for key in entry}
    own -= {"protocol", "origin"}  # numbers of entries in the lists below
    assert not unlisted(own | (found.keys() - planned.keys()) | written["analysis"]["rules"].keys(), "The report")
    assert not unlisted(set(said), "The command line")


def test_the_tour_names_every_module() -> None:
    text = (ROOT / "docs" / "tour.md").read_text()
    tree = text[text.index("    src/wikirl/") : text.index("    benchmarks/")]
    files = {path.name for path in (ROOT / "src" / "wikirl").rglob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"[a-z0-9_]+\.py", tree)) >= files
    first_words = set(re.findall(r"^ {6,}([a-z0-9_]+\.py) {2,}", tree, re.M))
    assert first_words == files


def test_differences_are_numbered_without_gaps() -> None:
    text = (ROOT / "docs" / "differences.md").read_text()
    sections = re.split(r"^### ", text, flags=re.M)[1:]
    numbers = [int(number) for number in re.findall(r"^### D(\d+)\. \S", text, re.M)]
    assert numbers == list(range(1, len(sections) + 1))
    for text_of_one in sections:
        for part in ("Paper: ", "Released code: ", "Here: ", "Switch: ", "File: ["):
            assert f"\n- {part}" in text_of_one, text_of_one.splitlines()[0]
    mentioned = {int(number) for page in PAGES for number in re.findall(r"\bD(\d{1,2})\b", prose_of(page))}
    assert mentioned <= set(numbers)


def test_switches_in_the_differences_exist(capsys: pytest.CaptureFixture[str]) -> None:
    flags = set(re.findall(r"--[a-z][a-z_-]+", (ROOT / "docs" / "differences.md").read_text()))
    assert [parse([verb, "--help"]) for verb in ("pretrain", "finetune", "evaluate")] == [0, 0, 0]
    help_texts = capsys.readouterr().out
    theirs = {"--extend_positions", "--frozen", "--share_input_output_proj"}
    assert {flag for flag in flags if not re.search(rf"{flag}\b", help_texts)} == theirs
