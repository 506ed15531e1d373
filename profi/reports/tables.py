"""What the tables of a report hold; `profi.reports.render` prints them.

Rows are models x ablations: with one model they are those of the paper's Table 2, with several
those of its Table 1. Our scores and their paired differences to
the base are here, ours beside the paper's own numbers in `profi.reports.paper`.
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

    `text` is NOTHING where there is no number; `best` is printed bold; `published` is not ours;
    `tone` is "up" or "down" where an interval says so.
    """

    text: str
    best: bool = False
    marks: str = ""
    published: bool = False
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """What the renderers print.

    `rows` maps a row's name to one cell per column; `notes` explain the marks that occur.
    """

    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[Cell, ...]]
    notes: tuple[str, ...]


def score_table(summary: pd.DataFrame, best: Mapping[str, RowKey]) -> Table:
    """Our scores: a row per (model, ablation, reading), a column per metric, in the paper's order.

    Marked are what is incomplete, whose interval is over images, and what lacks some scores that
    could not be computed.

    Args:
        summary: what `statistics.summarise` returned.
        best: the entries to print bold, by metric (`best.clear_best`).
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
        differences: what `differences.paired_difference` returned.
        labels: the rows' printed names, in order (`names.row_labels`).
        base: the ablation that they are to.

    Returns:
        None where no row has a base.
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
    """`25.61 ± 0.02`, without what is NaN."""
    if math.isnan(mean):
        return NOTHING
    if math.isnan(half_width):
        return f"{mean:.{decimals}f}"
    return f"{mean:.{decimals}f} ± {half_width:.{decimals}f}"


def signed(value: float, decimals: int) -> str:
    """With a sign, a true minus; NOTHING for NaN."""
    return NOTHING if math.isnan(value) else f"{value:+.{decimals}f}".replace("-", "−")


def measured(line: pd.Series | None, metric: str, best: bool = False) -> Cell:
    """The cell of a line of the summary, with its marks."""
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
    """What the marks that occur mean, and over how much the means are."""
    notes = []
    if summary["incomplete"].any():
        n_missing = int(summary["n_missing"].sum())
        notes.append(
            f"{INCOMPLETE_MARK} incomplete: {n_missing} scores of the wanted triplets and seeds "
            "are missing; not comparable"
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
            f"{INCOMPLETE_MARK} up to {int(differences['n_unpaired'].max())} pairs lack a side and "
            "are left out"
        )
    pairs = _span(differences["n_pairs"])
    notes.append(f"{pairs} pairs of one triplet and seed; [95 % interval by bootstrap over images]")
    tests = set(differences["test"])
    if CLUSTERED in tests:
        notes.append(
            "McNemar's test with the pairs of one image taken together (Yang et al., 2010)"
        )
    elif EXACT in tests:
        notes.append("McNemar's test, exact")
    return tuple(notes)


def _span(numbers: pd.Series) -> str:
    first, last = int(numbers.min()), int(numbers.max())
    return str(first) if first == last else f"{first} to {last}"
