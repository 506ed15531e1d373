"""How rows and metrics are called and ordered in print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple


class MetricStyle(NamedTuple):
    """How a metric is printed: name, decimals, the good end, and whether a sample is 100 or 0."""

    label: str
    decimals: int
    higher_is_better: bool = True
    hit_or_miss: bool = False


# The paper's columns first, in its order and precision (Table 2).
METRICS: Mapping[str, MetricStyle] = MappingProxyType(
    {
        "clip_score": MetricStyle("CLIP score", 2),
        "accuracy": MetricStyle("Accuracy, %", 2, hit_or_miss=True),
        "aesthetic": MetricStyle("Aesthetic score", 3),
        "known_region_psnr": MetricStyle("Known region, dB", 2),
        "known_region_lpips": MetricStyle("Known region, LPIPS", 4, higher_is_better=False),
        "pick_score": MetricStyle("PickScore", 3),
        "accuracy_mmdet": MetricStyle("Accuracy by RTMDet, %", 2, hit_or_miss=True),
        "accuracy_transformers": MetricStyle("Accuracy by transformers, %", 2, hit_or_miss=True),
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

# The paper's names of the models.
MODELS: Mapping[str, str] = MappingProxyType(
    {
        "Lykon/dreamshaper-8-inpainting": "DreamShaper 8",
        "stable-diffusion-v1-5/stable-diffusion-inpainting": "Stable 1.5",
        "sd2-community/stable-diffusion-2-inpainting": "Stable 2.0",
        "diffusers/stable-diffusion-xl-1.0-inpainting-0.1": "SDXL",
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


def base_of(row: RowKey, rows: Iterable[RowKey], base: str = "base") -> RowKey | None:
    """What `row` is compared with: the base of its model and reading.

    Where that reading has no base, the model's only one (the base uses neither mechanism, so a
    reading may leave it as it is); None where there is none, or `row` is one itself.
    """
    bases = [item for item in rows if item.model == row.model and item.ablation == base]
    same = [item for item in bases if item.reading == row.reading]
    if row.ablation == base or (not same and len(bases) != 1):
        return None
    return (same or bases)[0]


def row_labels(rows: Iterable[RowKey]) -> dict[RowKey, str]:
    """The paper's row names, in order; model and reading are added where they differ."""
    ordered = ordered_rows(rows)
    many_models = len({row.model for row in ordered}) > 1
    many_readings = len({row.reading for row in ordered}) > 1
    labels = {}
    for row in ordered:
        label = ABLATIONS.get(row.ablation, row.ablation)
        if many_models:
            label = f"{MODELS.get(row.model, row.model)}: {label}"
        if many_readings:
            label = f"{label} ({row.reading})"
        labels[row] = label
    return labels


def _rank(name: str, order: Mapping[str, object]) -> int:
    names = list(order)
    return names.index(name) if name in names else len(names)
