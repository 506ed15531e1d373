"""Runs a command: each (method, seed) of each model through the stages of the settings."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import yaml
from rich.console import Console

from profi.data.pictures import images_digest
from profi.download import only_one
from profi.harness import build_metrics
from profi.harness.build_data import data_label, image_root, load_triplets
from profi.harness.check import check
from profi.harness.enlarge import enlarge, upscaler_choice
from profi.harness.progress import Listener, Meter, meter
from profi.harness.provenance import remember_sources
from profi.harness.report import PAGE, Request, Shown, missing_text, report, row_line
from profi.harness.run_list import gaps, missing_lines
from profi.harness.run_log import identity, log_results, run_logs
from profi.harness.run_status import Absent, Entry, latest_scores, read_status
from profi.harness.runs import (
    Command,
    Run,
    Samples,
    all_runs,
    check_writable,
    group_of,
    report_folder,
    runs_of,
)
from profi.harness.work import RowDone, Work, work
from profi.harness.workers import processes_for, work_in_processes
from profi.highres.upscaler import load_upscaler
from profi.models.devices import resolve_device
from profi.reports.names import row_labels
from profi.settings import Config, MetricConfig
from profi.settings.fields import build
from profi.settings.paths import conf_folder
from profi.store.generations import painted_count
from profi.store.scores import scores_frame
from profi.types import MissingRowError, UserError

log = logging.getLogger(__name__)

#: Settings of the metrics that change no score.
_NO_SCORE = ("metrics", "batch_size")


def papers_own(config: Config) -> bool:
    """Whether data and metrics are those of the paper's numbers (conf/metric/paper.yaml)."""
    path = conf_folder() / "metric" / "paper.yaml"
    paper: MetricConfig = build(MetricConfig, yaml.safe_load(path.read_text("utf-8")))
    own = {name: value for name, value in vars(config.metric).items() if name not in _NO_SCORE}
    theirs = {name: value for name, value in vars(paper).items() if name not in _NO_SCORE}
    released = (config.data.source, config.data.sample) == ("coco2017", "released")
    return released and own == theirs


def run(command: Command, console: Console) -> Shown | None:
    """Run the stages of the settings, with progress on `console`; returns the report, if any.

    With several workers their processes paint and score; the numbers of a row are logged when all
    of them have done it.

    Raises:
        UserError: see `profi.harness.work`; nothing is painted.
        MissingRowError: the only model cannot be loaded, or no run has an image; without the report
            stage also, at the end, if models were left out.
    """
    config = command.config
    remember_sources()
    check_writable(command.out)
    if config.stage in ("fetch", "check"):
        check(command, console)
        return None
    enlarges = command.wants("generate") and config.highres.name != "none"
    if enlarges:
        # What it lacks is found before the painting; its memory is free again meanwhile.
        load_upscaler(*upscaler_choice(config, "cpu"))
    done = paint_and_score(command, console)
    if not done.entries:
        _log_missing(command, done)
        raise MissingRowError(
            f"nothing painted in {command.out} with these settings "
            f"({absent_text(done.absent)}): run stage=generate first"
        )
    failed = _enlarge(command, done.entries, console) if enlarges else []
    if done.absent:
        log.warning("nothing painted, left out: %s", absent_text(done.absent))
    folders, shown = done.folders, None
    if command.wants("report"):
        try:
            folders = folders or _scored(command, done.entries)
        except UserError:
            _log_missing(command, done)
            raise
    if folders and not done.logged:
        _log_results(command, done.entries, folders)
    if command.wants("report"):
        shown = _report(command, done.entries, done.absent, folders)
    if failed:
        raise UserError(
            f"high resolution failed for {len(failed)} of {len(done.entries)} runs (see above): "
            f"{', '.join(failed)}"
        )
    return shown


def paint_and_score(command: Command, console: Console) -> Work:
    """Paint and score the command's runs as its stages ask, by as many processes as it wants.

    Raises:
        UserError: see `profi.harness.work`; nothing is painted. Also if all samples failed.
        MissingRowError: the only model cannot be loaded; without the report stage also, at the end,
            if models were left out.
    """
    config = command.config
    if command.wants("score"):
        build_metrics.check_packages(config.metric, config.evaluation)
    samples = _samples(config, console) if command.wants("generate") else None
    count = processes_for(config, samples)
    on_row = partial(_log_row, command)
    if count > 1:
        done = work_in_processes(command, samples, count, console, on_row)
    else:
        done = work(command, samples, partial(_meter, console), on_row)
    if done.left_out and (not done.entries or not command.wants("report")):
        raise MissingRowError(
            f"{len(done.left_out)} of {len(config.per_model)} models cannot be loaded (see above): "
            f"{', '.join(done.left_out)}"
        )
    if done.tally.failed and not done.tally.painted and not done.tally.kept:
        raise UserError(
            f"all {done.tally.failed} samples failed: see the reasons in "
            f"{command.out}/<run>/quarantine.jsonl (above)"
        )
    # The processes have no logger, nor has anything been logged where nothing was scored.
    return replace(done, logged=count == 1 and bool(done.folders))


