"""Running an experiment and reading what it left."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from profi.harness.command import Command
from profi.harness.experiment import run
from profi.harness.run_folder import RunFolder, find_run, settings_of
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


def runs(config: Config) -> dict[tuple[str, int], RunFolder]:
    found = {}
    for name, seed in config.wanted:
        folder = find_run(Path(config.out), settings_of(config, name, seed))
        assert folder is not None
        found[name, seed] = folder
    return found


def pictures(folder: RunFolder) -> dict[str, bytes]:
    return {item.triplet_id: item.image for item in read_generations(folder.generations)}
