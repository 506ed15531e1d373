"""What the runs of a table still lack, and the commands that make just that."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from profi.harness.run_status import Absent, Entry, Survey
from profi.reports import Missing
from profi.reports.names import RowKey, row_labels

#: What a narrower command says anew.
_REPLACED = ("stage", "shard", "ablation", "ablations", "seed", "seeds")


@dataclass(frozen=True)
class Gap:
    """What one run lacks: images not painted, and per metric painted images not scored."""

    key: RowKey
    seed: int
    n_wanted: int
    n_unpainted: int
    n_unscored: Mapping[str, int]


def gaps(
    surveys: Mapping[Entry, Survey],
    absent: Sequence[Absent],
    scores: pd.DataFrame,
    metrics: Sequence[str],
) -> list[Gap]:
    """The runs that lack something, in the table's order."""
    counted = scores.groupby(["run_id", "ablation", "reading", "metric"]).size().to_dict()
    found = []
    for entry, surveyed in surveys.items():
        run = (entry.run.run_id, entry.ablation, entry.reading)
        painted = len(surveyed.triplets) - surveyed.n_missing
        lacking = {metric: painted - counted.get((*run, metric), 0) for metric in metrics}
        unscored = {metric: count for metric, count in lacking.items() if count > 0}
        if surveyed.n_missing or unscored:
            n_wanted = len(surveyed.triplets)
            found.append(Gap(entry.key, entry.seed, n_wanted, surveyed.n_missing, unscored))
    n_wanted = max((len(surveyed.triplets) for surveyed in surveys.values()), default=0)
    found += [Gap(item.key, item.seed, n_wanted, n_wanted, {}) for item in absent]
    order = list(row_labels(gap.key for gap in found))
    return sorted(found, key=lambda gap: (order.index(gap.key), gap.seed))


def tell(
    found: Sequence[Gap],
    labels: Mapping[RowKey, str],
    overrides: Sequence[str],
    models: Mapping[str, str],
) -> Missing:
    """The gaps in words, and the commands.

    Args:
        found: see `gaps`.
        labels: the rows' printed names.
        overrides: of the command that asked for the report (`stage=report experiment=table2`).
        models: of a table of several models, a model's id to its option (`model=sd15`); else empty.
    """
    lines = []
    for gap in found:
        parts = []
        if gap.n_unpainted:
            parts.append(f"{gap.n_unpainted} of {gap.n_wanted} images are not painted")
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
    """(model, ablations, seeds) whose products are the gaps: ablations of equal seeds together."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for gap in found:
        seeds.setdefault((gap.key.model, gap.key.ablation), []).append(gap.seed)
    together: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for (model, ablation), wanted in seeds.items():
        together.setdefault((model, tuple(sorted(set(wanted)))), []).append(ablation)
    return [(model, names, list(wanted)) for (model, wanted), names in together.items()]


def _command(
    overrides: Sequence[str],
    model: str | None,
    ablations: Sequence[str],
    seeds: Sequence[int],
    stage: str,
) -> str:
    kept = [text for text in overrides if _key(text) not in _REPLACED]
    one_model = [] if model is None else [f"model={model}"]
    narrowed = [
        f"ablations=[{','.join(ablations)}]",
        f"seeds=[{','.join(map(str, seeds))}]",
        f"stage={stage}",
    ]
    return shlex.join(["python", "run.py", *kept, *one_model, *narrowed])


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]
