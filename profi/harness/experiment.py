"""Runs a command: each (method, seed) of each model through the stages of the settings."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any

from rich.console import Console

from profi.data.images import images_digest
from profi.data.manifest import read_manifest
from profi.harness import build_metrics
from profi.harness.build_data import data_label, image_root, load_triplets
from profi.harness.generate import generate
from profi.harness.log_results import identity, log_results, run_logs
from profi.harness.progress import Meter, meter
from profi.harness.provenance import environment, part_facts_of
from profi.harness.report import PAGE, Request, Shown, report, row_line
from profi.harness.rows import load_rows
from profi.harness.run_log import GuardedLog, RunLogs, logged_to
from profi.harness.run_status import Absent, Entry, latest_scores
from profi.harness.runs import (
    Command,
    Run,
    Samples,
    check_writable,
    context_of,
    group_of,
    report_folder,
    runs_of,
)
from profi.harness.score import originals_of, score
from profi.inpainter import Row
from profi.metrics import Metric
from profi.settings import Config
from profi.store.scores import scores_folder_name
from profi.types import MissingRowError, Triplet, UserError

log = logging.getLogger(__name__)

#: The data and the metrics (conf/data, conf/metric) of the paper's numbers.
PAPERS_OWN = ("coco2017", "paper")


def run(command: Command, console: Console) -> Shown | None:
    """Run the stages of the settings, with progress on `console`; returns the report, if any.

    Settings, data and models are checked before a folder is made. Several models are loaded one
    after the other. One of them that cannot be loaded is logged and skipped; its earlier images
    still count.

    Raises:
        UserError: see the stages and `profi.harness.rows`; nothing is painted.
        MissingRowError: the only model cannot be loaded, or no run has an image; without the report
            stage also, at the end, if models were skipped.
    """
    config = command.config
    check_writable(command.out)
    metrics: list[Metric] = []
    if command.wants("score"):
        metrics = build_metrics.load_metrics(
            config.metric, config.model.device, config.evaluation, config.sections
        )
    folders = {m.name: scores_folder_name(m.name, m.identity) for m in metrics}
    logs = run_logs(config, command.out)
    samples = _samples(config, console) if command.wants("generate") else None
    entries: list[Entry] = []
    absent: list[Absent] = []
    left_out: list[str] = []
    for one in config.per_model:
        runs = runs_of(replace(command, config=one))
        rows: dict[str, Row] = {}
        if samples is not None:
            try:
                rows = load_rows(context_of(one), [run.method for run in runs])
            except UserError as error:
                if len(config.per_model) == 1:
                    raise MissingRowError(str(error)) from error
                log.error("%s skipped: %s", one.model.id, error)
                left_out.append(one.model.id)
        if one.left_out:
            log.info("%s has no ablation %s: skipped", one.model.id, ", ".join(one.left_out))
        for _, row in groupby(runs, key=lambda run: run.key):
            done: list[Entry] = []
            for item in row:
                entry = _run(
                    item, samples, rows.get(item.method.name), metrics, folders, logs, console
                )
                if entry is None:
                    absent.append(item.absent)
                    log.warning("%s: nothing painted, skipped", item.label)
                else:
                    done.append(entry)
            entries += done
            if done and metrics:
                log.info("%s", row_line(done, folders))
    if left_out and (not entries or not command.wants("report")):
        raise MissingRowError(
            f"{len(left_out)} of {len(config.per_model)} models cannot be loaded (see above): "
            f"{', '.join(left_out)}"
        )
    if not entries:
        raise MissingRowError(
            f"nothing painted with these settings for ablation={absent[0].key.ablation} "
            f"seed={absent[0].seed} in {command.out}: run stage=generate first"
        )
    return _report(command, entries, absent, folders, logs) if command.wants("report") else None


def _samples(config: Config, console: Console) -> Samples:
    triplets, candidates = load_triplets(
        config.data, console, config.evaluation, config.sections.get(config.data.source)
    )
    log.info(
        "%d of %d triplets sampled (skipped instances: %s)",
        len(triplets),
        len(candidates.triplets),
        ", ".join(f"{count} {why}" for why, count in candidates.skipped.items()) or "none",
    )
    return Samples(triplets, images_digest(image_root(config.data), triplets))


def _run(
    item: Run,
    samples: Samples | None,
    row: Row | None,
    metrics: Sequence[Metric],
    folders: Mapping[str, str],
    logs: RunLogs,
    console: Console,
) -> Entry | None:
    """Paint and score one run, as the stages ask; None if the run does not exist.

    Without a row nothing is painted, and the images of earlier commands are scored.
    """
    entry = item.find() if row is None or samples is None else item.open(row, samples)
    if entry is None or (row is None and not metrics):
        return entry
    config = item.command.config
    with logs.of(identity(entry, item.described, group_of(item.command))) as run_log:
        if row is not None and samples is not None:
            _paint(item, entry, row, samples.triplets, run_log, console)
        if metrics:
            _score(item, entry, metrics, run_log, console)
            root = image_root(config.data)
            log_results(run_log, entry, folders, root, config.logger.pictures)
    return entry


@contextmanager
def _stage(
    name: str,
    item: Run,
    entry: Entry,
    triplets: Sequence[Triplet],
    run_log: GuardedLog,
    console: Console,
) -> Iterator[tuple[str, Meter]]:
    """A stage's label and its progress; the stage's log lines also go to the run's log file."""
    label = f"{name} {item.label}"
    share = sum(len(part) for _, part in item.plan.share(triplets))
    listener = partial(run_log.progress, name)
    with logged_to(entry.run.log), meter(label, share, console, listener) as progress:
        yield label, progress


