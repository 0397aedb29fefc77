"""`downloads.py` and `connections.py`: against a server on loopback and a folder."""

import hashlib
import json
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wikirl.errors import DatasetError
from wikirl.trajectories import connections, downloads
from wikirl.trajectories.downloads import fetch

from .serving import Site, free_port, serving

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def served(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "set.bin").write_bytes(CONTENT)
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "set.bin"


def _fetch(source: str, target: Path) -> str:
    return fetch(source, target, is_right=lambda path: path.read_bytes()[:1] == b"\0", kind="test file")


def _break(site: Site, target: Path, after: int) -> None:
    """Leave a part of the file behind, as a connection that breaks once and a user who gives up do."""
    site.break_after = after
    attempts, downloads._ATTEMPTS = downloads._ATTEMPTS, 1
    try:
        with pytest.raises(
            DatasetError, match=rf"broke after {after:,} of .* bytes\); {after:,} bytes are kept, the same"
        ):
            _fetch(f"{site.url}/set.bin", target)
    finally:
        downloads._ATTEMPTS = attempts
    site.break_after = None
    site.requests.clear()
    assert not target.exists()
    assert target.with_name("set.bin.part").stat().st_size == after


def _is_whole(target: Path, content: bytes = CONTENT) -> bool:
    names = sorted(path.name for path in target.parent.iterdir())
    return target.read_bytes() == content and names == ["set.bin", "set.bin.sha256"]


