"""Table 2 of the paper: in the terminal, as Markdown, LaTeX and CSV."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pandas as pd
from rich.table import Table as RichTable

from profi.reports.names import RowKey, metric_style, ordered_metrics, row_labels
from profi.reports.statistics import BOOTSTRAP

PAPER_TITLE = "paper (DreamShaper 8, MSCOCO)"
_INCOMPLETE_MARK, _BOOTSTRAP_MARK, _NAN_MARK = "*", "†", "‡"


@dataclass(frozen=True)
class Cell:
    """One printed number; `text` is "–" where there is none; `published` is not ours."""

    text: str
    best: bool = False
    marks: str = ""
    published: bool = False


@dataclass(frozen=True)
class Table:
    """What the renderers print.

    `rows` maps a row's name to one cell per column; `notes` explain the marks that occur.
    """

    columns: tuple[str, ...]
    rows: dict[str, tuple[Cell, ...]]
    notes: tuple[str, ...]


def paper_table2() -> pd.DataFrame:
    """The paper's Table 2: columns ablation, metric, mean, half_width (95 %, 5 seeds)."""
    source = resources.files("profi.reports") / "reference" / "table2.csv"
    with source.open("r", encoding="utf-8") as file:
        return pd.read_csv(file)


def table2(summary: pd.DataFrame, reference: pd.DataFrame | None = None) -> Table:
    """Lay out what `statistics.summarise` returned.

    Args:
        summary: one line per (model, ablation, reading, metric).
        reference: such as `paper_table2()`; its numbers get columns of their own, since they
            are of another model and other images than most runs.

    Returns:
        Rows and columns in the paper's order, the best complete entry of a column marked.
    """
    keys = [
        RowKey(str(model), str(ablation), str(reading))
        for model, ablation, reading in zip(
            summary["model"], summary["ablation"], summary["reading"], strict=True
        )
    ]
    labels = row_labels(keys)
    metrics = ordered_metrics(summary["metric"])
    lines = {
        (key, metric): line
        for key, metric, (_, line) in zip(keys, summary["metric"], summary.iterrows(), strict=True)
    }
    best = {metric: _best(summary, metric) for metric in metrics}
    columns = [metric_style(metric).label for metric in metrics]
    rows: dict[str, list[Cell]] = {}
    for key, label in labels.items():
        rows[label] = [
            _measured(lines.get((key, metric)), metric, best[metric]) for metric in metrics
        ]
    if reference is not None:
        shown = [metric for metric in metrics if metric in set(reference["metric"])]
        columns += [f"{metric_style(metric).label} – {PAPER_TITLE}" for metric in shown]
        for key, label in labels.items():
            rows[label] += [_printed(reference, key.ablation, metric) for metric in shown]
    return Table(
        tuple(columns),
        {label: tuple(cells) for label, cells in rows.items()},
        _notes(summary),
    )


def _best(summary: pd.DataFrame, metric: str) -> float:
    """The best rounded mean among complete lines; NaN where there are fewer than two."""
    style = metric_style(metric)
    chosen = summary[(summary["metric"] == metric) & ~summary["incomplete"]]["mean"].dropna()
    if len(chosen) < 2:
        return math.nan
    value = chosen.max() if style.higher_is_better else chosen.min()
    return round(float(value), style.decimals)


def _number(mean: float, half_width: float, decimals: int) -> str:
    if math.isnan(mean):
        return "–"
    if math.isnan(half_width):
        return f"{mean:.{decimals}f}"
    return f"{mean:.{decimals}f} ± {half_width:.{decimals}f}"


def _measured(line: pd.Series | None, metric: str, best: float) -> Cell:
    if line is None:
        return Cell("–")
    decimals = metric_style(metric).decimals
    marks = [
        (bool(line["incomplete"]), _INCOMPLETE_MARK),
        (line["interval"] == BOOTSTRAP, _BOOTSTRAP_MARK),
        (int(line["n_nan"]) > 0, _NAN_MARK),
    ]
    mean = float(line["mean"])
    return Cell(
        _number(mean, float(line["half_width"]), decimals),
        best=not bool(line["incomplete"]) and round(mean, decimals) == best,
        marks="".join(mark for present, mark in marks if present),
    )


