"""What the tests of the pages share: servers in processes of their own, pages of a Chromium."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
COMMAND = "from profi.cli.main import main; main()"
DESKTOP = {"width": 1280, "height": 720}
PHONE = {"width": 390, "height": 844}


@dataclass(frozen=True)
class Server:
    """A running `profi ...` command that serves pages at `url`; `log` has its output."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def answers(url: str) -> bool:
    """Whether anything answers there; an error of HTTP is an answer, too."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@contextmanager
def serving(
    folder: Path,
    *arguments: str,
    port: int | None = None,
    within: float = 180,
    **environment: str,
) -> Iterator[Server]:
    """`profi ARGUMENTS --port N` in a process of its own, from when it answers; ended on exit.

    `folder` gets its log; `folder`/tmp is where it keeps temporary files.
    """
    port = port or free_port()
    log = folder / f"server-{port}.log"
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    # One thread: on a machine with other work, two that wait for each other are slower.
    fixed = {"TMPDIR": str(temporary), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *arguments, "--port", str(port)],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **fixed, **environment},
        )
    server = Server(f"http://127.0.0.1:{port}", process, log)
    try:
        end = time.monotonic() + within
        while not answers(server.url):
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"profi {' '.join(arguments)} does not answer:\n{log.read_text()}")
            time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


@contextmanager
def opened(browser: Any, viewport: dict[str, int] = DESKTOP, **options: Any) -> Iterator[Any]:
    """A page of a person of their own. On exit it asserts that no request left this machine."""
    context = browser.new_context(viewport=viewport, reduced_motion="reduce", **options)
    abroad: list[str] = []

    def finished(request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("http", "https", "ws") and address.hostname not in (
            "127.0.0.1",
            "localhost",
        ):
            abroad.append(request.url)

    # A request that the page's own policy refuses was never sent.
    context.on("requestfinished", finished)
    context.on(
        "requestfailed",
        lambda request: None if "BLOCKED" in str(request.failure).upper() else finished(request),
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    try:
        yield page
    finally:
        context.close()
    assert abroad == []


def axe_findings(page: Any) -> list[str]:
    """axe-core's serious and critical findings by WCAG 2 A and AA: "rule: selector"."""
    from axe_playwright_python.sync_playwright import Axe

    rules = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
    found = Axe().run(page, options=rules).response["violations"]
    return [
        f"{one['id']}: {' '.join(map(str, node['target']))}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
