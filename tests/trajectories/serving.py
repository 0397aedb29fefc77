"""A server on loopback that can do what servers do: ranges, no ranges, broken connections."""

import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Site:
    """What a server does and has been asked.

    Attributes:
        folder: What it serves.
        url: Where.
        ranges: Whether it knows HTTP's ranges.
        etags: Whether it names versions.
        break_after: Bytes after which it ends each connection; None: it does not.
        requests: Path and range of every request.
    """

    folder: Path
    url: str = ""
    ranges: bool = True
    etags: bool = True
    break_after: int | None = None
    requests: list[str] = field(default_factory=list)


@contextmanager
def serving(folder: Path, **options: Any) -> Iterator[Site]:
    site = Site(folder, **options)

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            _answer(self, site)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        site.url = f"http://127.0.0.1:{running.server_port}"
        try:
            yield site
        finally:
            running.shutdown()
            thread.join()


def _answer(request: http.server.BaseHTTPRequestHandler, site: Site) -> None:
    wanted = request.headers.get("Range")
    site.requests.append(f"{request.path} {wanted}" if wanted else request.path)
    path = site.folder / request.path.lstrip("/")
    if not path.is_file():
        request.send_error(404)
        return
    content = path.read_bytes()
    first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and site.ranges else 0
    if first >= len(content) > 0:
        request.send_response(416)
        request.send_header("Content-Range", f"bytes */{len(content)}")
        request.end_headers()
        return
    request.send_response(206 if first else 200)
    if first:
        request.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
    if site.etags:
        request.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()[:8]}"')
    request.send_header("Content-Length", str(len(content) - first))
    request.end_headers()
    request.wfile.write(content[first:][: site.break_after])


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
