import gzip
import importlib.util
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikirl.errors import CorpusError, MissingExtraError
from wikirl.text.readers import is_readable, read_documents, text_size

TEXT = "\n\n  first line \nsecond line\t\n \t \nnext document\r\n\r\n\n\nlast — with ünïcode 海"
DOCUMENTS = ["first line\nsecond line", "next document", "last — with ünïcode 海"]
RECORDS = "\n".join(json.dumps({"id": n, "text": text}) for n, text in enumerate(["", *DOCUMENTS, " \n "])) + "\n\n"


def zstd(content: bytes) -> bytes:
    import zstandard

    half = len(content) // 2  # two frames, as `cat a.zst b.zst` makes
    packed: bytes = b"".join(zstandard.compress(part) for part in (content[:half], content[half:]))
    return packed


KINDS = [
    pytest.param("", bytes, id="plain"),
    pytest.param(".gz", gzip.compress, id="gz"),
    pytest.param(".xz", lzma.compress, id="xz"),
    pytest.param(".zst", zstd, id="zst", marks=pytest.mark.extras),
]
PACKED = KINDS[1:]
Compress = Callable[[bytes], bytes]


def refused(path: Path, text_field: str = "text") -> str:
    with pytest.raises(CorpusError) as error:
        list(read_documents(path, text_field))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("suffix", "compress"), KINDS)
def test_the_same_documents_from_every_kind_of_file(tmp_path: Path, suffix: str, compress: Compress) -> None:
    for name, content in {"a.txt": TEXT, "a.md": TEXT, "a.jsonl": RECORDS}.items():
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(compress(content.encode()))
        assert is_readable(path)
        assert list(read_documents(path)) == DOCUMENTS


@pytest.mark.parametrize(("suffix", "compress"), KINDS)
def test_an_empty_file_holds_nothing(tmp_path: Path, suffix: str, compress: Compress) -> None:
    for name in ("a.txt", "a.jsonl"):
        (tmp_path / f"{name}{suffix}").write_bytes(compress(b""))
        assert list(read_documents(tmp_path / f"{name}{suffix}")) == []


@pytest.mark.parametrize("keep", [8, 30, -2])
@pytest.mark.parametrize(("suffix", "compress"), PACKED)
def test_a_packed_file_cut_short(tmp_path: Path, suffix: str, compress: Compress, keep: int) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(compress(TEXT.encode() * 50)[:keep])
    assert "copy it again" in refused(path)


@pytest.mark.parametrize(("suffix", "compress"), PACKED)
def test_a_packed_file_that_is_none(tmp_path: Path, suffix: str, compress: Compress) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(b"plain text under a wrong name")
    assert "copy it again" in refused(path)


@pytest.mark.parametrize(("suffix", "compress"), KINDS)
def test_other_bytes_are_refused_with_their_line(tmp_path: Path, suffix: str, compress: Compress) -> None:
    content = b"good line\n" * 3000 + "na\xefve\n".encode("latin-1") + b"good line\n" * 3000
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(compress(content))
    assert "line 3001" in refused(path)


@pytest.mark.extras
def test_much_text_in_few_bytes_is_read_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.zst"
    path.write_bytes(zstd(b"word\n\n" * 3_000_000))
    assert sum(1 for _ in read_documents(path)) == 3_000_000


@given(st.lists(st.text(max_size=20), max_size=8))
def test_a_record_is_a_document(texts: list[str]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
        assert list(read_documents(path)) == [text.strip() for text in texts if text.strip()]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": "cut sh', "JSON"),
        ("[" * 100_000, "JSON"),
        ('["a", "list"]', "['a', 'list']"),
        ('{"body": "x", "id": 3}', "found body, id; name the field after the corpus, as in CORPUS#FIELD"),
        ("{}", "found none"),
        ('{"text": 7}', "found 7"),
        ('{"text": "\\ud800"}', "surrogate"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "good"}}\n\n{line}\n')
    message = refused(path)
    assert "line 3" in message
    assert words in message


def test_another_field(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": "one", "text": 3}\n{"body": null}\n{"body": "\\ud83d\\ude00"}')
    assert list(read_documents(path, "body")) == ["one", "😀"]
    assert "'title'" in refused(path, "title")


def write_parquet(path: Path, columns: dict[str, Any]) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    parquet.write_table(arrow.table(columns), path)


@pytest.mark.extras
def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [f"document {n}" for n in range(2500)]
    write_parquet(path, {"id": range(2503), "text": [None, *texts, " ", ""]})
    assert is_readable(path)
    assert list(read_documents(path)) == texts
    assert text_size(path) is None
    assert "'body' in " in refused(path, "body")
    assert "found id, text" in refused(path, "body")
    assert "found 0" in refused(path, "id")


@pytest.mark.extras
def test_a_damaged_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"")
    assert "Parquet" in refused(path)
    write_parquet(path, {"text": ["word " * n for n in range(3000)]})
    content = path.read_bytes()
    for damaged in (content[:-20], content[: len(content) // 2], content[:200] + b"\xff" * 400 + content[600:]):
        path.write_bytes(damaged)
        assert "copy it again" in refused(path)


@pytest.mark.parametrize(("name", "package"), [("a.txt.zst", "zstandard"), ("a.parquet", "pyarrow")])
def test_a_format_whose_package_is_missing(tmp_path: Path, name: str, package: str) -> None:
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(
        MissingExtraError, match=rf"{name} needs the package {package}; pip install {package}, .*\[text\]"
    ):
        list(read_documents(tmp_path / name))


def test_what_is_readable() -> None:
    readable = "a.txt wiki.train.tokens a.raw.xz b.c.jsonl.zst x.md.gz a.parquet"
    assert all(is_readable(Path(name)) for name in readable.split())
    others = "a.csv a.gz txt a.txt.bz2 a.parquet.gz picture.png a.txt.gz.part"
    assert not any(is_readable(Path(name)) for name in others.split())


def test_sizes_known_without_reading(tmp_path: Path) -> None:
    for name, content in {
        "a.txt": b"x" * 1000,
        "a.txt.gz": gzip.compress(b"x" * 1000),
        "a.jsonl": b"y" * 1000,
    }.items():
        (tmp_path / name).write_bytes(content)
        assert text_size(tmp_path / name) == 1000
    (tmp_path / "a.xz").write_bytes(lzma.compress(b"x"))
    assert text_size(tmp_path / "a.xz") is None
    (tmp_path / "b.gz").write_bytes(b"")
    assert text_size(tmp_path / "b.gz") == 0
