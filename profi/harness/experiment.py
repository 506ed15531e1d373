"""One command: every wanted (ablation, seed) through the wanted stages."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from rich.console import Console

from profi.data.images import images_digest
from profi.data.manifest import read_manifest
from profi.harness import build, build_metrics
from profi.harness.build_data import data_label, image_root, load_triplets
from profi.harness.command import Command, check_writable, group_of, report_folder
from profi.harness.generate import generate
from profi.harness.log_file import logged_to
from profi.harness.log_results import identity, run_logs, tell_results
from profi.harness.plan import Plan
from profi.harness.progress import meter
from profi.harness.provenance import environment, part_facts_of
from profi.harness.report import PAGE, Request, Shown, report
from profi.harness.run_folder import RunFolder, find_run, open_run, run_spec, settings_of
from profi.harness.run_log import GuardedLog, RunLogs
from profi.harness.run_status import Absent, Entry, latest_scores
from profi.harness.score import originals_of, score
from profi.inpainter import Row
from profi.metrics import Metric
from profi.reports.names import RowKey
from profi.settings import Config
from profi.store.parts import part_indices
from profi.store.scores import scores_folder_name
from profi.types import MissingRowError, Triplet, UserError

log = logging.getLogger(__name__)

#: The data and the metrics (conf/data, conf/metric) that the paper's numbers are of.
PAPERS_OWN = ("coco2017", "paper")


def run(command: Command, console: Console) -> Shown | None:
    """Run the wanted stages, with progress on `console`; returns what the report stage shows.

    Whatever can be refused is refused before a folder is made: the data are read and the models
    are loaded first (of several, one at a time, each when its turn comes). Of several models one
    that cannot be loaded is told and left out, and the others go on; what it painted before counts.

    Raises:
        UserError: see the stages and `profi.harness.build`; nothing is painted.
        MissingRowError: the one model cannot be loaded, or nothing is painted of what is asked for;
            without a report, at the end, for models that were left out.
    """
    config = command.config
    check_writable(command.out)
    metrics: list[Metric] = []
    if command.wants("score"):
        protocol = build.evaluation(config)
        metrics = build_metrics.load_metrics(config.metric, config.model.device, protocol)
    logs = run_logs(config, command.out)
    samples = _samples(config, console) if command.wants("generate") else None
    entries: list[Entry] = []
    absent: list[Absent] = []
    left_out: list[str] = []
    for one in config.per_model:
        inpainters: dict[str, Row] = {}
        if samples is not None:
            try:
                inpainters = build.load_rows(one)
            except UserError as error:
                if len(config.per_model) == 1:
                    raise MissingRowError(str(error)) from error
                log.error("%s is left out: %s", one.model.id, error)
                left_out.append(one.model.id)
        alone = replace(command, config=one)
        for item in _run_model(alone, samples, inpainters, metrics, logs, console):
            if isinstance(item, Entry):
                entries.append(item)
            else:
                absent.append(item)
    if left_out and (not entries or not command.wants("report")):
        raise MissingRowError(
            f"{len(left_out)} of {len(config.per_model)} models cannot be loaded (told above): "
            f"{', '.join(left_out)}"
        )
    if not entries:
        raise MissingRowError(
            f"nothing painted with these settings for ablation={absent[0].key.ablation} "
            f"seed={absent[0].seed} in {command.out}: run stage=generate with them first"
        )
    return _report(command, entries, absent, metrics, logs) if command.wants("report") else None


@dataclass(frozen=True)
class Samples:
    """What every model paints: the triplets, and the digest of their images."""

    triplets: tuple[Triplet, ...]
    images: str


def _samples(config: Config, console: Console) -> Samples:
    triplets, candidates = load_triplets(config.data, console, build.evaluation(config))
    log.info(
        "%d triplets of %d (left out: %s)",
        len(triplets),
        len(candidates.triplets),
        ", ".join(f"{count} {why}" for why, count in candidates.skipped.items()) or "none",
    )
    return Samples(triplets, images_digest(image_root(config.data), triplets))


def _run_model(
    command: Command,
    samples: Samples | None,
    inpainters: Mapping[str, Row],
    metrics: Sequence[Metric],
    logs: RunLogs,
    console: Console,
) -> list[Entry | Absent]:
    """Every wanted (ablation, seed) of one model, painted and scored as far as is wanted.

    What `inpainters` lacks is not painted; what earlier commands painted of it counts.
    """
    config = command.config
    if config.left_out:
        log.info("%s has no ablation %s: left out", config.model.id, ", ".join(config.left_out))
    folders = {metric.name: scores_folder_name(metric.name, metric.identity) for metric in metrics}
    items: list[Entry | Absent] = []
    for ablation, seed in config.wanted:
        key = RowKey(config.model.id, ablation, build.reading_label(config))
        inpainter = inpainters.get(ablation)
        folder = (
            _found(command, ablation, seed)
            if inpainter is None or samples is None
            else _opened(command, inpainter, ablation, seed, samples)
        )
        if folder is None:
            items.append(Absent(key, seed))
            log.warning("%s %s seed %d: nothing painted, left out", key.model, ablation, seed)
            continue
        entry = Entry(folder, *key, seed)
        items.append(entry)
        if inpainter is None and not metrics:
            continue
        with logs.of(identity(entry, config, group_of(command))) as told:
            if inpainter is not None and samples is not None:
                _paint(command, entry, inpainter, samples.triplets, told, console)
            if metrics:
                _score(command, entry, metrics, told, console)
                root = image_root(config.data)
                tell_results(told, entry, folders, root, config.logger.pictures)
    return items


def _opened(
    command: Command,
    inpainter: Row,
    ablation: str,
    seed: int,
    samples: Samples,
) -> RunFolder:
    """The run's folder, with its records."""
    config = command.config
    return open_run(
        command.out,
        run_spec(config, inpainter, seed, samples.triplets, samples.images),
        settings_of(config, ablation, seed),
        samples.triplets,
        command.text,
        command.line,
    )


