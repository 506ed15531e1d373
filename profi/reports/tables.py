"""The tables of a report: scores, and paired differences to the base.

Rows are models x ablations: with one model as in the paper's Table 2, with several models as in its
Table 1. `profi.reports.paper` has the comparison with the paper, `profi.reports.render` prints
tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from profi.reports.bootstrap import Interval
from profi.reports.differences import CLUSTERED, EXACT
from profi.reports.names import RowKey, metric_style, ordered_metrics, row_labels
from profi.reports.statistics import BOOTSTRAP, SEEDS_FOR_T, T_INTERVAL, row_keys

NOTHING = "–"
INCOMPLETE_MARK, BOOTSTRAP_MARK, NAN_MARK = "*", "†", "‡"
_BETTER = "better than every other row, paired by triplet and seed (95 %, bootstrap over images)"
_BOLD_NOTE, _NO_BOLD_NOTE = f"bold: {_BETTER}", f"nothing is bold: no row is {_BETTER}"


@dataclass(frozen=True)
class Cell:
    """One printed entry.

    `text` is NOTHING without a number; `best` is printed bold; `published` is the paper's number;
    `tone` is "up" or "down" if an interval excludes zero.
    """

    text: str
    best: bool = False
    marks: str = ""
    published: bool = False
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A table to print.

    `rows` maps a row's name to one cell per column; `notes` explain its marks.
    """

    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[Cell, ...]]
    notes: tuple[str, ...]


def score_table(summary: pd.DataFrame, best: Mapping[str, RowKey]) -> Table:
    """Our scores: one row per (model, ablation, reading), one column per metric.

    Marks show incomplete entries, intervals over images, and entries with NaN scores.

    Args:
        summary: from `statistics.summarise`.
        best: the entries to print bold, by metric (`differences.clear_best`).
    """
    metrics = ordered_metrics(summary["metric"])
    lines = lines_of(summary)
    rows = {
        label: tuple(
            measured(lines.get((*key, metric)), metric, best.get(metric) == key)
            for metric in metrics
        )
        for key, label in row_labels(row_keys(summary)).items()
    }
    columns = tuple(metric_style(metric).label for metric in metrics)
    notes = notes_of(summary)
    if len(rows) > 1:
        notes += (_BOLD_NOTE if best else _NO_BOLD_NOTE,)
    return Table("Scores", columns, rows, notes)


def difference_table(
    differences: pd.DataFrame, labels: Mapping[RowKey, str], base: str = "base"
) -> Table | None:
    """The paired differences to the base: mean [95 % interval], and McNemar's test.

    Args:
        differences: from `differences.paired_difference`.
        labels: the rows' printed names, in order (`names.row_labels`).
        base: the ablation that the differences are to.

    Returns:
        None if no row has a base.
    """
    if differences.empty or not differences["n_pairs"].any():
        return None
    metrics = ordered_metrics(differences["metric"])
    lines = lines_of(differences)
    columns: list[str] = []
    for metric in metrics:
        columns.append(metric_style(metric).label)
        if metric_style(metric).hit_or_miss:
            columns += ["gained / lost", "McNemar p"]
    rows: dict[str, tuple[Cell, ...]] = {}
    for key, label in labels.items():
        if any((*key, metric) in lines for metric in metrics):
            cells = [cell for m in metrics for cell in _gain(lines.get((*key, m)), m)]
            rows[label] = tuple(cells)
    return Table(
        f"Paired differences to {base}", tuple(columns), rows, _difference_notes(differences)
    )


def lines_of(frame: pd.DataFrame) -> dict[tuple[str, str, str, str], pd.Series]:
    """The lines by (model, ablation, reading, metric)."""
    key = ["model", "ablation", "reading", "metric"]
    return {
        (str(line["model"]), str(line["ablation"]), str(line["reading"]), str(line["metric"])): line
        for _, line in frame.drop_duplicates(key).iterrows()
    }


def number(mean: float, half_width: float, decimals: int) -> str:
    """`25.61 ± 0.02`; without the half width if it is NaN; NOTHING if the mean is NaN."""
    if math.isnan(mean):
        return NOTHING
    if math.isnan(half_width):
        return f"{mean:.{decimals}f}"
    return f"{mean:.{decimals}f} ± {half_width:.{decimals}f}"


