"""The bytes of a file from some position on, from a server or a folder, and whether a server can be reached at all.

This file knows HTTP's ranges. It deliberately does not know what becomes of the bytes (`downloads`).
"""

import http.client
import io
import os
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from wikirl.errors import DatasetError

_CONNECT = 5  # seconds for a name and a connection
_SILENCE = 30  # seconds without a byte
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Version:
    """Which file it is; another one under the same name differs somewhere here.

    Attributes:
        source: URL or path.
        etag: The server's name for this version of it.
        modified: When it was changed, in the source's own words.
        length: Bytes of the whole file, if the source says.
    """

    source: str
    etag: str | None
    modified: str | None
    length: int | None


@dataclass(frozen=True)
class Opened:
    """An open source.

    Attributes:
        stream: Its bytes.
        version: Which file they are of.
        first: Position of the first of them; -1 if they are of no use.
    """

    stream: io.BufferedIOBase
    version: Version
    first: int


class BrokenError(Exception):
    """The server, not our disk, ended it."""


def require_reachable(url: str) -> None:
    """Connect once, to the server or to the proxy that stands before it, so that no network shows at once.

    Raises:
        DatasetError: no connection within 5 seconds.
    """
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "://" in proxy else f"//{proxy}")
    address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    trouble: list[str] = [f"no answer within {_CONNECT} seconds"]

    def connect() -> None:
        try:
            socket.create_connection(address, _CONNECT).close()
            trouble.clear()
        except OSError as error:
            trouble[:] = [str(error)]

    # Looking up a name cannot be given a time limit, so it happens beside.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_CONNECT)
    if trouble:
        raise DatasetError(f"{address[0]} cannot be reached ({trouble[0]})")


def is_url(source: str) -> bool:
    """Whether a source is a server's rather than a path."""
    return source.startswith(("http://", "https://"))


@contextmanager
def opened_at(source: str, offset: int) -> Iterator[Opened]:
    """Open a source; a server may give other bytes than those from `offset` on, and says which.

    Raises:
        BrokenError: the server does not answer, or has no such file.
        DatasetError: the file cannot be read.
    """
    if not is_url(source):
        with _open_path(source) as stream:
            status = os.fstat(stream.fileno())
            stream.seek(offset)
            yield Opened(stream, Version(source, None, str(status.st_mtime_ns), status.st_size), offset)
        return
    headers = {"User-Agent": "wikirl", "Accept-Encoding": "identity"}
    request = urllib.request.Request(source, headers=headers | ({"Range": f"bytes={offset}-"} if offset else {}))
    try:
        response = urllib.request.urlopen(request, timeout=_SILENCE)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not offset:
            raise BrokenError(str(error)) from error
        yield Opened(io.BytesIO(), Version(source, None, None, None), -1)
        return
    except (OSError, http.client.HTTPException, ValueError) as error:  # urllib's own errors are OSErrors
        raise BrokenError(str(error)) from error
    with response:
        length: str | None = response.headers.get("Content-Length")
        first = 0
        if response.status == http.client.PARTIAL_CONTENT:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            first, length = (int(match[1]), match[2]) if match else (-1, None)
        version = Version(
            source,
            response.headers.get("ETag"),
            response.headers.get("Last-Modified"),
            int(length) if length and length.isdecimal() else None,
        )
        yield Opened(response, version, first)


def _open_path(source: str) -> io.BufferedReader:
    try:
        return Path(source).open("rb")
    except OSError as error:
        raise DatasetError(f"{source} cannot be read ({error.strerror})") from error


def read_some(stream: io.BufferedIOBase) -> bytes:
    """The next bytes; none at the end.

    Raises:
        BrokenError: the connection did not last.
    """
    try:
        return stream.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise BrokenError(str(error) or type(error).__name__) from error
