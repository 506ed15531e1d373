"""Several jobs that want one file at the same moment; jobs that die."""

from __future__ import annotations

import hashlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from file_server import FileServer

from profi import download as module
from profi.download import Remote, download, only_one
from profi.types import UserError

BODY = random.Random(1).randbytes(2_000_000)


@pytest.fixture
def source(server: FileServer) -> Remote:
    """A file of the server's; its sending stops half way until `server.gate` is set."""
    server.files["/file.bin"] = BODY
    server.gate = threading.Event()
    digest = hashlib.sha256(BODY).hexdigest()
    return Remote(f"{server.url}/file.bin", "sha256", digest, len(BODY))


def half_is_there(folder: Path) -> bool:
    """Up to what a writer holds back."""
    return sum(p.stat().st_size for p in folder.glob("*.part")) > len(BODY) // 2 - 70_000


# What one of several jobs does: fetch unless it is there.
JOB = """
import sys
from pathlib import Path
from profi.download import Remote, download, only_one
url, digest, size, path = sys.argv[1:]
path = Path(path)
with only_one(path.with_name(".lock")):
    if path.exists():
        print("there", flush=True)
    else:
        print("fetching", flush=True)
        download(Remote(url, "sha256", digest, int(size)), path, remedy="",
                 progress=lambda done, total: None)
assert path.stat().st_size == int(size)
"""


def job(source: Remote, path: Path) -> subprocess.Popen[str]:
    arguments = [source.url, source.hexdigest, str(source.size), str(path)]
    return subprocess.Popen(
        [sys.executable, "-c", JOB, *arguments],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    )


def until(condition: Any, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_of_several_processes_one_fetches(
    server: FileServer, source: Remote, tmp_path: Path
) -> None:
    assert server.gate is not None
    jobs = [job(source, tmp_path / "a.bin") for _ in range(4)]
    until(lambda: server.requests)
    time.sleep(0.5)
    server.gate.set()
    said = [process.communicate(timeout=30)[0].split() for process in jobs]
    assert [process.returncode for process in jobs] == [0] * 4
    assert sorted(said) == [["fetching"], ["there"], ["there"], ["there"]]
    assert len(server.requests) == 1
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_killed_job_is_taken_over_at_once_where_it_was(
    server: FileServer, source: Remote, tmp_path: Path
) -> None:
    assert server.gate is not None
    first = job(source, tmp_path / "a.bin")
    until(lambda: half_is_there(tmp_path))
    waiting = [job(source, tmp_path / "a.bin") for _ in range(2)]
    first.send_signal(signal.SIGKILL)
    first.wait()
    server.gate.set()
    said = [process.communicate(timeout=30)[0].split() for process in waiting]
    assert sorted(said) == [["fetching"], ["there"]]
    (_, first_start), (_, second_start) = server.requests
    assert first_start == 0
    assert len(BODY) // 2 - 70_000 < second_start <= len(BODY) // 2
    assert (tmp_path / "a.bin").read_bytes() == BODY
    first.communicate()


def test_downloads_that_do_not_know_of_each_other_do_not_harm(
    server: FileServer, source: Remote, tmp_path: Path
) -> None:
    """As after a lock that was lost: both end well or say so, and the file is whole."""
    assert server.gate is not None
    failures: list[str] = []

    def run() -> None:
        try:
            download(source, tmp_path / "a.bin", remedy="", progress=lambda _done, _total: None)
        except UserError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(2)]
    threads[0].start()
    until(lambda: half_is_there(tmp_path))
    threads[1].start()
    until(lambda: len(server.requests) == 2)
    server.gate.set()
    for thread in threads:
        thread.join()
    # The second took the first one's piece, so that that one has nothing to publish.
    assert len(failures) == 1
    assert "took over" in failures[0]
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_lock_of_another_machine_goes_when_nobody_renews_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE", 1.0)
    monkeypatch.setattr(module, "BEAT", 0.2)
    lock = tmp_path / "lock"
    with only_one(lock):
        # Its own, as if a machine of another name had written it and lost its power.
        text = lock.read_text()
    assert socket.gethostname() in text
    lock.write_text(text.replace(socket.gethostname(), "elsewhere"))
    start = time.monotonic()
    with only_one(lock):
        assert time.monotonic() - start > 0.9
    assert not lock.exists()


def test_a_lock_that_is_renewed_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE", 0.6)
    monkeypatch.setattr(module, "BEAT", 0.1)
    order: list[str] = []

    def second() -> None:
        with only_one(tmp_path / "lock"):
            order.append("second")

    with only_one(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(1.5)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
