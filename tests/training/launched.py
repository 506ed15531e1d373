"""Two real processes on this machine, as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
LIMIT = 180.0  # seconds


def start(script: Path, *arguments: str) -> subprocess.Popen[str]:
    """`torchrun` with two processes of one thread each."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.Popen(
        [*torchrun, "--nproc_per_node", "2", str(script), *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit status and what it said."""
    try:
        out, _ = process.communicate(timeout=LIMIT)
    finally:
        kill(process)
    return process.returncode, out


def killed_when(process: subprocess.Popen[str], there: Callable[[], bool]) -> None:
    """Kill it and its children (SIGKILL) as soon as `there`."""
    end = time.monotonic() + LIMIT
    try:
        while not there():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end, "nothing came"
            time.sleep(0.005)
    finally:
        kill(process)
        process.communicate()


def kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        # torchrun's processes are in sessions of their own.
        parent = psutil.Process(process.pid)
        for one in (*parent.children(recursive=True), parent):
            one.kill()
