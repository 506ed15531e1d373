"""Downloads that resume after an interruption, are checked by hash, and appear only when whole.

Several jobs may need the same file at once, on several machines with a shared file system.
`only_one` lets one job download while the others wait. Its lock can expire, so downloads are safe
without it too: each one writes to its own file (a partial file of an earlier job is copied, never
shared) and then renames it to the final name.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import re
import secrets
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from filelock import SoftFileLease, Timeout

from profi.types import UserError

log = logging.getLogger(__name__)

#: Called with the number of bytes received and the total (None: not known).
Progress = Callable[[int, int | None], None]

#: A lock without a heartbeat for LEASE seconds counts as abandoned; BEAT seconds lie between two
#: heartbeats. A network file system may show a heartbeat one minute late.
LEASE, BEAT = 180.0, 20.0
#: The download fails after this many tries in a row without new bytes.
TRIES = 3
CHUNK = 1 << 18
#: HTTP errors that may pass: the request is tried again.
PASSING = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True)
class Remote:
    """A remote file and its expected hash.

    `algorithm` is a name of hashlib's. `hexdigest` is the whole hash or its first digits (some
    publishers give no more). `size` is in bytes (None: not known).
    """

    url: str
    algorithm: str
    hexdigest: str
    size: int | None = None

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rpartition("/")[2]

    def digest_of(self, path: Path) -> str:
        """A local file's hash."""
        with path.open("rb") as file:
            return hashlib.file_digest(
                file, lambda: hashlib.new(self.algorithm, usedforsecurity=False)
            ).hexdigest()


def sha256_of(path: Path) -> str:
    """A local file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _InterruptedError(Exception):
    """The connection failed; the bytes received so far are good."""


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; wait while another job holds it.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lease = SoftFileLease(path, lease_duration=LEASE, heartbeat_interval=BEAT, poll_interval=0.2)
    try:
        lease.acquire(timeout=0)
    except Timeout:
        log.info("another job is working on this: waiting for its lock %s", path)
        lease.acquire()
    try:
        yield
    finally:
        lease.release()


def download(
    remote: Remote,
    path: Path,
    *,
    remedy: str,
    progress: Progress,
    timeout: float = 20.0,
    pause: float = 1.0,
) -> None:
    """Download a file to `path`, where it appears only after its hash was checked.

    An interrupted transfer is resumed by a range request, in this call or in a later one. It starts
    from zero if the server ignores the range or now has another file (its ETag differs). A file
    that came in several pieces and has a wrong hash is downloaded once more.

    Args:
        remote: the file to download.
        path: where it is stored.
        remedy: what the user can do if the download fails; the end of the error message.
        progress: called from time to time.
        timeout: seconds without a byte after which a connection counts as broken.
        pause: seconds before the second try; doubled for each further one.

    Raises:
        UserError: the file is unreachable or missing, or its size or hash is wrong.
        OSError: the disk failed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    transfer = _Transfer(remote, path, remedy, progress)
    transfer.adopt()
    try:
        transfer.complete(timeout, pause)
        transfer.part.replace(path)
    except FileNotFoundError as error:
        raise UserError(
            f"another job took over {transfer.part}, perhaps after a long pause: "
            "run the same command again"
        ) from error