def _found(command: Command, ablation: str, seed: int) -> RunFolder | None:
    """The run that an earlier command painted at least a part of."""
    folder = find_run(command.out, settings_of(command.config, ablation, seed))
    return folder if folder is not None and part_indices(folder.generations) else None


def _paint(
    command: Command,
    entry: Entry,
    inpainter: Row,
    triplets: Sequence[Triplet],
    told: GuardedLog,
    console: Console,
) -> None:
    plan = Plan.of(command.config, entry.seed, command.shard)
    device = inpainter.device
    facts = part_facts_of(environment(device), command.config.model.batch_size)
    label = f"paint {entry.model} {entry.ablation} seed {entry.seed}"
    listener = partial(told.progress, "paint")
    with (
        logged_to(entry.run.log),
        meter(label, _share(command, triplets), console, listener) as progress,
    ):
        start = time.monotonic()
        tally = generate(entry.run, inpainter, triplets, plan, device, progress, facts)
        log.info(
            "%s: %d painted in %.0f s, %d there before, %d failed (%s)",
            label,
            tally.painted,
            time.monotonic() - start,
            tally.kept,
            tally.failed,
            entry.run.root,
        )


def _score(
    command: Command,
    entry: Entry,
    metrics: Sequence[Metric],
    told: GuardedLog,
    console: Console,
) -> None:
    config, folder = command.config, entry.run
    triplets = read_manifest(folder.manifest)
    label = f"score {entry.model} {entry.ablation} seed {entry.seed}"
    plan = Plan.of(config, entry.seed, command.shard)
    listener = partial(told.progress, "score")
    with (
        logged_to(folder.log),
        meter(label, _share(command, triplets), console, listener) as progress,
    ):
        tally = score(
            folder,
            metrics,
            triplets,
            originals_of(plan),
            plan.evaluation,
            config.metric.batch_size,
            progress,
            command.shard,
        )
        log.info(
            "%s: %d scores computed, %d there before, %d NaN",
            label,
            tally.computed,
            tally.kept,
            tally.n_nan,
        )


def _share(command: Command, triplets: Sequence[Triplet]) -> int:
    """How many triplets are this shard's."""
    plan = Plan.of(command.config, 0, command.shard)
    return sum(len(part) for _, part in plan.share(triplets))


def _report(
    command: Command,
    entries: Sequence[Entry],
    absent: Sequence[Absent],
    metrics: Sequence[Metric],
    logs: RunLogs,
) -> Shown:
    config = command.config
    folders = {m.name: scores_folder_name(m.name, m.identity) for m in metrics}
    data_root = image_root(config.data)
    if not folders:
        required = build_metrics.required_identity(config.metric, build.evaluation(config))
        folders = latest_scores(entries, config.metric.metrics, required)
        # Scored by other commands, which may have told nobody.
        for entry in entries:
            one = next(one for one in config.per_model if one.model.id == entry.model)
            with logs.of(identity(entry, one, group_of(command))) as told:
                tell_results(told, entry, folders, data_root, config.logger.pictures)
    facts: dict[str, Any] = {
        "experiment": config.name or f"{config.model.id}: {', '.join(e.ablation for e in entries)}",
        "command": command.line,
        "model": ", ".join(one.model.id for one in config.per_model),
        "reading": entries[0].reading,
        "evaluation": build.evaluation(config).label,
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
        beside_paper=(config.data.source, config.metric.name) == PAPERS_OWN,
        gallery=config.report.gallery,
        overrides=command.overrides,
        models={model.id: option for option, model in config.models.items()},
    )
    shown = report(folder, request)
    log.info("report: %s", folder / PAGE)
    return shown
