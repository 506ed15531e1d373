"""Printed names and order of rows and metrics; tables for the terminal, Markdown, LaTeX, CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd
from rich.table import Table as RichTable
from rich.text import Text

from profi.atomic import write_text
from profi.catalogue import MetricEntry, catalogue
from profi.reports.differences import clear_best, paired_difference
from profi.reports.paper import compare_to_paper, paper_numbers, paper_table
from profi.reports.tables import (
    BOOTSTRAP_MARK,
    INCOMPLETE_MARK,
    NAN_MARK,
    Cell,
    Table,
    difference_table,
    score_table,
)

# The paper's names of the models.
MODELS: Mapping[str, str] = MappingProxyType(
    {
        "Lykon/dreamshaper-8-inpainting": "DreamShaper 8",
        "stable-diffusion-v1-5/stable-diffusion-inpainting": "Stable 1.5",
        "sd2-community/stable-diffusion-2-inpainting": "Stable 2.0",
        "diffusers/stable-diffusion-xl-1.0-inpainting-0.1": "SDXL",
    }
)


# The rows of the paper's Table 1, in its order; then those of the mini model.
ROWS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("glide", "base"): "GLIDE",
        ("bld", "base"): "BLD",
        ("sdxl_inpainting", "base"): "SDXL Inpainting",
        ("controlnet", "base"): "DreamShaper-ControlNet",
        ("smartbrush", "base"): "SmartBrush reprod.",
        ("stable-diffusion-v1-5/stable-diffusion-inpainting", "base"): "Stable 1.5 Inpainting",
        ("sd2-community/stable-diffusion-2-inpainting", "base"): "Stable 2.0 Inpainting",
        ("Lykon/dreamshaper-8-inpainting", "base"): "DreamShaper Inpainting",
        (
            "stable-diffusion-v1-5/stable-diffusion-inpainting",
            "profi",
        ): "Stable 1.5 + ProFI Painter",
        ("sd2-community/stable-diffusion-2-inpainting", "profi"): "Stable 2.0 + ProFI Painter",
        ("Lykon/dreamshaper-8-inpainting", "profi"): "DreamShaper 8 + ProFI Painter",
        ("mini-bld", "base"): "Mini BLD",
        ("mini-controlnet", "base"): "Mini ControlNet",
        ("mini-smartbrush", "base"): "Mini SmartBrush",
        ("profi-mini", "base"): "Mini Inpainting",
        ("profi-mini", "profi"): "Mini + ProFI Painter",
    }
)


class RowKey(NamedTuple):
    """Identifies a row of a table."""

    model: str
    ablation: str
    reading: str


def metric_style(metric: str) -> MetricEntry:
    """How a metric is printed; an unknown metric has its own name as label."""
    known = metric in catalogue.metrics.names()
    return catalogue.metrics.get(metric) if known else MetricEntry(metric, "", metric)


def ordered_metrics(metrics: Iterable[str]) -> list[str]:
    """Known metrics in the paper's order, then the others by name."""
    return sorted(set(metrics), key=lambda metric: (catalogue.metrics.rank(metric), metric))


def ordered_rows(rows: Iterable[RowKey]) -> list[RowKey]:
    """Rows of several models in Table 1's order; of one model by reading and ablation."""
    rows = set(rows)
    of_models = ROWS if len({row.model for row in rows}) > 1 else {}

    def place(row: RowKey) -> tuple[object, ...]:
        ablation = (catalogue.methods.rank(row.ablation), row.ablation)
        return _rank((row.model, row.ablation), of_models), row.model, row.reading, ablation

    return sorted(rows, key=place)


def base_of(row: RowKey, rows: Iterable[RowKey], base: str = "base") -> RowKey | None:
    """The base of a row: the base of the same model and reading.

    If this reading has no base, the model's only base (it uses neither PAIntA nor RASG, so a
    reading may not change it). None if there is no such base, or `row` is a base.
    """
    bases = [item for item in rows if item.model == row.model and item.ablation == base]
    same = [item for item in bases if item.reading == row.reading]
    if row.ablation == base or (not same and len(bases) != 1):
        return None
    return (same or bases)[0]


def row_labels(rows: Iterable[RowKey]) -> dict[RowKey, str]:
    """The rows' names in order: Table 1's for several models, Table 2's for one.

    Rows that the paper does not have are named by model and ablation. Readings are added if they
    differ.
    """
    ordered = ordered_rows(rows)
    many_models = len({row.model for row in ordered}) > 1
    many_readings = len({row.reading for row in ordered}) > 1
    labels = {}
    for row in ordered:
        label = catalogue.methods.label(row.ablation)
        if many_models:
            default = f"{MODELS.get(row.model, row.model)}: {label}"
            label = ROWS.get((row.model, row.ablation), default)
        if many_readings:
            label = f"{label} ({row.reading})"
        labels[row] = label
    return labels


