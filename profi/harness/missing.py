"""What the runs of a table still lack, and the commands that make it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from profi.harness.run_status import Absent, Entry, RunStatus
from profi.reports import Missing
from profi.reports.names import RowKey, row_labels

#: Settings that the commands replace.
_REPLACED = ("stage", "shard", "ablation", "ablations", "seed", "seeds")


@dataclass(frozen=True)
class Gap:
    """What one run lacks: unpainted images, and per metric unscored images."""

    key: RowKey
    seed: int
    n_expected: int
    n_unpainted: int
    n_unscored: Mapping[str, int]


def gaps(
    statuses: Mapping[Entry, RunStatus],
    absent: Sequence[Absent],
    scores: pd.DataFrame,
    metrics: Sequence[str],
) -> list[Gap]:
    """The runs that lack something, in the table's order."""
    counted = scores.groupby(["run_id", "ablation", "reading", "metric"]).size().to_dict()
    found = []
    for entry, status in statuses.items():
        run = (entry.run.run_id, entry.ablation, entry.reading)
        painted = len(status.triplets) - status.n_missing
        lacking = {metric: painted - counted.get((*run, metric), 0) for metric in metrics}
        unscored = {metric: count for metric, count in lacking.items() if count > 0}
        if status.n_missing or unscored:
            n_expected = len(status.triplets)
            found.append(Gap(entry.key, entry.seed, n_expected, status.n_missing, unscored))
    n_expected = max((len(status.triplets) for status in statuses.values()), default=0)
    found += [Gap(item.key, item.seed, n_expected, n_expected, {}) for item in absent]
    order = list(row_labels(gap.key for gap in found))
    return sorted(found, key=lambda gap: (order.index(gap.key), gap.seed))


def missing_lines(
    found: Sequence[Gap],
    labels: Mapping[RowKey, str],
    overrides: Sequence[str],
    models: Mapping[str, str],
) -> Missing:
    """A line per gap, and the commands that fill the gaps.

    Args:
        found: see `gaps`.
        labels: the rows' printed names.
        overrides: of the command that made the report (`stage=report experiment=table2`).
        models: for a table of several models, a model's id to its option (`model=sd15`); else
            empty.
    """
    lines = []
    for gap in found:
        parts = []
        if gap.n_unpainted:
            parts.append(f"{gap.n_unpainted} of {gap.n_expected} images are not painted")
        parts += [f"{count} images have no {metric}" for metric, count in gap.n_unscored.items()]
        lines.append(f"{labels[gap.key]}, seed {gap.seed}: {', '.join(parts)}")
    commands = []
    for stage, chosen in (
        ("generate", [gap for gap in found if gap.n_unpainted]),
        ("score", list(found)),
    ):
        commands += [
            _command(overrides, models.get(model), ablations, seeds, stage)
            for model, ablations, seeds in _products(chosen)
        ]
    if commands:
        kept = [text for text in overrides if _key(text) not in ("stage", "shard")]
        commands.append(shlex.join(["python", "run.py", *kept, "stage=report"]))
    return Missing(lines, commands)


def _products(found: Sequence[Gap]) -> list[tuple[str, list[str], list[int]]]:
    """The gaps as products (model, ablations, seeds): ablations with equal seeds together."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for gap in found:
        seeds.setdefault((gap.key.model, gap.key.ablation), []).append(gap.seed)
    together: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for (model, ablation), numbers in seeds.items():
        together.setdefault((model, tuple(sorted(set(numbers)))), []).append(ablation)
    return [(model, names, list(numbers)) for (model, numbers), names in together.items()]


def _command(
    overrides: Sequence[str],
    model: str | None,
    ablations: Sequence[str],
    seeds: Sequence[int],
    stage: str,
) -> str:
    kept = [text for text in overrides if _key(text) not in _REPLACED]
    chosen = [] if model is None else [f"model={model}"]
    narrowed = [
        f"ablations=[{','.join(ablations)}]",
        f"seeds=[{','.join(map(str, seeds))}]",
        f"stage={stage}",
    ]
    return shlex.join(["python", "run.py", *kept, *chosen, *narrowed])


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]
