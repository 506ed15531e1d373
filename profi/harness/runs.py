"""The runs of a command: what each one paints, and its identity."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from profi.catalogue import catalogue
from profi.data.manifest import manifest_digest
from profi.harness.build_data import image_root
from profi.harness.plan import Plan
from profi.harness.provenance import code_digest, environment
from profi.harness.rows import RowContext
from profi.harness.run_folder import RunFolder, find_run, open_run
from profi.harness.run_status import Absent, Entry
from profi.inpainter import Row
from profi.method.methods import Method, compose
from profi.reports.names import RowKey
from profi.settings import DEFAULT_READING, AblationConfig, Config, parse_shard
from profi.settings.evaluation import OURS
from profi.settings.fields import recorded
from profi.store.parts import part_indices
from profi.types import RunSpec, Triplet, UserError, digest


@dataclass(frozen=True)
class Samples:
    """The triplets that every run paints, and the digest of their images."""

    triplets: tuple[Triplet, ...]
    images: str


@dataclass(frozen=True)
class Run:
    """One (model, method, seed) of a command.

    Fields:
        key, seed: its row of the table, and its seed.
        method: the method that paints.
        plan: parts, batches, sizes and seeds.
        settings: names and paths; they find the run's folder without loading the model.
        pixels: the settings that change a pixel; `spec` adds the hashes of model, code and data.
        described: all settings, for a logger.
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
        """The run's name in log lines."""
        return f"{self.key.model} {self.key.ablation} seed {self.seed}"

    @property
    def absent(self) -> Absent:
        """The run as an `Absent` of a table."""
        return Absent(self.key, self.seed)

    def find(self) -> Entry | None:
        """The run, if an earlier command painted at least one part of it."""
        folder = find_run(self.command.out, self.settings)
        found = folder is not None and part_indices(folder.generations)
        return self._entry(folder) if folder is not None and found else None

    def open(self, row: Row, samples: Samples) -> Entry:
        """Create or reopen the run's folder and write its records."""
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
        """All that changes a pixel, by content; and the environment, which is only recorded."""
        identity = dict(row.identity)
        if "method" in identity:
            # Under `method`: the other entries are the same for all rows of a model.
            code = code_digest([catalogue.methods.get(self.method.name).module])
            identity["method"] = {**identity["method"], "code": code}
        pixels = {
            **self.pixels,
            **identity,
            "code": code_digest([type(row).__module__, *self._plugin]),
            "manifest": manifest_digest(samples.triplets),
            "images": samples.images,
        }
        return RunSpec(pixels, environment(row.device))

    @property
    def _plugin(self) -> list[str]:
        """The module of a plugin that builds the row; those of this project do not paint."""
        name = self.command.config.model.inpainter
        module = catalogue.inpainters.get(name).module
        return [] if module.partition(".")[0] == "profi" else [module]

    def _entry(self, folder: RunFolder) -> Entry:
        return Entry(folder, *self.key, self.seed)


def methods_of(config: Config) -> dict[str, Method]:
    """The methods of the command's only model, by name."""
    names = dict.fromkeys(name for name, _ in config.methods_and_seeds)
    return {name: compose(name, config.reading, config.sections) for name in names}


def context_of(config: Config) -> RowContext:
    """The arguments to build the command's only model."""
    own = config.sections.get(config.model.inpainter)
    return RowContext(config.model, config.sampling, config.evaluation.noise, own=own)


def runs_of(command: Command) -> list[Run]:
    """A run per (method, seed) of the command's only model; the seeds of a method together."""
    config = command.config
    methods = methods_of(config)
    return [_run(command, methods[name], seed) for name, seed in config.methods_and_seeds]


def all_runs(command: Command) -> list[Run]:
    """The runs of all models of the command, in order."""
    config = command.config
    return [run for one in config.per_model for run in runs_of(replace(command, config=one))]


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
    # Without the settings of other inpainters.
    others = {"device", *catalogue.inpainters.names()} - {model.inpainter}
    ablated = catalogue.inpainters.get(model.inpainter).ablated
    settings = {
        **common,
        "model": {name: value for name, value in recorded(model).items() if name not in others},
        "method": method.identity if ablated else None,
        "sampling": recorded(config.sampling),
        "data": recorded(config.data),
        "own": {
            name: recorded(config.section(name))
            for name in config.own
            if name in (model.inpainter, config.data.source)
        },
        "part_size": config.part_size,
    }
    pixels = {
        **common,
        "dtype": model.dtype,
        # These change the rounding.
        "channels_last": model.channels_last,
        "compile": model.compile,
        "threads": model.threads,
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
        workers="auto",
    )
    key = RowKey(model.id, method.name, config.reading_label)
    return Run(command, key, seed, method, plan, settings, pixels, asdict(alone))


@dataclass(frozen=True)
class Command:
    """The settings, the command line, the settings as YAML, and the command line's overrides."""

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
        """Whether the settings ask for a stage."""
        return self.config.stage in (stage, "all")


def existing_parent(path: Path) -> Path:
    """The path itself or the closest folder above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def check_writable(out: Path) -> None:
    """UserError if runs cannot be written to `out`."""
    existing = existing_parent(out)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        what = "is not a folder" if not existing.is_dir() else "cannot be written to"
        raise UserError(f"out={out}: {existing} {what}; name another folder with out=...")


def group_of(command: Command) -> str:
    """The logger's group of the command's runs: the experiment's name, reading and evaluation."""
    chosen = ", ".join(_chosen(command))
    return f"{command.config.name or command.config.model.id} ({chosen})"


def _chosen(command: Command) -> list[str]:
    """The reading; also the evaluation, if it is not this project's own."""
    protocol = command.config.evaluation
    evaluation = [] if protocol == OURS else [f"evaluation={protocol.label}"]
    return [command.config.reading_label, *evaluation]


#: Letters of a report folder's name after the experiment's.
MAX_SUFFIX = 120


def report_folder(command: Command, entries: Sequence[Entry]) -> Path:
    """`<out>/reports/<name>`; without a name, the run's id or a hash of several ids.

    A reading and an evaluation other than the default are added to the name, so that an experiment
    in two readings has two reports: `table2_mini-paper`, `table2_mini-paper-eta=0.05`,
    `table2-evaluation=released`.
    """
    ids = [entry.run.run_id for entry in entries]
    if command.config.name is None:
        return command.out / "reports" / (ids[0] if len(ids) == 1 else digest(ids))
    labels = [label for label in _chosen(command) if label != DEFAULT_READING]
    suffix = "".join("-" + label.replace(", ", "-") for label in labels)
    # A plugin's settings may be texts of any kind.
    plain = re.sub(r"[^\w.,=+-]", "_", suffix)
    if plain != suffix or len(suffix) > MAX_SUFFIX:
        suffix = f"{plain[:MAX_SUFFIX]}-{digest(suffix)}"
    return command.out / "reports" / f"{command.config.name}{suffix}"
