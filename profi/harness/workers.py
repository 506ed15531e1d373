"""Processes of this machine that share the work of a command.

Every process does a shard of every run (`shard=i/n`), with the threads, the batches and so the bits
of a single process.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from rich.console import Console

from profi.catalogue import catalogue
from profi.harness.generate import Tally
from profi.harness.progress import Listener, Meter, meter
from profi.harness.provenance import remember_sources
from profi.harness.runs import Command, Run, Samples, all_runs
from profi.harness.work import SCORE, RowDone, Work, shares, work
from profi.models.devices import silence_libraries
from profi.reports.names import RowKey
from profi.settings import Config, LoggerConfig, parse_shard
from profi.settings.command import QUEUED
from profi.types import UserError

log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
#: Only the parent reacts to these; its workers end with it.
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")


def processes_for(config: Config, samples: Samples | None) -> int:
    """How many processes share the command's work: never more than there are parts, if known.

    With `workers=auto`: one per GPU; on a CPU as many as it has cores for the threads of the
    models, one if a model sets none.
    """
    if config.stage == "report":
        return 1
    count = _automatic(config) if config.workers == "auto" else int(config.workers)
    if samples is not None:
        parts = -(-len(samples.triplets) // config.part_size)
        count = min(count, max(1, -(-parts // parse_shard(config.shard)[1])))
    return count


def _automatic(config: Config) -> int:
    if QUEUED in os.environ:
        # The queue shares the work among jobs.
        return 1
    device = config.model.device
    if device in ("auto", "cuda") and torch.cuda.is_available():
        return torch.cuda.device_count()
    threads = [one.model.threads for one in config.per_model]
    if device not in ("auto", "cpu") or None in threads:
        return 1
    return max(1, cores() // max(count for count in threads if count is not None))


def cores() -> int:
    """The CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Counted:
    """Images of a row: `total` more to do, `done` of them (in part) done, `kept` already there."""

    row: RowKey
    total: int = 0
    done: float = 0.0
    kept: int = 0


def work_in_processes(
    command: Command,
    samples: Samples | None,
    count: int,
    console: Console,
    on_row: Callable[[RowDone], None],
) -> Work:
    """What `profi.harness.work.work` does, by `count` processes; calls `on_row` for complete rows.

    An exception of a process ends the others and is raised here. What they painted stays, so that
    the same command goes on.
    """
    log.info("%d processes share the work", count)
    context = multiprocessing.get_context("spawn")
    index, shards = command.shard
    workers: dict[Connection, BaseProcess] = {}
    for number in range(count):
        mine = f"{index + shards * number + 1}/{shards * count}"
        config = replace(command.config, shard=mine, workers="1", logger=LoggerConfig())
        here, there = context.Pipe(duplex=False)
        one = replace(command, config=config)
        arguments = (there, one, samples, number, log.getEffectiveLevel())
        process: BaseProcess = context.Process(target=_serve, args=arguments, daemon=True)
        process.start()
        there.close()
        workers[here] = process
    try:
        return _collect(command, workers, console, on_row)
    finally:
        for process in workers.values():
            process.kill()
            process.join()


def _collect(
    command: Command,
    workers: dict[Connection, BaseProcess],
    console: Console,
    on_row: Callable[[RowDone], None],
) -> Work:
    """Read the messages of all workers until each has ended."""
    parts: list[Work] = []
    logged: set[str] = set()
    open_ends = set(workers)
    with _Rows(len(workers), console, on_row) as rows:
        while open_ends:
            for end in wait(list(open_ends)):
                assert isinstance(end, Connection)
                try:
                    message = end.recv()
                except EOFError:
                    workers[end].join()
                    raise UserError(_death(workers[end].exitcode)) from None
                if isinstance(message, BaseException):
                    raise message
                if isinstance(message, Work):
                    parts.append(message)
                    open_ends.remove(end)
                elif isinstance(message, Counted):
                    rows.count(message)
                elif isinstance(message, RowDone):
                    rows.end(message)
                elif message[1] not in logged:
                    logged.add(message[1])
                    log.log(*message)
    entries = {(entry.key, entry.seed): entry for part in parts for entry in part.entries}
    absent = {(item.key, item.seed): item for part in parts for item in part.absent}
    order = [(run.key, run.seed) for run in all_runs(command)]
    return Work(
        [entries[key] for key in order if key in entries],
        [absent[key] for key in order if key in absent and key not in entries],
        list(dict.fromkeys(name for part in parts for name in part.left_out)),
        parts[0].folders,
        sum((part.tally for part in parts), Tally(0, 0, 0)),
    )