def _enlarge(command: Command, entries: Sequence[Entry], console: Console) -> list[str]:
    """High resolution for the pictures of all runs, with one upscaler; the runs that failed."""
    config, model, failed = command.config, command.config.per_model[0].model, []
    device = resolve_device("model.device", model.device)
    upscaler = load_upscaler(*upscaler_choice(config, device))
    settings, root = config.highres, image_root(config.data)
    for entry in entries:
        label = f"highres {entry.key.model} {entry.key.ablation} seed {entry.seed}"
        with meter(console, label, painted_count(entry.run.generations)) as bar:
            try:
                folder = enlarge(
                    entry.run, upscaler, settings, root, shard=command.shard, progress=bar.advance
                )
            except UserError as error:
                # The other runs and the report go on.
                log.error("%s: %s", label, error)
                failed.append(entry.run.run_id)
                continue
        log.info("%s: %s", label, folder)
    return failed


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


def _meter(
    console: Console, stage: str, item: Run, images: int, listener: Listener
) -> AbstractContextManager[Meter]:
    return meter(console, f"{stage} {item.label}", images, listener)


def absent_text(absent: Sequence[Absent]) -> str:
    """The runs by row: `profi-mini base seeds 0, 1; profi-mini profi seed 0`."""
    seeds: dict[tuple[str, str], list[str]] = {}
    for item in absent:
        seeds.setdefault((item.key.model, item.key.ablation), []).append(str(item.seed))
    return "; ".join(
        f"{model} {ablation} {'seed' if len(of) == 1 else 'seeds'} {', '.join(of)}"
        for (model, ablation), of in seeds.items()
    )


def _log_row(command: Command, done: RowDone) -> None:
    """Log the scores of a row whose seeds are scored."""
    if not done.folders:
        return
    found = [run.find() for run in all_runs(command) if run.key == done.key]
    entries = [entry for entry in found if entry is not None]
    if entries:
        log.info("%s", row_line(entries, done.folders))


def _scored(command: Command, entries: Sequence[Entry]) -> dict[str, str]:
    """The folders of the scores that earlier commands made by these settings."""
    config = command.config
    required = build_metrics.required_identity(config.metric, config.evaluation)
    return latest_scores(entries, config.metric.metrics, required)


def _log_missing(command: Command, done: Work) -> None:
    """Log what a report without any score lacks, and the commands for it."""
    if not command.wants("report"):
        return
    config, statuses = command.config, {entry: read_status(entry) for entry in done.entries}
    found = gaps(statuses, done.absent, scores_frame([]), config.metric.metrics)
    labels = row_labels(gap.key for gap in found)
    missing = missing_lines(
        found, labels, command.overrides, options_of(config), program_of(command)
    )
    for line in missing_text(missing):
        log.info("%s", line)


def options_of(config: Config) -> dict[str, str]:
    """The models' ids and their options on the command line."""
    return {model.id: option for option, model in config.models.items()}


def program_of(command: Command) -> list[str]:
    """How the command was called: `python run.py` or `profi run`."""
    return (
        shlex.split(command.line)[:2] if command.line.startswith("profi ") else ["python", "run.py"]
    )


def _log_results(command: Command, entries: Sequence[Entry], folders: Mapping[str, str]) -> None:
    """Log the scores that were made without a logger, or by other commands."""
    config = command.config
    logs, data_root = run_logs(config, command.out), image_root(config.data)
    for one in config.per_model:
        runs = {run.absent: run for run in runs_of(replace(command, config=one))}
        for entry in entries:
            item = runs.get(Absent(entry.key, entry.seed))
            if item is None:
                continue
            with logs.of(identity(entry, item.described, group_of(command))) as run_log:
                log_results(run_log, entry, folders, data_root, config.logger.pictures)


def _report(
    command: Command,
    entries: Sequence[Entry],
    absent: Sequence[Absent],
    folders: Mapping[str, str],
) -> Shown:
    config = command.config
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
        data_root=image_root(config.data),
        facts=facts,
        with_paper=papers_own(config),
        gallery=config.report.gallery,
        gallery_seeds=config.report.gallery_seeds,
        overrides=command.overrides,
        models=options_of(config),
        program=program_of(command),
    )
    with only_one(folder / ".lock"):
        shown = report(folder, request)
    log.info("report: %s", folder / PAGE)
    if config.data.source == "folder":
        shown_runs = " ".join(str(entry.run.root) for entry in entries)
        log.info("pictures as files: profi export %s --to FOLDER", shown_runs)
    return shown
