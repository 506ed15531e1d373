"""The work of one process: paints and scores its shard of every run of a command."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby

import torch

from profi.data.manifest import read_manifest
from profi.harness import build_metrics
from profi.harness.build_data import image_root
from profi.harness.generate import Tally, generate
from profi.harness.memory import is_out_of_memory
from profi.harness.progress import Listener, Meter
from profi.harness.provenance import environment, part_facts_of
from profi.harness.rows import load_rows
from profi.harness.run_log import GuardedLog, RunLogs, identity, log_results, logged_to, run_logs
from profi.harness.run_status import Absent, Entry
from profi.harness.runs import Command, Run, Samples, context_of, group_of, runs_of
from profi.harness.score import originals_of, score
from profi.inpainter import Row
from profi.metrics import Metric
from profi.reports.names import RowKey
from profi.settings import Config
from profi.store.generations import painted_count
from profi.store.scores import scores_folder_name
from profi.types import MissingRowError, Triplet, UserError

log = logging.getLogger(__name__)
#: What one process painted and scored: a line that says little where several processes share it.
shares = logging.getLogger(f"{__name__}.shares")

#: `meters(stage, run, number of images, listener)`: the progress of one stage of one run.
Meters = Callable[[str, Run, int, Listener], AbstractContextManager[Meter]]
NOTHING = Tally(0, 0, 0)
#: The name of the stage in labels and logs.
SCORE = "score"


@dataclass(frozen=True)
class RowDone:
    """A row of which this process has done its shard.

    `folders` names the folder of each metric's scores, `tally` counts the images of all seeds.
    """

    key: RowKey
    folders: Mapping[str, str]
    tally: Tally


@dataclass
class Work:
    """What came of a command's runs: which exist, which do not, and the models left out.

    `folders` names the folder of each metric's scores, if it scored. `logged`: the loggers have
    them.
    """

    entries: list[Entry] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    folders: Mapping[str, str] = field(default_factory=dict)
    tally: Tally = NOTHING
    logged: bool = True


def work(
    command: Command,
    samples: Samples | None,
    meters: Meters,
    on_row: Callable[[RowDone], None],
) -> Work:
    """Paint `samples`, if given, and score the command's shard; calls `on_row` after every row.

    Settings, data and models are checked before a folder is made. Several models are loaded one
    after the other. One of them that cannot be loaded is logged and left out; its earlier images
    still count.

    Raises:
        UserError: see the stages and `profi.harness.rows`; nothing is painted.
        MissingRowError: the only model cannot be loaded.
    """
    config = command.config
    metrics: list[Metric] = []
    if command.wants("score"):
        metrics = build_metrics.load_metrics(
            config.metric, config.model.device, config.evaluation, config.sections
        )
    done = Work(folders={m.name: scores_folder_name(m.name, m.identity) for m in metrics})
    logs = run_logs(config, command.out)
    for one in config.per_model:
        runs = runs_of(replace(command, config=one))
        rows: dict[str, Row] = {}
        inpainter: Row | None
        if samples is not None:
            try:
                rows = _loaded(one, runs)
            except UserError as error:
                if len(config.per_model) == 1:
                    raise MissingRowError(str(error)) from error
                log.error("%s skipped: %s", one.model.id, error)
                done.left_out.append(one.model.id)
        if one.left_out:
            log.info("%s has no ablation %s: skipped", one.model.id, ", ".join(one.left_out))
        with cpu_threads(one.model.threads):
            for key, row in groupby(runs, key=lambda run: run.key):
                tally = NOTHING
                for item in row:
                    inpainter = rows.get(item.method.name)
                    entry, painted = _run(
                        item, samples, inpainter, metrics, done.folders, logs, meters
                    )
                    if entry is None:
                        done.absent.append(item.absent)
                    else:
                        done.entries.append(entry)
                    tally = tally + painted
                done.tally = done.tally + tally
                on_row(RowDone(key, done.folders, tally))
        # Its memory is free before the next model is loaded.
        inpainter = None
        rows.clear()
    return done


def _loaded(config: Config, runs: Sequence[Run]) -> dict[str, Row]:
    """The model with its methods; UserError also if it does not fit into the memory."""
    try:
        return load_rows(context_of(config), [run.method for run in runs])
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"the memory is too small for this model: set model.dtype=float16, which halves it "
            f"({' '.join(str(error).split())[:120]})"
        ) from error


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Let torch compute with `count` threads, if given, inside the block."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run(
    item: Run,
    samples: Samples | None,
    row: Row | None,
    metrics: Sequence[Metric],
    folders: Mapping[str, str],
    logs: RunLogs,
    meters: Meters,
) -> tuple[Entry | None, Tally]:
    """Paint and score one run, as the stages ask; None if the run does not exist.

    Without a row nothing is painted, and the images of earlier commands are scored.
    """
    entry = item.find() if row is None or samples is None else item.open(row, samples)
    tally = NOTHING
    if entry is None or (row is None and not metrics):
        return entry, tally
    config = item.command.config
    with logs.of(identity(entry, item.described, group_of(item.command))) as run_log:
        if row is not None and samples is not None:
            tally = _paint(item, entry, row, samples.triplets, run_log, meters)
        if metrics:
            _score(item, entry, metrics, run_log, meters)
            root = image_root(config.data)
            log_results(run_log, entry, folders, root, config.logger.pictures)
    return entry, tally


@contextmanager
def _stage(
    name: str,
    item: Run,
    entry: Entry,
    triplets: Sequence[Triplet],
    run_log: GuardedLog,
    meters: Meters,
) -> Iterator[tuple[str, Meter]]:
    """A stage's label and its progress; the stage's log lines also go to the run's log file."""
    label = f"{name} {item.label}"
    share = sum(len(part) for _, part in item.plan.share(triplets))
    listener = partial(run_log.progress, name)
    with logged_to(entry.run.log), meters(name, item, share, listener) as progress:
        yield label, progress