def _death(code: int | None) -> str:
    reason = f"with exit code {code}"
    if code is not None and code < 0:
        with suppress(ValueError):
            reason = f"by {signal.Signals(-code).name}, perhaps for lack of memory"
    return f"a worker process was ended {reason}; the same command resumes, workers=1 needs less"


@dataclass
class _Rows:
    """The rows' progress over all workers: a bar for the first that some of them have not done."""

    workers: int
    console: Console
    on_row: Callable[[RowDone], None]
    totals: dict[RowKey, Counted] = field(default_factory=dict)
    ended: dict[RowKey, list[RowDone]] = field(default_factory=dict)
    shown: RowKey | None = None
    bar: Meter | None = None
    stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def count(self, item: Counted) -> None:
        before = self.totals.get(item.row, Counted(item.row))
        self.totals[item.row] = Counted(
            item.row, before.total + item.total, before.done + item.done, before.kept + item.kept
        )
        if self.shown is None:
            self._show(item.row)
        elif item.row == self.shown:
            self._advance(item)

    def _show(self, row: RowKey) -> None:
        label = f"{row.model} {row.ablation}"
        self.shown, seen = row, self.totals[row]
        self.bar = self.stack.enter_context(meter(self.console, label, seen.total or 1))
        self._advance(replace(seen, total=0))

    def _advance(self, item: Counted) -> None:
        assert self.bar is not None
        if item.total:
            self.bar.extend(item.total)
        if item.kept:
            self.bar.skip(item.kept)
        if item.done:
            self.bar.advance(item.done)
            self.bar.log("in work")

    def end(self, done: RowDone) -> None:
        ends = self.ended.setdefault(done.key, [])
        ends.append(done)
        if len(ends) < self.workers:
            return
        if self.shown == done.key:
            self.stack.close()
            self.shown = self.bar = None
        tally = sum((one.tally for one in ends), Tally(0, 0, 0))
        log.info(
            "%s %s: %d painted, %d already there, %d failed",
            done.key.model, done.key.ablation, tally.painted, tally.kept, tally.failed,
        )  # fmt: skip
        self.on_row(done)
        for row in self.totals:
            if self.shown is None and len(self.ended.get(row, ())) < self.workers:
                self._show(row)


class _Reporting(Meter):
    """A meter of a worker: it sends what it counts to the parent process."""

    def __init__(self, send: Callable[[Any], None], run: Run, images: int) -> None:
        super().__init__(run.label, images, None)
        self._send, self._row = send, run.key
        send(Counted(run.key, total=images))

    def advance(self, images: float) -> None:
        self._send(Counted(self._row, done=images))

    def skip(self, images: int) -> None:
        self._send(Counted(self._row, kept=images))

    def log(self, message: str) -> None:
        """Nothing: the parent logs."""


@contextmanager
def _reporting(
    send: Callable[[Any], None], stage: str, run: Run, images: int, listener: Listener
) -> Iterator[Meter]:
    # Scores are counted only where nothing is painted: an image counts once.
    if stage == SCORE and run.command.wants("generate"):
        yield _Reporting(lambda _: None, run, images)
    else:
        yield _Reporting(send, run, images)


class _Forward(logging.Handler):
    """Sends log records to the parent: all of the first worker, warnings of the others."""

    def __init__(self, send: Callable[[Any], None], first: bool) -> None:
        super().__init__()
        self._send, self._first = send, first

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING or (self._first and record.name != shares.name):
            self._send((record.levelno, record.getMessage()))


def _serve(
    end: Connection, command: Command, samples: Samples | None, number: int, level: int
) -> None:
    """The main function of a worker process."""
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    lock = threading.Lock()

    def send(message: Any) -> None:
        with lock:
            end.send(message)

    logger = logging.getLogger("profi")
    logger.handlers, logger.propagate = [_Forward(send, number == 0)], False
    logger.setLevel(level)
    remember_sources()
    use_own_gpu(number)
    silence_libraries()
    try:
        catalogue.add_plugins(command.config.plugins)
        send(work(command, samples, partial(_reporting, send), send))
    except Exception as error:  # noqa: BLE001  # the parent raises it
        trace = "".join(traceback.format_exception(error))
        error.add_note(trace)
        try:
            send(error)
        except (pickle.PicklingError, TypeError, AttributeError):
            send(RuntimeError(trace))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def use_own_gpu(number: int) -> None:
    """Show CUDA only one device, before it is initialised."""
    named = os.environ.get(VISIBLE)
    devices = named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
    if devices:
        os.environ[VISIBLE] = devices[number % len(devices)]
