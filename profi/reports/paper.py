"""The paper's numbers (Tables 1 and 2), and the comparison with ours."""

from __future__ import annotations

import math
from importlib import resources

import pandas as pd

from profi.reports.names import metric_style, ordered_metrics, row_labels
from profi.reports.statistics import row_keys
from profi.reports.tables import (
    INCOMPLETE_MARK,
    NOTHING,
    Cell,
    Table,
    lines_of,
    measured,
    notes_of,
    number,
    signed,
)

OVERLAP, APART = "overlap", "apart"


def paper_numbers() -> pd.DataFrame:
    """The paper's Tables 1 and 2, one line per (model, ablation, metric).

    Columns row (the paper's name), model, ablation, metric, mean, half_width (95 %, over 5 seeds),
    source. A number that both tables print is included once.
    """
    folder = resources.files("profi.reports") / "reference"
    frames = []
    for name in ("table1.csv", "table2.csv"):
        with (folder / name).open("r", encoding="utf-8") as file:
            frames.append(pd.read_csv(file))
    return pd.concat(frames).drop_duplicates(["model", "ablation", "metric"], ignore_index=True)


def compare_to_paper(summary: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """`summary` with the paper's numbers of the same model and ablation, else NaN.

    Args:
        summary: from `statistics.summarise`.
        reference: such as `paper_numbers()`.

    Returns:
        The columns of `summary` and paper_mean, paper_low, paper_high, difference_to_paper and
        overlaps (whether the two intervals overlap; None if one is missing or the line is
        incomplete).
    """
    key = ["model", "ablation", "metric"]
    numbers = reference[[*key, "mean", "half_width"]].rename(columns={"mean": "paper_mean"})
    joined = summary.merge(numbers, on=key, how="left", validate="many_to_one")
    joined["paper_low"] = joined["paper_mean"] - joined["half_width_y"]
    joined["paper_high"] = joined["paper_mean"] + joined.pop("half_width_y")
    joined = joined.rename(columns={"half_width_x": "half_width"})
    joined["difference_to_paper"] = joined["mean"] - joined["paper_mean"]
    overlaps = (joined["low"] <= joined["paper_high"]) & (joined["paper_low"] <= joined["high"])
    known = joined[["low", "high", "paper_mean"]].notna().all(axis=1) & ~joined["incomplete"]
    joined["overlaps"] = overlaps.astype(object).where(known, None)
    return joined


def paper_table(summary: pd.DataFrame, reference: pd.DataFrame) -> Table | None:
    """Our numbers and the paper's, their difference, and whether the 95 % intervals overlap.

    With several models, the table also has the paper's rows of other models.

    Args:
        summary: from `statistics.summarise`.
        reference: such as `paper_numbers()`.

    Returns:
        None if the paper has none of the rows.
    """
    compared = compare_to_paper(summary, reference)
    if compared["paper_mean"].isna().all():
        return None
    metrics = [m for m in ordered_metrics(summary["metric"]) if m in set(reference["metric"])]
    lines = lines_of(compared)
    rows: dict[str, tuple[Cell, ...]] = {}
    for key, label in row_labels(row_keys(summary)).items():
        cells: list[Cell] = []
        for metric in metrics:
            line = lines.get((*key, metric))
            cells += [measured(line, metric), *_compared(line, metric)]
        rows[label] = tuple(cells)
    if summary["model"].nunique() > 1:
        rows |= _rest_of_the_paper(reference[~reference["model"].isin(summary["model"])], metrics)
    columns = []
    for metric in metrics:
        label = metric_style(metric).label
        columns += [label, f"{label}: paper", f"{label}: ours − paper"]
    notes = (
        *notes_of(summary),
        "paper: 10,000 triplets of MSCOCO val2017, 5 seeds; "
        f"{OVERLAP} or {APART}: whether the two 95 % intervals share a point",
    )
    return Table("Comparison with the paper", tuple(columns), rows, notes)


def _compared(line: pd.Series | None, metric: str) -> list[Cell]:
    """The paper's number, and ours minus the paper's."""
    if line is None or math.isnan(line["paper_mean"]):
        return [Cell(NOTHING, published=True), Cell(NOTHING)]
    decimals = metric_style(metric).decimals
    half = (float(line["paper_high"]) - float(line["paper_low"])) / 2
    printed = Cell(number(float(line["paper_mean"]), half, decimals), published=True)
    if bool(line["incomplete"]):
        # A mean over some of the triplets cannot be compared with the paper's.
        return [printed, Cell(NOTHING, marks=INCOMPLETE_MARK)]
    text = signed(float(line["difference_to_paper"]), decimals)
    if line["overlaps"] is not None:
        text += f", {OVERLAP if line['overlaps'] else APART}"
    return [printed, Cell(text)]


def _rest_of_the_paper(reference: pd.DataFrame, metrics: list[str]) -> dict[str, tuple[Cell, ...]]:
    rows = {}
    for name, lines in reference.groupby("row", sort=False):
        numbers = {str(line.metric): (line.mean, line.half_width) for line in lines.itertuples()}
        cells = []
        for metric in metrics:
            decimals = metric_style(metric).decimals
            text = number(*numbers[metric], decimals) if metric in numbers else NOTHING
            cells += [Cell(NOTHING), Cell(text, published=True), Cell(NOTHING)]
        rows[str(name)] = tuple(cells)
    return rows