def _rank(name: object, order: Mapping[Any, object]) -> int:
    names = list(order)
    return names.index(name) if name in names else len(names)


_TONES = {"up": "green", "down": "red"}


def render_rich(table: Table) -> RichTable:
    """The table for a terminal, with the notes as its caption."""
    result = RichTable(title=table.title or None, caption="\n".join(table.notes))
    # Names must not be cut; numbers may wrap.
    result.add_column("", no_wrap=True)
    for column in table.columns:
        result.add_column(column, justify="right")
    for label, cells in table.rows.items():
        result.add_row(label, *map(_rich, cells))
    return result


def _rich(cell: Cell) -> Text:
    # As Text, so that the brackets of an interval are not read as markup.
    style = "bold" if cell.best else "dim" if cell.published else _TONES.get(cell.tone, "")
    return Text.assemble((cell.text, style), cell.marks)


def render_markdown(table: Table) -> str:
    """A GitHub table with its title above and the notes below."""
    lines = [
        f"### {table.title}",
        "",
        "| | " + " | ".join(table.columns) + " |",
        "|---|" + "---:|" * len(table.columns),
    ]
    for label, cells in table.rows.items():
        lines.append(f"| {label} | " + " | ".join(_marked(cell, "**{}**") for cell in cells) + " |")
    lines += ["", *(f"{_markdown_text(note)}  " for note in table.notes)]
    return "\n".join(lines) + "\n"


def _markdown_text(text: str) -> str:
    return text.replace(INCOMPLETE_MARK, r"\*").replace("<", r"\<")


def _marked(cell: Cell, bold: str, escape: Callable[[str], str] = _markdown_text) -> str:
    text = bold.format(cell.text) if cell.best else escape(cell.text)
    return text + escape(cell.marks)


def render_latex(table: Table) -> str:
    """A booktabs `tabular`, with title and notes as comments above."""
    lines = [f"% {line}" for line in (table.title, *table.notes)]
    lines.append(r"\begin{tabular}{l" + "r" * len(table.columns) + "}")
    lines.append(r"\toprule")
    lines.append(" & ".join(["", *(_latex_text(column) for column in table.columns)]) + r" \\")
    lines.append(r"\midrule")
    for label, cells in table.rows.items():
        texts = []
        for cell in cells:
            text = _latex_text(cell.text)
            marks = f"$^{{{_latex_marks(cell.marks)}}}$" if cell.marks else ""
            texts.append((rf"\textbf{{{text}}}" if cell.best else text) + marks)
        lines.append(" & ".join([_latex_text(label), *texts]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def _latex_text(text: str) -> str:
    for character in "&%_#$":
        text = text.replace(character, "\\" + character)
    for character, latex in (("–", "--"), ("±", r"$\pm$"), ("−", "$-$"), ("<", "$<$")):
        text = text.replace(character, latex)
    return text


def _latex_marks(marks: str) -> str:
    return marks.replace(BOOTSTRAP_MARK, r"\dagger").replace(NAN_MARK, r"\ddagger")


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write `frame` unrounded to `path`; the file appears whole or not at all."""
    write_text(path, frame.to_csv(index=False))


def write_tables(
    folder: Path,
    scores: pd.DataFrame,
    summary: pd.DataFrame,
    labels: Mapping[RowKey, str],
    with_paper: bool,
) -> list[Table]:
    """Write `table.{csv,md,tex}` and `differences.csv` into `folder`; returns the tables in order.

    The paired differences come first: they answer best whether the method gains.

    Args:
        folder: an existing folder.
        scores: the long table.
        summary: from `statistics.summarise`.
        labels: the rows' printed names, in order (`names.row_labels`).
        with_paper: whether to compare the scores with the paper's numbers.
    """
    differences = paired_difference(scores)
    tables = [
        difference_table(differences, labels),
        score_table(summary, clear_best(scores, summary)),
    ]
    if with_paper:
        numbers = paper_numbers()
        tables.append(paper_table(summary, numbers))
        summary = compare_to_paper(summary, numbers)
    shown = [table for table in tables if table is not None]
    write_csv(summary, folder / "table.csv")
    write_csv(differences, folder / "differences.csv")
    write_text(folder / "table.md", "\n".join(map(render_markdown, shown)))
    write_text(folder / "table.tex", "\n".join(map(render_latex, shown)))
    return shown