def test_a_whole_file_with_its_sum(served: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(served) as site:
        sha256 = _fetch(f"{site.url}/set.bin", target)
    assert sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert _is_whole(target)
    assert f"set.bin: 10,240 bytes, SHA-256 {sha256}, from http" in capsys.readouterr().err
    done = subprocess.run(["sha256sum", "-c", "set.bin.sha256"], cwd=target.parent, capture_output=True, text=True)
    assert done.stdout == "set.bin: OK\n"


def test_a_broken_connection_goes_on_where_it_stopped(served: Path, target: Path) -> None:
    with serving(served) as site:
        _break(site, target, 3000)
        _fetch(f"{site.url}/set.bin", target)
        assert site.requests == ["/set.bin bytes=3000-"]
    assert _is_whole(target)


def test_it_goes_on_by_itself_while_bytes_come(served: Path, target: Path) -> None:
    with serving(served, break_after=3000) as site:
        _fetch(f"{site.url}/set.bin", target)
        assert site.requests == ["/set.bin", *(f"/set.bin bytes={n}-" for n in (3000, 6000, 9000))]
    assert _is_whole(target)


def test_a_server_without_ranges(served: Path, target: Path) -> None:
    with serving(served, ranges=False) as site:
        _break(site, target, 3000)
        _fetch(f"{site.url}/set.bin", target)
        assert site.requests == ["/set.bin bytes=3000-"]
    assert _is_whole(target)


@pytest.mark.parametrize("etags", [True, False])
@pytest.mark.parametrize("size", [2000, 3000, 20000])
def test_a_file_that_changed_is_fetched_anew(served: Path, target: Path, size: int, etags: bool) -> None:
    changed = b"\0" + b"x" * (size - 1)
    with serving(served, etags=etags) as site:
        _break(site, target, 3000)
        (served / "set.bin").write_bytes(changed)
        _fetch(f"{site.url}/set.bin", target)
        assert site.requests == (["/set.bin bytes=3000-"] if etags else []) + ["/set.bin"]
    assert _is_whole(target, changed)


@pytest.mark.parametrize("note", [None, "{", "[]", json.dumps({"source": "elsewhere"})])
def test_bytes_of_unknown_origin_are_not_used(served: Path, target: Path, note: str | None) -> None:
    target.parent.mkdir()
    target.with_name("set.bin.part").write_bytes(b"nonsense")
    if note is not None:
        target.with_name("set.bin.part.json").write_text(note)
    with serving(served) as site:
        _fetch(f"{site.url}/set.bin", target)
        assert site.requests == ["/set.bin"]
    assert _is_whole(target)


def test_another_source_begins_anew(served: Path, target: Path) -> None:
    with serving(served) as first, serving(served) as second:
        _break(first, target, 3000)
        _fetch(f"{second.url}/set.bin", target)
        assert second.requests == ["/set.bin"]
    assert _is_whole(target)


def test_a_kill_between_the_last_byte_and_the_name(served: Path, target: Path) -> None:
    with serving(served) as site:
        _break(site, target, 3000)
        target.with_name("set.bin.part").write_bytes(CONTENT)
        _fetch(f"{site.url}/set.bin", target)
        assert site.requests == []
    assert _is_whole(target)


def test_wrong_content_leaves_nothing(served: Path, target: Path) -> None:
    (served / "set.bin").write_text("<html>moved</html>")
    with serving(served) as site, pytest.raises(DatasetError, match="is no test file; it begins with '<html>moved"):
        _fetch(f"{site.url}/set.bin", target)
    assert list(target.parent.iterdir()) == []


def test_another_sum_than_recorded(served: Path, target: Path) -> None:
    with serving(served) as site:
        _fetch(f"{site.url}/set.bin", target)
        target.unlink()
        (served / "set.bin").write_bytes(b"\0other")
        with pytest.raises(DatasetError, match=r"has SHA-256 \w{64}, set\.bin\.sha256 expects \w{64}; if the file was"):
            _fetch(f"{site.url}/set.bin", target)
        assert [path.name for path in target.parent.iterdir()] == ["set.bin.sha256"]
        target.with_name("set.bin.sha256").write_text("no sum\n")
        with pytest.raises(DatasetError, match=r"set\.bin\.sha256 holds no SHA-256; delete it"):
            _fetch(f"{site.url}/set.bin", target)


def test_a_folder_as_source(served: Path, target: Path) -> None:
    _fetch(str(served / "set.bin"), target)
    assert _is_whole(target)
    with pytest.raises(DatasetError, match=r"served/none\.bin cannot be read \(No such file"):
        _fetch(str(served / "none.bin"), target.with_name("none.bin"))
    (served / "set.bin.sha256").write_text("0" * 64 + "  set.bin\n")
    with pytest.raises(DatasetError, match="expects 0000"):
        _fetch(str(served / "set.bin"), target.with_name("other.bin"))
    assert _is_whole(target)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:{port}/set.bin", r"127\.0\.0\.1 cannot be reached \(.*refused"),
        ("http://nowhere.invalid/set.bin", r"nowhere\.invalid cannot be reached \("),
    ],
)
def test_no_server_leaves_nothing(target: Path, url: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        _fetch(url.format(port=free_port()), target)
    assert list(target.parent.iterdir()) == []


def test_a_server_that_says_nothing(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_SILENCE", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(DatasetError, match=r"cannot be had \(.*timed out"):
            _fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/set.bin", target)


def test_the_proxy_is_asked_instead(monkeypatch: pytest.MonkeyPatch, served: Path) -> None:
    with serving(served) as site:
        monkeypatch.setenv("http_proxy", site.url)
        connections.require_reachable("http://nowhere.invalid/set.bin")
        monkeypatch.setenv("no_proxy", "nowhere.invalid")
        with pytest.raises(DatasetError, match="nowhere"):
            connections.require_reachable("http://nowhere.invalid/set.bin")


def test_several_jobs_may_ask(served: Path, target: Path) -> None:
    with serving(served) as site, ThreadPoolExecutor(4) as jobs:
        sums = set(jobs.map(lambda _: _fetch(f"{site.url}/set.bin", target), range(4)))
        assert site.requests == ["/set.bin"]
    assert sums == {hashlib.sha256(CONTENT).hexdigest()}
    assert _is_whole(target)


@settings(max_examples=25, deadline=None)
@given(
    breaks=st.lists(st.integers(1, 10239), max_size=4), ranges=st.booleans(), etags=st.booleans(), swap=st.booleans()
)
def test_whatever_happens_the_file_is_whole(
    tmp_path_factory: pytest.TempPathFactory, breaks: list[int], ranges: bool, etags: bool, swap: bool
) -> None:
    folder = tmp_path_factory.mktemp("served")
    (folder / "set.bin").write_bytes(CONTENT)
    target = tmp_path_factory.mktemp("cache") / "set.bin"
    with serving(folder, ranges=ranges, etags=etags) as site:
        for after in breaks:
            site.break_after = after
            try:
                _fetch(f"{site.url}/set.bin", target)
            except DatasetError as error:
                assert "bytes are kept" in str(error)  # noqa: PT017 - it may also succeed
        content = CONTENT
        if swap and not target.exists():
            content = b"\0" + CONTENT[:0:-1]
            (folder / "set.bin").write_bytes(content)
        site.break_after = None
        _fetch(f"{site.url}/set.bin", target)
    assert _is_whole(target, content)
