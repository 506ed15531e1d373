"""What the timed benchmarks share: their options, the line about the machine, and one stopwatch."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import diffusers
import torch

from profi.models.backbone import DTYPES, Backbone


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options of every timed benchmark; `doc` is its module's docstring."""
    options = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--dtype", choices=tuple(DTYPES), default="float32", help="of the UNet")
    options.add_argument("--size", type=int, default=512)
    options.add_argument("--batch", type=int, default=1)
    options.add_argument("--repeats", type=int, default=5)
    return options


def machine(device: str) -> str:
    """One line: the device and the versions."""
    if torch.device(device).type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        threads = f"{torch.get_num_threads()} threads of {os.cpu_count()}"
        name = f"{platform.processor() or 'CPU'}, {threads}"
    return f"{name}, torch {torch.__version__}, diffusers {diffusers.__version__}"


def header(args: argparse.Namespace, *more: str) -> str:
    """Two lines: the machine with the versions, and what is measured."""
    what = (f"{args.size}x{args.size}", f"batch {args.batch}", f"UNet {args.dtype}", *more)
    return f"{machine(args.device)}\n{', '.join(what)}, median of {args.repeats} [extremes]"


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, all that it started on the device included."""
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def in_turns(
    rows: Mapping[str, Callable[[], object]], of: Backbone, repeats: int
) -> dict[str, list[float]]:
    """Seconds of each row, `repeats` times in turns, after a first round that warms up."""
    seconds: dict[str, list[float]] = {row: [] for row in rows}
    for round_number in range(repeats + 1):
        for row, call in rows.items():
            # Nobody profits from what another row had encoded.
            of.forget()
            taken = timed(call, of.device)
            if round_number > 0:
                seconds[row].append(taken)
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_text(seconds: list[float]) -> str:
    """Median and extremes."""
    return f"{statistics.median(seconds):.2f} s [{min(seconds):.2f}, {max(seconds):.2f}]"
