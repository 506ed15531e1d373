"""The stage `figure`: draws one figure and writes it into `<out>/figures`, with a page of all."""

from __future__ import annotations

import logging
import shlex
from typing import Any

import matplotlib
from rich.console import Console

from profi.catalogue import FigureEntry, catalogue
from profi.figures.context import FigureContext
from profi.figures.drawing import STYLE, Drawing, write_drawing, write_page
from profi.harness.build_data import data_label
from profi.harness.provenance import SEPARATOR, merged
from profi.harness.run_folder import run_record
from profi.harness.run_status import Entry
from profi.harness.runs import Command
from profi.store.parts import part_facts, part_indices
from profi.types import UserError

log = logging.getLogger(__name__)

FOLDER = "figures"


def draw(command: Command, console: Console) -> Drawing:
    """Draw the figure of the settings and write it.

    Raises:
        UserError: what the figure shows is not there and cannot be painted, or no triplet fits its
            rule.
    """
    entry: FigureEntry = catalogue.figures.get(command.config.figure.name, "figure")
    context = FigureContext(command, console)
    style: Any = dict(STYLE)
    with matplotlib.rc_context(style):
        drawing = entry.load()(context)
        if not isinstance(drawing, Drawing):
            raise UserError(
                f"figure {entry.name} returned {type(drawing).__name__}; return a "
                "profi.figures.drawing.Drawing"
            )
        folder = command.out / FOLDER
        facts = _facts(context)
        path = write_drawing(folder, entry.name, entry.label or entry.name, drawing, facts)
    write_page(folder, catalogue.figures.names())
    log.info("figure %s: %s", entry.name, path)
    return drawing


def _facts(context: FigureContext) -> dict[str, str]:
    """With what a figure was made."""
    config, entries = context.config, list(dict.fromkeys(context.entries))
    facts = {"command": command_text(context.command), **context.facts}
    shown = [(entry.model, entry.seed) for entry in entries]
    shown += [(run.key.model, run.seed) for run in context.painted]
    if not shown:
        return facts
    facts |= {
        "model": ", ".join(dict.fromkeys(model for model, _ in shown)),
        "data": data_label(config.data)
        + (f", root={config.data.root}" if config.data.root else ""),
        "seed": ", ".join(str(seed) for seed in sorted({seed for _, seed in shown})),
        "reading": config.reading_label,
        "evaluation": config.evaluation.label,
        "sampling": ", ".join(f"{k}={v}" for k, v in vars(config.sampling).items() if v != ""),
    }
    if entries:
        pixels = [run_record(entry.run)["pixels"] for entry in entries]
        facts["weights"] = ", ".join(sorted({p["backbone"]["weights"] for p in pixels}))
        facts["runs"] = ", ".join(
            f"{entry.run.run_id} ({entry.model} {entry.ablation})" for entry in entries
        )
        facts |= {f"painted with {name}": text for name, text in _painted_with(entries).items()}
    return facts


def _painted_with(entries: list[Entry]) -> dict[str, str]:
    """Commit, versions and device of the paintings."""
    parts = [
        part_facts(entry.run.generations, index)
        for entry in entries
        for index in part_indices(entry.run.generations)
    ]
    found = merged(parts)
    names = [name for name in ("commit", "versions", "device") if name in found]
    return {name: found[name].replace(SEPARATOR, "; ") for name in names}


def command_text(command: Command) -> str:
    """The command that draws the figure again: `profi figure 3 seed=1`."""
    given = [
        text
        for text in command.overrides
        if text.lstrip("+").partition("=")[0] not in ("figure", "figure.name", "stage")
    ]
    return shlex.join(["profi", "figure", command.config.figure.name, *given])