class _Transfer:
    """One process's transfer into its own temporary file in the folder of `path`."""

    def __init__(self, remote: Remote, path: Path, remedy: str, progress: Progress) -> None:
        self.part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        self._in_one_piece = False
        self._remote, self._path = remote, path
        self._remedy, self._progress = remedy, progress
        self._etag: str | None = None

    def adopt(self) -> None:
        """Resume from the longest partial file of earlier transfers."""
        pieces = self._path.parent.glob(f".{self._path.name}.*.part")
        left = sorted(pieces, key=lambda piece: piece.stat().st_size)
        if left:
            # A copy, because its job may still be writing to it.
            shutil.copyfile(left[-1], self.part)
        for piece in left:
            piece.unlink(missing_ok=True)

    def _drop(self) -> None:
        """Delete the partial file."""
        self.part.unlink(missing_ok=True)
        self._etag = None

    def complete(self, timeout: float, pause: float) -> None:
        """Download the whole file and check its hash."""
        remote = self._remote
        for last in (False, True):
            self._fetch(timeout, pause)
            found = remote.digest_of(self.part)
            if found.startswith(remote.hexdigest):
                return
            self._drop()
            if last or self._in_one_piece:
                raise UserError(
                    f"{remote.url} serves a file with {remote.algorithm} {found}, not "
                    f"{remote.hexdigest}, perhaps a proxy's page: {self._remedy}"
                )
            log.warning("%s: its pieces do not fit together, downloading it again", remote.name)

    def _fetch(self, timeout: float, pause: float) -> None:
        """Download the missing bytes, over as many connections as needed."""
        size = self._remote.size
        if size is not None and self._offset() > size:
            self._drop()
        tries, furthest = 0, self._offset()
        while size is None or self._offset() != size:
            try:
                self._connect(timeout)
                return
            except _InterruptedError as error:
                # A server that starts from zero each time brings no new bytes.
                tries = 0 if self._offset() > furthest else tries + 1
                furthest = max(furthest, self._offset())
                if tries >= TRIES:
                    raise UserError(
                        f"{self._remote.url} cannot be fetched ({error}): {self._remedy}"
                    ) from error
                log.info("%s: %s; trying again", self._remote.name, error)
                time.sleep(pause * 2 ** max(tries - 1, 0))

    def _offset(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _connect(self, timeout: float) -> None:
        """Download over one connection, to the end of the file."""
        offset = self._offset()
        with self._open(offset, timeout) as response:
            length = response.headers.get("Content-Length")
            resumed = response.status == HTTPStatus.PARTIAL_CONTENT
            total = self._resumed(response, offset) if resumed else int(length) if length else None
            done = offset if resumed else 0
            size = self._remote.size
            if size is not None and total not in (None, size):
                raise self._other_size(f"{total}")
            self._etag = response.headers.get("ETag")
            self._in_one_piece = done == 0
            end = None if length is None else done + int(length)
            with self.part.open("ab" if resumed else "wb") as file:
                for chunk in _chunks(response):
                    file.write(chunk)
                    done += len(chunk)
                    if size is not None and done > size:
                        raise self._other_size("more")
                    self._progress(done, size or end)
            if end is not None and done < end:
                raise _InterruptedError("the connection was cut")

    def _open(self, offset: int, timeout: float) -> http.client.HTTPResponse:
        """Request the file from byte `offset` on."""
        headers = {"User-Agent": "profi", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            # A weak tag does not guarantee equal bytes.
            if self._etag is not None and not self._etag.startswith("W/"):
                headers["If-Range"] = self._etag
        request = urllib.request.Request(self._remote.url, headers=headers)
        try:
            response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self._drop()
            elif error.code not in PASSING:
                raise UserError(
                    f"{self._remote.url} answers {error.code} {error.reason}: {self._remedy}"
                ) from error
            raise _InterruptedError(f"it answers {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            raise _InterruptedError(_reason(error)) from error
        return response

    def _resumed(self, response: http.client.HTTPResponse, offset: int) -> int | None:
        """The whole file's size (None: not known), if the answer continues the partial file."""
        place = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        same = self._etag is None or response.headers.get("ETag") == self._etag
        if place is None or int(place[1]) != offset or not same:
            self._drop()
            raise _InterruptedError("the answer does not continue the partial file")
        return None if place[2] == "*" else int(place[2])

    def _other_size(self, found: str) -> UserError:
        self._drop()
        return UserError(
            f"{self._remote.url} serves a file of {found} bytes, not of {self._remote.size}, "
            f"perhaps a proxy's page: {self._remedy}"
        )


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body in chunks; _InterruptedError if the network fails (a disk failure is an OSError)."""
    try:
        while chunk := response.read1(CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _InterruptedError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """The error in one line; the error that urllib wraps has the better text."""
    inner = getattr(error, "reason", error)
    text = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return " ".join(str(text).split())[:160]
