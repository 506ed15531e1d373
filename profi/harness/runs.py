"""A command resolved: the list of its runs, each with all that painting and scoring it take."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from profi.catalogue import catalogue
from profi.data.manifest import manifest_digest
from profi.harness.build_data import image_root
from profi.harness.code_digest import code_digest
from profi.harness.plan import Plan
from profi.harness.provenance import environment
from profi.harness.rows import RowContext
from profi.harness.run_folder import RunFolder, find_run, open_run
from profi.harness.run_status import Absent, Entry
from profi.inpainter import Row
from profi.method.methods import Method, compose
from profi.reports.names import RowKey
from profi.settings import DEFAULT_READING, AblationConfig, Config, parse_shard
from profi.settings.evaluation import OURS
from profi.settings.fields import changed
from profi.store.parts import part_indices
from profi.types import RunSpec, Triplet, UserError, digest


@dataclass(frozen=True)
class Samples:
    """What every run paints: the triplets, and the digest of their images."""

    triplets: tuple[Triplet, ...]
    images: str


@dataclass(frozen=True)
class Run:
    """One (model, method, seed) of a command.

    Fields:
        key, seed: its row of the table, and its seed.
        method: what paints.
        plan: parts, batches, sizes and seeds.
        settings: as it was asked for: finds its folder again without loading the model. Less than
            `pixels`: names and paths stand where that has hashes of contents.
        pixels: what of the settings changes a pixel; the row and the data add theirs by content.
        described: everything that is set, for a logger.
    """

    command: Command
    key: RowKey
    seed: int
    method: Method
    plan: Plan
    settings: Mapping[str, Any]
    pixels: Mapping[str, Any]
    described: Mapping[str, Any]

    @property
    def label(self) -> str:
        """In log lines."""
        return f"{self.key.model} {self.key.ablation} seed {self.seed}"

    @property
    def absent(self) -> Absent:
        """The run in a table where nothing was painted of it."""
        return Absent(self.key, self.seed)

    def find(self) -> Entry | None:
        """The run that an earlier command painted at least a part of."""
        folder = find_run(self.command.out, self.settings)
        found = folder is not None and part_indices(folder.generations)
        return self._entry(folder) if folder is not None and found else None

    def open(self, row: Row, samples: Samples) -> Entry:
        """The run's folder, with its records; one that is there already is gone on with."""
        folder = open_run(
            self.command.out,
            self.spec(row, samples),
            self.settings,
            samples.triplets,
            self.command.text,
            self.command.line,
        )
        return self._entry(folder)

    def spec(self, row: Row, samples: Samples) -> RunSpec:
        """Everything that changes a pixel, by content, and the surroundings that are recorded."""
        identity = dict(row.identity)
        if "method" in identity:
            # Apart from the model's, which all rows of a table share.
            code = code_digest([catalogue.method(self.method.name).module])
            identity["method"] = {**identity["method"], "code": code}
        pixels = {
            **self.pixels,
            **identity,
            "code": code_digest([type(row).__module__]),
            "manifest": manifest_digest(samples.triplets),
            "images": samples.images,
        }
        return RunSpec(pixels, environment(row.device))

    def _entry(self, folder: RunFolder) -> Entry:
        return Entry(folder, *self.key, self.seed)


def methods_of(config: Config) -> dict[str, Method]:
    """The wanted methods of the command's one model, by name."""
    names = dict.fromkeys(name for name, _ in config.wanted)
    return {name: compose(name, config.reading, config.sections) for name in names}


def context_of(config: Config) -> RowContext:
    """What the command's one model is built of."""
    model = config.model
    has_own = catalogue.inpainters.get(model.inpainter).settings and model.inpainter in config.own
    own = config.section(model.inpainter) if has_own else None
    return RowContext(model, config.sampling, config.evaluation.noise, own=own)


def runs_of(command: Command) -> list[Run]:
    """Every wanted (method, seed) of the command's one model, methods outermost."""
    config = command.config
    methods = methods_of(config)
    return [_run(command, methods[name], seed) for name, seed in config.wanted]


def _run(command: Command, method: Method, seed: int) -> Run:
    config, model = command.config, command.config.model
    plan = Plan(
        root=image_root(config.data),
        seed=seed,
        long_side=model.long_side,
        pad_multiple=model.pad_multiple,
        batch_size=model.batch_size,
        part_size=config.part_size,
        evaluation=config.evaluation,
        shard=command.shard,
    )
    common = {"evaluation": config.evaluation.of_pixels, "seed": seed}
    # Neither what other inpainters are set to, nor how a metric is.
    others = {"device", *catalogue.inpainters.names()} - {model.inpainter}
    ablated = catalogue.inpainters.get(model.inpainter).ablated
    settings = {
        **common,
        "model": {name: value for name, value in changed(model).items() if name not in others},
        "method": method.identity if ablated else None,
        "sampling": changed(config.sampling),
        "data": changed(config.data),
        "own": {
            name: changed(config.section(name))
            for name in config.own
            if name in (model.inpainter, config.data.source)
        },
        "part_size": config.part_size,
    }
    pixels = {
        **common,
        "dtype": model.dtype,
        # Both change the rounding.
        "channels_last": model.channels_last,
        "compile": model.compile,
        "fit": {"long_side": model.long_side, "pad_multiple": model.pad_multiple},
        # Float rounding depends on the composition of the batches.
        "batches": {"batch_size": model.batch_size, "part_size": config.part_size},
    }
    alone = replace(
        config,
        ablation=AblationConfig(method.name),
        ablations=[],
        seed=seed,
        seeds=[],
        models={},
    )
    key = RowKey(model.id, method.name, config.reading_label)
    return Run(command, key, seed, method, plan, settings, pixels, asdict(alone))


@dataclass(frozen=True)
class Command:
    """What was asked: the settings, the command line, the settings as text, and what it set."""

    config: Config
    line: str
    text: str
    overrides: tuple[str, ...] = ()

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


def check_writable(out: Path) -> None:
    """UserError where runs could not be written, before anything is loaded."""
    there = out
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "is no folder" if not there.is_dir() else "cannot be written to"
        raise UserError(f"out={out}: {there} {what}; name another folder with out=...")


def group_of(command: Command) -> str:
    """What a logger files the command's runs under: the experiment's name and its choices."""
    chosen = ", ".join(_chosen(command))
    return f"{command.config.name or command.config.model.id} ({chosen})"


def _chosen(command: Command) -> list[str]:
    """The reading, and the evaluation where it is not this project's own."""
    protocol = command.config.evaluation
    told = [] if protocol == OURS else [f"evaluation={protocol.label}"]
    return [command.config.reading_label, *told]


def report_folder(command: Command, entries: Sequence[Entry]) -> Path:
    """`<out>/reports/<name>`; without a name the run's own id, or a hash of several.

    A reading other than the default one and an evaluation other than this project's are added to
    the name, so that one experiment in two readings leaves two reports: `table2_mini-paper`,
    `table2_mini-paper-eta=0.05`, `table2-released-evaluation=released`.
    """
    ids = [entry.run.run_id for entry in entries]
    if command.config.name is None:
        return command.out / "reports" / (ids[0] if len(ids) == 1 else digest(ids))
    told = [label for label in _chosen(command) if label != DEFAULT_READING]
    suffix = "".join("-" + label.replace(", ", "-") for label in told)
    return command.out / "reports" / f"{command.config.name}{suffix}"
