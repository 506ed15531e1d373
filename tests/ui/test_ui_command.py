"""`profi ui` on the command line: what it refuses, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from browsing import COMMAND, free_port

pytest.importorskip("gradio", reason='needs the extra "ui"')
pytestmark = pytest.mark.ui


def refused(*arguments: str, password: str = "") -> str:
    """The one line of a command that does not start."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "ui", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PROFI_UI_PASSWORD": password},
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_sharing_needs_the_flag_and_a_password(serve: Callable[..., Any], tmp_path: Path) -> None:
    port = ("--port", str(free_port()))
    assert "--share" in refused("--host", "0.0.0.0", *port)
    assert "PROFI_UI_PASSWORD" in refused("--host", "0.0.0.0", "--share", *port)
    assert "at least 8" in refused("--host", "0.0.0.0", "--share", *port, password="short")
    arguments = ("ui", "--host", "0.0.0.0", "--share")
    with serve(tmp_path, *arguments, PROFI_UI_PASSWORD="a good password") as server:
        for path in ("/", "/pictures/x", "/examples", "/gradio_api/info", "/config"):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(server.url + path)
        known = httpx.get(server.url + "/examples", auth=("profi", "a good password"))
        assert len(known.json()) == 8


def test_unknown_models_and_taken_ports_are_one_line() -> None:
    assert "'nothing' is unknown" in refused("--model", "nothing")
    assert "choose one of auto, cpu" in refused("--device", "abacus")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"port {port}" in refused("--port", port)


def test_interrupted_in_the_middle_of_a_painting_it_ends(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    with serve(tmp_path, "ui") as server:
        taken = httpx.post(f"{server.url}/examples/0", content=b"").json()
        order = {"picture": taken["picture"], "mask": taken["mask"], "prompt": "cup"}
        order |= {"steps": 250, "variants": 8}
        call = f"{server.url}/gradio_api/call/paint"
        event = httpx.post(call, json={"data": [order]}).json()["event_id"]
        with httpx.stream("GET", f"{call}/{event}", timeout=120) as stream:
            assert any("step" in line for line in stream.iter_lines())
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0
    assert "Traceback" not in server.log.read_text()
