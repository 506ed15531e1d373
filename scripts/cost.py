"""What painting a whole table costs in hours of a device, from rates that were measured.

    python scripts/cost.py [outputs/<run id> ...] [--rates FILE.csv] [--rows table1|measured]
                           [--triplets 10000] [--seeds 5]

A rate is the mean of a run's seconds per picture (a few hundred triplets on the device that is
meant are enough), or a line of a CSV with the columns model, ablation, seconds and device. The rows
are those of the paper's Table 1, or with `--rows measured` what the rates are of. A row without a
rate is "not measured" and in no sum; rates of different devices are not added up.

Painting alone is counted: no loading of models, no scoring, no report. Runs of a row on one device
must be of the same settings, but for the seed and which pictures; a rate of another number of steps
than the table's is marked. What a line of the CSV was measured with is not known.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from profi.reports import paper_numbers
from profi.reports.names import RowKey, row_labels
from profi.settings import ModelConfig, Sampling
from profi.store.generations import read_generations
from profi.store.parts import part_facts, part_indices
from profi.types import UserError

COLUMNS = ("model", "ablation", "seconds", "device")
NOT_MEASURED = "not measured"
SAMPLING_STEPS, GLIDE_STEPS = "sampling.num_inference_steps", "model.glide."
#: What of a model takes no time of its own: where it lies, its name and what it logs.
TIMELESS = (".path", ".sha256", ".id", ".unet", ".device", "_prompt")


class Rate(NamedTuple):
    """Seconds per picture of a row on a device.

    `source` is where it is from; `settings` are those that take time, None where not known.
    """

    model: str
    ablation: str
    seconds: float
    device: str
    source: str = ""
    settings: Mapping[str, Any] | None = None


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
    method = asked.get("method") or {"name": "base"}
    if "name" not in method:
        raise UserError(f"{root} was painted by an older version: paint it again")
    # What is as usual is not recorded.
    model = asked["model"].get("id", ModelConfig().id)
    settings = timed_settings(asked)
    return Rate(model, method["name"], fmean(seconds), devices.pop(), str(root), settings)


def timed_settings(asked: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings that its time may depend on, by their names on the command line.

    What a run's settings lack is as usual.
    """
    chosen = {part: asked.get(part) or {} for part in ("model", "sampling", "method")}
    settings = {**usual_settings(), **flat(chosen)}
    if settings["model.inpainter"] == "glide":
        # Its own section says how it is sampled.
        settings = {key: v for key, v in settings.items() if not key.startswith("sampling.")}
    return {key: value for key, value in settings.items() if not key.endswith(TIMELESS)}


def usual_settings() -> dict[str, Any]:
    """The defaults of a model's settings and of the sampling's."""
    return flat({"model": asdict(ModelConfig()), "sampling": asdict(Sampling())})


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested sections as one, `{"a": {"b": 1}}` as `{"a.b": 1}`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= (
            flat(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
        )
    return found


def check_alike(rates: Sequence[Rate]) -> None:
    """UserError naming what differs between two rates of one row, which have no mean then."""
    first = rates[0]
    for other in rates[1:]:
        both = f"{first.source} and {other.source} are both of {other.model} {other.ablation}"
        if (first.settings is None) != (other.settings is None):
            raise UserError(f"{both}, and of one the settings are not known: give one of them")
        a, b = first.settings or {}, other.settings or {}
        for key in sorted({*a, *b}):
            if a.get(key) != b.get(key):
                raise UserError(
                    f"{both} but differ in {key} ({a.get(key)} and {b.get(key)}): "
                    "give runs of the same settings"
                )


def unusual_steps(rate: Rate) -> str:
    """` (num_inference_steps=2)` of a rate that is not of the table's steps, else nothing."""
    settings = rate.settings or {}
    own = settings.get("model.inpainter") == "glide"
    keys = [f"{GLIDE_STEPS}{part}_steps" for part in ("base", "upsampler")]
    usual = usual_settings()
    texts = [
        f"{key.rpartition('.')[2]}={settings[key]}"
        for key in (keys if own else [SAMPLING_STEPS])
        if key in settings and settings[key] != usual[key]
    ]
    return f" ({', '.join(texts)})" if texts else ""


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
                source = f"{path}, line {number},"
                yield Rate(line["model"], line["ablation"], seconds, line["device"], source)
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

    `rows` None: those that the rates are of. `pictures` is how many each row has. Raises UserError
    for rates of one row and device that are of different settings.
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
            alike = [rate for rate in found if rate.device == device]
            check_alike(alike)
            seconds = fmean(rate.seconds for rate in alike)
            hours = seconds * pictures / 3600
            sums.setdefault(device, []).append(hours)
            marked = label + unusual_steps(alike[0])
            lines.append((marked, f"{seconds:.3f}", device, f"{hours:.1f}"))
    for device, hours_of_rows in sorted(sums.items()):
        texts = f"{len(hours_of_rows)} of {len(keys)} rows"
        lines.append((texts, "", device, f"{sum(hours_of_rows):.1f}"))
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the rates and print the table."""
    parser = argparse.ArgumentParser(description="hours of painting a whole table, from rates")
    parser.add_argument("runs", type=Path, nargs="*", help="outputs/<run id>")
    parser.add_argument("--rates", type=Path, help=f"a CSV with the columns {', '.join(COLUMNS)}")
    parser.add_argument("--rows", choices=("table1", "measured"), default="table1")
    parser.add_argument("--triplets", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args(arguments)
    for name in ("triplets", "seeds"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name}={getattr(options, name)}: at least 1")
    rates = [rate_of(run) for run in options.runs]
    rates += rates_in(options.rates) if options.rates is not None else []
    rows = None if options.rows == "measured" else papers_rows()
    pictures = f"{options.triplets} x {options.seeds}"
    # Before anything is printed: it may refuse.
    lines = cost_table(rates, rows, options.triplets * options.seeds)
    print(f"| row | seconds per picture | device | hours of painting {pictures} pictures |")
    print("|---|---|---|---|")
    for line in lines:
        print("| " + " | ".join(line) + " |")
    print("\nPainting alone, without loading the models and scoring.")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
