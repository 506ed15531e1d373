"""The tables of a report, and their files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from profi.atomic import write_text
from profi.reports.best import clear_best
from profi.reports.differences import paired_difference
from profi.reports.names import RowKey
from profi.reports.paper import beside_paper, paper_numbers, paper_table
from profi.reports.render import render_latex, render_markdown, write_csv
from profi.reports.tables import Table, difference_table, score_table


def write_tables(
    folder: Path,
    scores: pd.DataFrame,
    summary: pd.DataFrame,
    labels: Mapping[RowKey, str],
    with_paper: bool,
) -> list[Table]:
    """Write `table.{csv,md,tex}` and `differences.csv` into `folder`; returns the tables in order.

    The paired differences to the base come first: whether the method gains is the question, and
    pairs answer it best.

    Args:
        folder: exists.
        scores: the long table.
        summary: what `statistics.summarise` made of it.
        labels: the rows' printed names, in order (`names.row_labels`).
        with_paper: whether the scores are on the paper's scales; its numbers then stand beside.
    """
    differences = paired_difference(scores)
    tables = [
        difference_table(differences, labels),
        score_table(summary, clear_best(scores, summary)),
    ]
    if with_paper:
        numbers = paper_numbers()
        tables.append(paper_table(summary, numbers))
        summary = beside_paper(summary, numbers)
    shown = [table for table in tables if table is not None]
    write_csv(summary, folder / "table.csv")
    write_csv(differences, folder / "differences.csv")
    write_text(folder / "table.md", "\n".join(map(render_markdown, shown)))
    write_text(folder / "table.tex", "\n".join(map(render_latex, shown)))
    return shown