def _paint(
    item: Run,
    entry: Entry,
    row: Row,
    triplets: Sequence[Triplet],
    run_log: GuardedLog,
    console: Console,
) -> None:
    facts = part_facts_of(environment(row.device), item.plan.batch_size)
    with _stage("paint", item, entry, triplets, run_log, console) as (label, progress):
        start = time.monotonic()
        tally = generate(entry.run, row, triplets, item.plan, row.device, progress, facts)
        log.info(
            "%s: %d painted in %.0f s, %d already there, %d failed (%s)",
            label,
            tally.painted,
            time.monotonic() - start,
            tally.kept,
            tally.failed,
            entry.run.root,
        )


def _score(
    item: Run,
    entry: Entry,
    metrics: Sequence[Metric],
    run_log: GuardedLog,
    console: Console,
) -> None:
    triplets = read_manifest(entry.run.manifest)
    with _stage("score", item, entry, triplets, run_log, console) as (label, progress):
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
        log.info(
            "%s: %d scores computed, %d already there, %d NaN",
            label,
            tally.computed,
            tally.kept,
            tally.n_nan,
        )


def _report(
    command: Command,
    entries: Sequence[Entry],
    absent: Sequence[Absent],
    folders: Mapping[str, str],
    logs: RunLogs,
) -> Shown:
    config = command.config
    data_root = image_root(config.data)
    if not folders:
        required = build_metrics.required_identity(config.metric, config.evaluation)
        folders = latest_scores(entries, config.metric.metrics, required)
        # Other commands made these scores, perhaps without a logger.
        for one in config.per_model:
            runs = {run.absent: run for run in runs_of(replace(command, config=one))}
            for entry in entries:
                item = runs.get(Absent(entry.key, entry.seed))
                if item is None:
                    continue
                with logs.of(identity(entry, item.described, group_of(command))) as run_log:
                    log_results(run_log, entry, folders, data_root, config.logger.pictures)
    facts: dict[str, Any] = {
        "experiment": config.name or f"{config.model.id}: {', '.join(e.ablation for e in entries)}",
        "command": command.line,
        "model": ", ".join(one.model.id for one in config.per_model),
        "reading": entries[0].reading,
        "evaluation": config.evaluation.label,
        "sampling": ", ".join(f"{k}={v}" for k, v in vars(config.sampling).items()),
        "data": data_label(config.data),
    }
    folder = report_folder(command, entries)
    request = Request(
        entries=entries,
        absent=absent,
        folders=folders,
        data_root=data_root,
        facts=facts,
        with_paper=(config.data.source, config.metric.name) == PAPERS_OWN,
        gallery=config.report.gallery,
        overrides=command.overrides,
        models={model.id: option for option, model in config.models.items()},
    )
    shown = report(folder, request)
    log.info("report: %s", folder / PAGE)
    return shown