def signed(value: float, decimals: int) -> str:
    """The value with its sign (a typographic minus); NOTHING for NaN."""
    return NOTHING if math.isnan(value) else f"{value:+.{decimals}f}".replace("-", "−")


def measured(line: pd.Series | None, metric: str, best: bool = False) -> Cell:
    """The cell of one line of the summary, with its marks."""
    if line is None:
        return Cell(NOTHING)
    decimals = metric_style(metric).decimals
    marks = [
        (bool(line["incomplete"]), INCOMPLETE_MARK),
        (line["interval"] == BOOTSTRAP, BOOTSTRAP_MARK),
        (int(line["n_nan"]) > 0, NAN_MARK),
    ]
    mean = float(line["mean"])
    return Cell(
        number(mean, float(line["half_width"]), decimals),
        best=best,
        marks="".join(mark for present, mark in marks if present),
    )


def _gain(line: pd.Series | None, metric: str) -> list[Cell]:
    style = metric_style(metric)
    if line is None or not line["n_pairs"]:
        return [Cell(NOTHING)] * (3 if style.hit_or_miss else 1)
    low, high = float(line["low"]), float(line["high"])
    text, tone = signed(float(line["difference"]), style.decimals), ""
    if not math.isnan(low):
        text += f" [{signed(low, style.decimals)}, {signed(high, style.decimals)}]"
    if Interval(low, high).is_clear:
        tone = "up" if (low > 0) == style.higher_is_better else "down"
    cells = [Cell(text, marks=INCOMPLETE_MARK if line["n_unpaired"] else "", tone=tone)]
    if style.hit_or_miss:
        p_value = float(line["p_value"])
        printed = "< 0.0001" if p_value < 0.0001 else f"{p_value:.4f}"
        cells += [Cell(f"{line['n_gained']} / {line['n_lost']}"), Cell(printed)]
    return cells


def notes_of(summary: pd.DataFrame) -> tuple[str, ...]:
    """Notes that explain the marks in a table, and the number of seeds and triplets."""
    notes = []
    if summary["incomplete"].any():
        n_missing = int(summary["n_missing"].sum())
        notes.append(
            f"{INCOMPLETE_MARK} incomplete: {n_missing} expected scores are missing; not comparable"
        )
    if (summary["n_nan"] > 0).any():
        n_nan = int(summary["n_nan"].sum())
        notes.append(f"{NAN_MARK} without {n_nan} scores that could not be computed (NaN)")
    seeds, triplets = _span(summary["n_seeds"]), _span(summary["n_triplets"])
    notes.append(f"{seeds} seed(s), {triplets} triplet(s); mean ± half of the 95 % interval")
    kinds = set(summary["interval"])
    if T_INTERVAL in kinds:
        others = f"without {BOOTSTRAP_MARK}: " if BOOTSTRAP in kinds else ""
        notes.append(f"{others}t-interval of the seeds' means (other seeds on the same images)")
    if BOOTSTRAP in kinds:
        notes.append(
            f"{BOOTSTRAP_MARK} fewer than {SEEDS_FOR_T} seeds: bootstrap over images (other images)"
        )
    return tuple(notes)


def _difference_notes(differences: pd.DataFrame) -> tuple[str, ...]:
    notes = []
    if differences["n_unpaired"].any():
        notes.append(
            f"{INCOMPLETE_MARK} up to {int(differences['n_unpaired'].max())} pairs lack one side "
            "and are ignored"
        )
    pairs = _span(differences["n_pairs"])
    notes.append(f"{pairs} pairs of one triplet and seed; [95 % interval by bootstrap over images]")
    tests = set(differences["test"])
    if CLUSTERED in tests:
        notes.append(
            "McNemar's test, with the pairs of an image as one cluster (Yang et al., 2010)"
        )
    elif EXACT in tests:
        notes.append("McNemar's test, exact")
    return tuple(notes)


def _span(numbers: pd.Series) -> str:
    first, last = int(numbers.min()), int(numbers.max())
    return str(first) if first == last else f"{first} to {last}"
