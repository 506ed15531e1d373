"""Renders tables for the terminal, as Markdown and as LaTeX; writes frames as CSV."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
from rich.table import Table as RichTable
from rich.text import Text

from profi.atomic import write_text
from profi.reports.differences import clear_best, paired_difference
from profi.reports.names import RowKey
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
    """A booktabs `tabular` with its title as a comment above and its notes below."""
    lines = [f"% {table.title}"]
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
    # What the marks mean, below the table.
    lines += [rf"\par{{\footnotesize {_latex_note(note)}}}" for note in table.notes]
    return "\n".join(lines) + "\n"


def _latex_text(text: str) -> str:
    for character in "&%_#$":
        text = text.replace(character, "\\" + character)
    for character, latex in (("–", "--"), ("±", r"$\pm$"), ("−", "$-$"), ("<", "$<$")):
        text = text.replace(character, latex)
    return text


def _latex_note(note: str) -> str:
    """A note: its marks are symbols of mathematics."""
    text = _latex_text(note)
    for mark in (BOOTSTRAP_MARK, NAN_MARK):
        text = text.replace(mark, f"${_latex_marks(mark)}$")
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
