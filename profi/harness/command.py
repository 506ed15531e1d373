"""A command: what was asked, and the places and names that follow from it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from profi.harness.run_status import Entry
from profi.settings import DEFAULT_READING, Config, parse_shard
from profi.settings.evaluation import OURS
from profi.types import UserError, digest


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
