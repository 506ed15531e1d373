"""One command: every wanted (ablation, seed) through the wanted stages."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from profi.config import Config, ReadingConfig, parse_shard
from profi.data.images import images_digest
from profi.data.manifest import read_manifest
from profi.inpainters.backbone import Backbone
from profi.inpainters.stable_inpainting import StableInpainting
from profi.metrics import Metric
from profi.runners import build, build_metrics
from profi.runners.build_data import data_label, image_root, load_triplets
from profi.runners.generate import Plan, generate
from profi.runners.progress import meter
from profi.runners.provenance import part_facts_of
from profi.runners.report import PAGE, report
from profi.runners.score import originals_of, score
from profi.runners.spec import RunFolder, find_run, open_run, run_spec, settings_of
from profi.runners.survey import Entry, latest_scores
from profi.stores.parts import part_indices
from profi.stores.scores import scores_folder_name
from profi.types import Triplet, UserError, digest

log = logging.getLogger(__name__)

DEFAULT_READING = ReadingConfig().name


@dataclass(frozen=True)
class Command:
    """What was asked: the settings, the command line and the settings as text."""

    config: Config
    line: str
    text: str

    @property
    def out(self) -> Path:
        """The folder of all runs."""
        return Path(self.config.out).expanduser()

    @property
    def shard(self) -> tuple[int, int]:
        """(index from 0, count)."""
        return parse_shard(self.config.shard)

    def wants(self, stage: str) -> bool:
        """Whether a stage is to be run."""
        return self.config.stage in (stage, "all")


def run(command: Command, console: Console) -> Table | None:
    """Run the wanted stages, with progress on `console`; returns the table of the report stage.

    Whatever can be refused is refused before a folder is made: the data are read and every model
    is loaded first.

    Raises:
        UserError: see the stages and `profi.runners.build`.
    """
    config = command.config
    _check_writable(command.out)
    triplets: tuple[Triplet, ...] = ()
    images = ""
    inpainters: dict[str, StableInpainting] = {}
    if command.wants("generate"):
        triplets, candidates = load_triplets(config.data, console)
        log.info(
            "%d triplets of %d (left out: %s)",
            len(triplets),
            len(candidates.triplets),
            ", ".join(f"{count} {why}" for why, count in candidates.skipped.items()) or "none",
        )
        images = images_digest(image_root(config.data), triplets)
        backbone = build.load_model(config.model)
        names = dict.fromkeys(name for name, _ in config.wanted)
        inpainters = {name: _checked(config, backbone, name) for name in names}
    metrics: list[Metric] = []
    if command.wants("score"):
        metrics = build_metrics.load_metrics(config.metric, config.model.device)

    entries = []
    for ablation, seed in config.wanted:
        folder = (
            _generate(command, inpainters[ablation], ablation, seed, triplets, images, console)
            if command.wants("generate")
            else _found(command, ablation, seed)
        )
        label = build.reading_label(config)
        entries.append(Entry(folder, config.model.id, ablation, label, seed))
    if command.wants("score"):
        for entry in entries:
            _score(command, entry, metrics, console)
    return _report(command, entries, metrics) if command.wants("report") else None


def _check_writable(out: Path) -> None:
    """UserError where runs could not be written, before anything is loaded."""
    there = out
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "is no folder" if not there.is_dir() else "cannot be written to"
        raise UserError(f"out={out}: {there} {what}; name another folder with out=...")


def _checked(config: Config, backbone: Backbone, ablation: str) -> StableInpainting:
    """The inpainter; UserError where the images would not fit its UNet."""
    multiple = backbone.pixel_multiple
    if config.model.pad_multiple % multiple:
        raise UserError(
            f"model.pad_multiple={config.model.pad_multiple}: "
            f"this model needs a multiple of {multiple}"
        )
    return build.inpainter(config, backbone, ablation)


def _generate(
    command: Command,
    inpainter: StableInpainting,
    ablation: str,
    seed: int,
    triplets: Sequence[Triplet],
    images: str,
    console: Console,
) -> RunFolder:
    config = command.config
    spec = run_spec(config, inpainter, seed, triplets, images)
    facts = part_facts_of(spec.environment, config.model.batch_size)
    folder = open_run(
        command.out,
        spec,
        settings_of(config, ablation, seed),
        triplets,
        command.text,
        command.line,
    )
    plan = Plan.of(config, seed, command.shard)
    device: torch.device = inpainter.backbone.device
    label = f"paint {ablation} seed {seed}"
    with _logged(folder), meter(label, _share(command, triplets), console) as progress:
        start = time.monotonic()
        tally = generate(folder, inpainter, triplets, plan, device, progress, facts)
        log.info(
            "%s: %d painted in %.0f s, %d there before, %d failed (%s)",
            label,
            tally.painted,
            time.monotonic() - start,
            tally.kept,
            tally.failed,
            folder.root,
        )
    return folder


def _found(command: Command, ablation: str, seed: int) -> RunFolder:
    """The run that an earlier command painted."""
    settings = settings_of(command.config, ablation, seed)
    folder = find_run(command.out, settings)
    if folder is None or not part_indices(folder.generations):
        raise UserError(
            f"nothing painted with these settings for ablation={ablation} seed={seed} "
            f"in {command.out}: run stage=generate with them first"
        )
    return folder


def _score(command: Command, entry: Entry, metrics: Sequence[Metric], console: Console) -> None:
    config, folder = command.config, entry.run
    triplets = read_manifest(folder.manifest)
    label = f"score {entry.ablation} seed {entry.seed}"
    originals = originals_of(Plan.of(config, entry.seed, command.shard))
    with _logged(folder), meter(label, _share(command, triplets), console) as progress:
        tally = score(
            folder, metrics, triplets, originals, config.metric.batch_size, progress, command.shard
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


def _report(command: Command, entries: Sequence[Entry], metrics: Sequence[Metric]) -> Table:
    config = command.config
    folders = {m.name: scores_folder_name(m.name, m.identity) for m in metrics}
    if not folders:
        required = build_metrics.required_identity(config.metric)
        folders = latest_scores(entries, config.metric.metrics, required)
    facts: dict[str, Any] = {
        "experiment": config.name or f"{config.model.id}: {', '.join(e.ablation for e in entries)}",
        "command": command.line,
        "model": config.model.id,
        "reading": entries[0].reading,
        "sampling": ", ".join(f"{k}={v}" for k, v in vars(config.sampling).items()),
        "data": data_label(config.data),
    }
    folder = report_folder(command, entries)
    table = report(folder, entries, folders, image_root(config.data), facts)
    log.info("report: %s", folder / PAGE)
    return table


def report_folder(command: Command, entries: Sequence[Entry]) -> Path:
    """`<out>/reports/<name>`; without a name the run's own id, or a hash of several.

    A reading other than the paper's is added to the name, so that one experiment in two readings
    leaves two reports: `table2_mini-released`, `table2_mini-paper-eta=0.05`.
    """
    ids = [entry.run.run_id for entry in entries]
    if command.config.name is None:
        return command.out / "reports" / (ids[0] if len(ids) == 1 else digest(ids))
    label = build.reading_label(command.config)
    suffix = "" if label == DEFAULT_READING else "-" + label.replace(", ", "-")
    return command.out / "reports" / f"{command.config.name}{suffix}"


@contextmanager
def _logged(folder: RunFolder) -> Iterator[None]:
    """What is told meanwhile also goes to the run's own log."""
    handler = logging.FileHandler(folder.log, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("profi")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
