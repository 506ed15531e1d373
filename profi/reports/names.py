"""How rows and metrics are called and ordered in print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple


class MetricStyle(NamedTuple):
    """A metric's printed name, its decimals and which end is the good one."""

    label: str
    decimals: int
    higher_is_better: bool = True


# The paper's columns first, in its order and precision (Table 2).
METRICS: Mapping[str, MetricStyle] = MappingProxyType(
    {
        "clip_score": MetricStyle("CLIP score", 2),
        "accuracy": MetricStyle("Accuracy, %", 2),
        "aesthetic": MetricStyle("Aesthetic score", 3),
        "known_region_psnr": MetricStyle("Known region, dB", 2),
        "known_region_lpips": MetricStyle("Known region, LPIPS", 4, higher_is_better=False),
        "pick_score": MetricStyle("PickScore", 3),
        "accuracy_mmdet": MetricStyle("Accuracy by RTMDet, %", 2),
        "accuracy_transformers": MetricStyle("Accuracy by transformers, %", 2),
    }
)

# The paper's rows, in its order.
ABLATIONS: Mapping[str, str] = MappingProxyType(
    {
        "base": "base",
        "painta_only": "only PAIntA",
        "rasg_only": "only RASG",
        "profi": "RASG & PAIntA",
        "vanilla_only": "only vanilla guidance",
    }
)


class RowKey(NamedTuple):
    """What identifies a row of a table."""

    model: str
    ablation: str
    reading: str


def metric_style(metric: str) -> MetricStyle:
    """The style of `metric`; an unknown one is printed by its own name."""
    return METRICS.get(metric, MetricStyle(metric, 3))


def ordered_metrics(metrics: Iterable[str]) -> list[str]:
    """Known metrics in the paper's order, then others by name."""
    return sorted(set(metrics), key=lambda metric: (_rank(metric, METRICS), metric))


def ordered_rows(rows: Iterable[RowKey]) -> list[RowKey]:
    """By model, then reading, then the paper's order of ablations."""
    return sorted(
        set(rows),
        key=lambda row: (row.model, row.reading, _rank(row.ablation, ABLATIONS), row.ablation),
    )


def row_labels(rows: Iterable[RowKey]) -> dict[RowKey, str]:
    """The paper's row names, in order; model and reading are added where they differ."""
    ordered = ordered_rows(rows)
    many_models = len({row.model for row in ordered}) > 1
    many_readings = len({row.reading for row in ordered}) > 1
    labels = {}
    for row in ordered:
        label = ABLATIONS.get(row.ablation, row.ablation)
        if many_models:
            label = f"{row.model}: {label}"
        if many_readings:
            label = f"{label} ({row.reading})"
        labels[row] = label
    return labels


def _rank(name: str, order: Mapping[str, object]) -> int:
    names = list(order)
    return names.index(name) if name in names else len(names)