def _paint(
    item: Run,
    entry: Entry,
    row: Row,
    triplets: Sequence[Triplet],
    run_log: GuardedLog,
    meters: Meters,
) -> Tally:
    facts = part_facts_of(environment(row.device), item.plan.batch_size)
    with _stage("paint", item, entry, triplets, run_log, meters) as (label, progress):
        start = time.monotonic()
        tally = generate(entry.run, row, triplets, item.plan, row.device, progress, facts)
        shares.info(
            "%s: %d painted in %.0f s, %d already there, %d failed (%s)",
            label,
            tally.painted,
            time.monotonic() - start,
            tally.kept,
            tally.failed,
            entry.run.root,
        )
    return tally


def _score(
    item: Run,
    entry: Entry,
    metrics: Sequence[Metric],
    run_log: GuardedLog,
    meters: Meters,
) -> None:
    triplets = read_manifest(entry.run.manifest)
    if not item.command.wants("generate"):
        _log_unpainted(item, entry, triplets)
    with _stage(SCORE, item, entry, triplets, run_log, meters) as (label, progress):
        tally = score(
            entry.run,
            metrics,
            triplets,
            originals_of(item.plan),
            item.plan.evaluation,
            item.command.config.metric.batch_size,
            progress,
            item.plan.shard,
        )
        shares.info(
            "%s: %d scores computed, %d already there, %d NaN",
            label,
            tally.computed,
            tally.kept,
            tally.n_nan,
        )


def _log_unpainted(item: Run, entry: Entry, triplets: Sequence[Triplet]) -> None:
    """Say how many of the run's triplets have no picture to score, if any."""
    painted = painted_count(entry.run.generations)
    if painted < len(triplets):
        log.warning(
            "%s: %d of %d triplets are painted; stage=generate paints the rest",
            item.label,
            painted,
            len(triplets),
        )