def _printed(reference: pd.DataFrame, ablation: str, metric: str) -> Cell:
    found = reference[(reference["ablation"] == ablation) & (reference["metric"] == metric)]
    if found.empty:
        return Cell("–", published=True)
    line = found.iloc[0]
    decimals = metric_style(metric).decimals
    return Cell(_number(float(line["mean"]), float(line["half_width"]), decimals), published=True)


def _notes(summary: pd.DataFrame) -> tuple[str, ...]:
    notes = []
    if summary["incomplete"].any():
        n_missing = int(summary["n_missing"].sum())
        notes.append(
            f"{_INCOMPLETE_MARK} incomplete: {n_missing} scores of the wanted triplets and seeds "
            "are missing; not comparable"
        )
    if (summary["interval"] == BOOTSTRAP).any():
        notes.append(f"{_BOOTSTRAP_MARK} one seed: 95 % interval by bootstrap over images")
    if (summary["n_nan"] > 0).any():
        n_nan = int(summary["n_nan"].sum())
        notes.append(f"{_NAN_MARK} without {n_nan} scores that could not be computed (NaN)")
    seeds = sorted(set(summary["n_seeds"]))
    triplets = sorted(set(summary["n_triplets"]))
    notes.append(f"{_span(seeds)} seed(s), {_span(triplets)} triplet(s); mean ± 95 % interval")
    return tuple(notes)


def _span(numbers: list[int]) -> str:
    first, last = int(numbers[0]), int(numbers[-1])
    return str(first) if first == last else f"{first} to {last}"


def render_rich(table: Table, title: str = "") -> RichTable:
    """For the terminal; the notes are its caption."""
    result = RichTable(title=title or None, caption="\n".join(table.notes))
    result.add_column("")
    for column in table.columns:
        result.add_column(column, justify="right")
    for label, cells in table.rows.items():
        texts = [
            f"[bold]{cell.text}[/bold]{cell.marks}" if cell.best else cell.text + cell.marks
            for cell in cells
        ]
        result.add_row(label, *texts)
    return result


def render_markdown(table: Table) -> str:
    """A GitHub table, the best entries bold, the notes below."""
    lines = [
        "| | " + " | ".join(table.columns) + " |",
        "|---|" + "---:|" * len(table.columns),
    ]
    for label, cells in table.rows.items():
        lines.append(f"| {label} | " + " | ".join(_marked(cell, "**{}**") for cell in cells) + " |")
    lines += ["", *(f"{_markdown_text(note)}  " for note in table.notes)]
    return "\n".join(lines) + "\n"


def _markdown_text(text: str) -> str:
    return text.replace(_INCOMPLETE_MARK, r"\*")


def _marked(cell: Cell, bold: str, escape: Callable[[str], str] = _markdown_text) -> str:
    text = bold.format(cell.text) if cell.best else cell.text
    return text + escape(cell.marks)


def render_latex(table: Table) -> str:
    """A booktabs `tabular`, the best entries bold, the notes as comments above."""
    lines = [f"% {note}" for note in table.notes]
    lines.append(r"\begin{tabular}{l" + "r" * len(table.columns) + "}")
    lines.append(r"\toprule")
    lines.append(" & ".join(["", *(_latex_text(column) for column in table.columns)]) + r" \\")
    lines.append(r"\midrule")
    for label, cells in table.rows.items():
        texts = []
        for cell in cells:
            text = cell.text.replace("±", r"$\pm$").replace("–", "--")
            marks = f"$^{{{_latex_marks(cell.marks)}}}$" if cell.marks else ""
            texts.append((rf"\textbf{{{text}}}" if cell.best else text) + marks)
        lines.append(" & ".join([_latex_text(label), *texts]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def _latex_text(text: str) -> str:
    for character in "&%_#$":
        text = text.replace(character, "\\" + character)
    return text.replace("–", "--")


def _latex_marks(marks: str) -> str:
    return marks.replace(_BOOTSTRAP_MARK, r"\dagger").replace(_NAN_MARK, r"\ddagger")


def write_csv(summary: pd.DataFrame, path: Path) -> None:
    """`summary` unrounded, one line per row and metric (see `statistics.summarise`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    summary.to_csv(path, index=False)
