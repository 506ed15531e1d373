"""Printed names and order of rows and metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from profi.catalogue import MetricEntry, catalogue

# The paper's names of the models.
MODELS: Mapping[str, str] = MappingProxyType(
    {
        "Lykon/dreamshaper-8-inpainting": "DreamShaper 8",
        "stable-diffusion-v1-5/stable-diffusion-inpainting": "Stable 1.5",
        "sd2-community/stable-diffusion-2-inpainting": "Stable 2.0",
        "diffusers/stable-diffusion-xl-1.0-inpainting-0.1": "SDXL",
    }
)


# The rows of the paper's Table 1, in its order; then those of the mini model.
ROWS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("glide", "base"): "GLIDE",
        ("bld", "base"): "BLD",
        ("sdxl_inpainting", "base"): "SDXL Inpainting",
        ("controlnet", "base"): "DreamShaper-ControlNet",
        ("smartbrush", "base"): "SmartBrush reprod.",
        ("stable-diffusion-v1-5/stable-diffusion-inpainting", "base"): "Stable 1.5 Inpainting",
        ("sd2-community/stable-diffusion-2-inpainting", "base"): "Stable 2.0 Inpainting",
        ("Lykon/dreamshaper-8-inpainting", "base"): "DreamShaper Inpainting",
        (
            "stable-diffusion-v1-5/stable-diffusion-inpainting",
            "profi",
        ): "Stable 1.5 + ProFI Painter",
        ("sd2-community/stable-diffusion-2-inpainting", "profi"): "Stable 2.0 + ProFI Painter",
        ("Lykon/dreamshaper-8-inpainting", "profi"): "DreamShaper 8 + ProFI Painter",
        ("mini-bld", "base"): "Mini BLD",
        ("mini-controlnet", "base"): "Mini ControlNet",
        ("mini-smartbrush", "base"): "Mini SmartBrush",
        ("profi-mini", "base"): "Mini Inpainting",
        ("profi-mini", "profi"): "Mini + ProFI Painter",
    }
)


class RowKey(NamedTuple):
    """Identifies a row of a table."""

    model: str
    ablation: str
    reading: str


def metric_style(metric: str) -> MetricEntry:
    """How a metric is printed; an unknown metric has its own name as label."""
    known = metric in catalogue.metrics.names()
    return catalogue.metrics.get(metric) if known else MetricEntry(metric, "", metric)


def ordered_metrics(metrics: Iterable[str]) -> list[str]:
    """Known metrics in the paper's order, then the others by name."""
    return sorted(set(metrics), key=lambda metric: (catalogue.metrics.rank(metric), metric))


def ordered_rows(rows: Iterable[RowKey]) -> list[RowKey]:
    """Rows of several models in Table 1's order; of one model by reading and ablation."""
    rows = set(rows)
    of_models = ROWS if len({row.model for row in rows}) > 1 else {}

    def place(row: RowKey) -> tuple[object, ...]:
        ablation = (catalogue.methods.rank(row.ablation), row.ablation)
        return _rank((row.model, row.ablation), of_models), row.model, row.reading, ablation

    return sorted(rows, key=place)


def base_of(row: RowKey, rows: Iterable[RowKey], base: str = "base") -> RowKey | None:
    """The base of a row: the base of the same model and reading.

    If this reading has no base, the model's only base (it uses neither PAIntA nor RASG, so a
    reading may not change it). None if there is no such base, or `row` is a base.
    """
    bases = [item for item in rows if item.model == row.model and item.ablation == base]
    same = [item for item in bases if item.reading == row.reading]
    if row.ablation == base or (not same and len(bases) != 1):
        return None
    return (same or bases)[0]


def row_labels(rows: Iterable[RowKey]) -> dict[RowKey, str]:
    """The rows' names in order: Table 1's for several models, Table 2's for one.

    Rows that the paper does not have are named by model and ablation. Readings are added if they
    differ.
    """
    ordered = ordered_rows(rows)
    many_models = len({row.model for row in ordered}) > 1
    many_readings = len({row.reading for row in ordered}) > 1
    labels = {}
    for row in ordered:
        label = catalogue.methods.label(row.ablation)
        if many_models:
            default = f"{MODELS.get(row.model, row.model)}: {label}"
            label = ROWS.get((row.model, row.ablation), default)
        if many_readings:
            label = f"{label} ({row.reading})"
        labels[row] = label
    return labels


def _rank(name: object, order: Mapping[Any, object]) -> int:
    names = list(order)
    return names.index(name) if name in names else len(names)
