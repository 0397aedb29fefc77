import errno
import os

import pytest
from safetensors import SafetensorError

from wikirl.errors import refusal_of_the_system


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk(number: int) -> None:
    line = refusal_of_the_system(OSError(number, os.strerror(number), "/some/file"))
    assert line.startswith("expected room to write at /some/file; found: ")
    assert os.strerror(number) in line


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_place_that_may_not_be_written(number: int) -> None:
    line = refusal_of_the_system(OSError(number, os.strerror(number), "/some/file"))
    assert line.startswith(f"expected to be allowed to read and write at /some/file; found: {os.strerror(number)}")


def test_libraries_that_tell_it_in_their_text_alone() -> None:
    text = "Error while serializing: I/O error: No space left on device (os error 28)"
    assert refusal_of_the_system(SafetensorError(text)).startswith("expected room to write; found: No space left")
    error = Exception(text)
    error.add_note("at /some/folder")
    assert refusal_of_the_system(error).startswith("expected room to write at /some/folder; found: No space left")
    assert refusal_of_the_system(Exception("Permission denied (os error 13)")).startswith("expected to be allowed")
    assert refusal_of_the_system(OSError("2000 requested and 384 written")).startswith("expected room to write; found")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error", "/some/file"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/some/file"),
        OSError("something else"),
        ValueError("2000 requested and 384 written"),
        Exception("No such file or directory (os error 2)"),
    ],
)
def test_all_else_is_no_refusal(error: Exception) -> None:
    assert refusal_of_the_system(error) == ""
