"""Running an experiment and reading what it left."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from profi.harness.experiment import run
from profi.harness.run_folder import RunFolder, find_run
from profi.harness.runs import Command, Run, runs_of
from profi.settings import Config
from profi.store.generations import read_generations


def go(config: Config) -> str:
    """Run a command; what the terminal showed."""
    shown = io.StringIO()
    console = Console(file=shown, width=160)
    result = run(Command(config, "run.py here", "a: 1\n"), console)
    if result is not None:
        result.print(console)
    return shown.getvalue()


def resolved(config: Config) -> dict[tuple[str, int], Run]:
    """The command's runs by (method, seed), painted or not."""
    command = Command(config, "run.py here", "a: 1\n")
    return {(run.method.name, run.seed): run for run in runs_of(command)}


def runs(config: Config) -> dict[tuple[str, int], RunFolder]:
    """Their folders, which must be there."""
    return {key: folder_of(config, *key) for key in resolved(config)}


def folder_of(config: Config, ablation: str, seed: int) -> RunFolder:
    folder = find_run(Path(config.out), resolved(config)[ablation, seed].settings)
    assert folder is not None
    return folder


def pictures(folder: RunFolder) -> dict[str, bytes]:
    return {item.triplet_id: item.image for item in read_generations(folder.generations)}
