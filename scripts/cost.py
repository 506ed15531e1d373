"""What a whole table costs in hours of a device, from rates that were measured.

    python scripts/cost.py [outputs/<run id> ...] [--rates FILE.csv] [--rows table1|measured]
                           [--triplets 10000] [--seeds 5]

A rate is the mean of a run's seconds per picture (a few hundred triplets on the device that is
meant are enough), or a line of a CSV with the columns model, ablation, seconds and device. The rows
are those of the paper's Table 1, or with `--rows measured` what the rates are of. A row without a
rate is "not measured" and in no sum; rates of different devices are not added up.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from profi.reports import paper_numbers
from profi.reports.names import RowKey, row_labels
from profi.stores.generations import read_generations
from profi.stores.parts import part_facts, part_indices
from profi.types import UserError

COLUMNS = ("model", "ablation", "seconds", "device")
NOT_MEASURED = "not measured"


class Rate(NamedTuple):
    """Seconds per picture of a row on a device, and how many pictures that is the mean of."""

    model: str
    ablation: str
    seconds: float
    device: str
    pictures: int | None = None


def rate_of(root: Path) -> Rate:
    """A finished or unfinished run's own rate; UserError for a folder that is no such run."""
    painted = root / "generations"
    settings = sorted((root / "settings").glob("*.json"), key=lambda path: path.stat().st_mtime)
    if not settings:
        raise UserError(f"{root} is no run's folder: give outputs/<run id>")
    asked = json.loads(settings[-1].read_text("utf-8"))
    seconds = [item.seconds for item in read_generations(painted)]
    if not seconds:
        raise UserError(f"{root} has no pictures yet: run stage=generate first")
    devices = {
        part_facts(painted, index).get("device", "unknown") for index in part_indices(painted)
    }
    if len(devices) > 1:
        raise UserError(f"{root} was painted on {', '.join(sorted(devices))}: measure on one")
    ablation = ablation_of(asked.get("method"))
    return Rate(asked["model"]["id"], ablation, fmean(seconds), devices.pop(), len(seconds))


def ablation_of(method: dict[str, object] | None) -> str:
    """The name of a composed method, as a run's settings hold it; of baselines there is none."""
    has = {part for part, value in (method or {}).items() if value is not None}
    if "vanilla" in has:
        return "vanilla_only"
    names = {(False, False): "base", (True, False): "painta_only", (False, True): "rasg_only"}
    return names.get(("painta" in has, "rasg" in has), "profi")


def rates_in(path: Path) -> Iterator[Rate]:
    """The lines of a CSV; UserError naming what is wrong in which."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{path} lacks the column {missing[0]}: it needs {COLUMNS}")
            for number, line in enumerate(reader, 2):
                try:
                    seconds = float(line["seconds"])
                except (TypeError, ValueError):
                    seconds = math.nan
                if not (seconds > 0 and math.isfinite(seconds)):
                    raise UserError(f"{path}, line {number}: seconds={line['seconds']} is no time")
                yield Rate(line["model"], line["ablation"], seconds, line["device"])
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def papers_rows() -> list[RowKey]:
    """The rows of the paper's Table 1."""
    printed = paper_numbers()
    printed = printed[printed["source"].str.endswith("Table 1")]
    return [
        RowKey(*key, "") for key in dict.fromkeys(zip(printed.model, printed.ablation, strict=True))
    ]


def cost_table(
    rates: Sequence[Rate], rows: Sequence[RowKey] | None, pictures: int
) -> list[tuple[str, str, str, str]]:
    """Lines of (row, seconds per picture, device, hours), the sums per device last.

    `rows` None: those that the rates are of. `pictures` is how many each row has.
    """
    measured: dict[tuple[str, str], list[Rate]] = {}
    for rate in rates:
        measured.setdefault((rate.model, rate.ablation), []).append(rate)
    keys = [RowKey(*key, "") for key in measured] if rows is None else list(rows)
    # Among the paper's rows, so that a label tells its model too.
    labels = row_labels([*papers_rows(), *keys])
    lines: list[tuple[str, str, str, str]] = []
    sums: dict[str, list[float]] = {}
    for key in sorted(keys, key=list(labels).index):
        label = labels[key]
        found = measured.get((key.model, key.ablation), [])
        if not found:
            lines.append((label, NOT_MEASURED, "", ""))
        for device in sorted({rate.device for rate in found}):
            seconds = fmean(rate.seconds for rate in found if rate.device == device)
            hours = seconds * pictures / 3600
            sums.setdefault(device, []).append(hours)
            lines.append((label, f"{seconds:.3f}", device, f"{hours:.1f}"))
    for device, hours_of_rows in sorted(sums.items()):
        told = f"{len(hours_of_rows)} of {len(keys)} rows"
        lines.append((told, "", device, f"{sum(hours_of_rows):.1f}"))
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the rates and print the table."""
    parser = argparse.ArgumentParser(description="hours of a whole table, from measured rates")
    parser.add_argument("runs", type=Path, nargs="*", help="outputs/<run id>")
    parser.add_argument("--rates", type=Path, help=f"a CSV with the columns {', '.join(COLUMNS)}")
    parser.add_argument("--rows", choices=("table1", "measured"), default="table1")
    parser.add_argument("--triplets", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args(arguments)
    rates = [rate_of(run) for run in options.runs]
    rates += rates_in(options.rates) if options.rates is not None else []
    rows = None if options.rows == "measured" else papers_rows()
    wanted = f"{options.triplets} x {options.seeds}"
    print(f"| row | seconds per picture | device | hours for {wanted} pictures |")
    print("|---|---|---|---|")
    for line in cost_table(rates, rows, options.triplets * options.seeds):
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
