"""A file server of this process: honest, or with one of the faults that real ones have."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """`files` by path; what was asked for is kept in `requests` as (path, first byte).

    `drops` closes so many connections after `drop_after` bytes; `statuses` answers the first
    requests with codes; `ranges=False` sends the whole file whatever was asked for, and
    `if_range=False` a range though the file is another by now; `total` lies about a range's whole;
    `gate` is waited for in the middle of a file, so that somebody can interfere.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    if_range: bool = True
    drops: int = 0
    drop_after: int = 0
    statuses: list[int] = field(default_factory=list)
    etags: Iterator[str] = field(default_factory=lambda: iter(lambda: '"one"', None))
    length: bool = True
    total: int | None = None
    gate: threading.Event | None = None
    url: str = ""
    requests: list[tuple[str, int]] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path
        found = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range") or "")
        start = int(found[1]) if found else 0
        self.requests.append((path, start))
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        if path not in self.files:
            handler.send_error(404)
            return
        body, etag = self.files[path], next(self.etags)
        expected = handler.headers.get("If-Range")
        partial = self.ranges and start > 0 and (expected in (None, etag) or not self.if_range)
        if partial and start >= len(body):
            handler.send_error(416)
            return
        handler.send_response(206 if partial else 200)
        if partial:
            total = len(body) if self.total is None else self.total
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{total}")
            body = body[start:]
        handler.send_header("ETag", etag)
        if self.length:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if self.drops > 0:
            self.drops -= 1
            body = body[: self.drop_after]
        if self.gate is not None:
            handler.wfile.write(body[: len(body) // 2])
            handler.wfile.flush()
            self.gate.wait(20)
            body = body[len(body) // 2 :]
        handler.wfile.write(body)


@contextmanager
def serving() -> Iterator[FileServer]:
    """A server on a free port of this machine."""
    served = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # Whoever asked may be gone.
            with suppress(BrokenPipeError, ConnectionResetError):
                served.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        served.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield served
        http.shutdown()
        thread.join()
