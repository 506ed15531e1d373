"""Readings: every choice where the printed paper and the authors' released code differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import get_args

from profi.attention.painta import Active, Query, Smoothing
from profi.diffusion.schedule import SigmaFormula
from profi.guidance.objectives import Reduction
from profi.inpainters.masks import MaskResizing
from profi.types import UserError


@dataclass(frozen=True)
class Reading:
    """One value per choice; any can be changed by itself with `dataclasses.replace`.

    Fields:
        mask_resizing: how masks get to the sizes of the latents and the attention (`masks.py`).
        query, smoothing, active: of PAIntA (`PAIntASettings`).
        offset, reduction: of RASG's objective (`bce_objective`).
        sigma, eta: of eq. 11 (`sigma_schedule`).
    """

    name: str
    mask_resizing: MaskResizing
    query: Query
    smoothing: Smoothing
    active: Active
    offset: float
    reduction: Reduction
    sigma: SigmaFormula
    eta: float

    def __post_init__(self) -> None:
        for field, choices in (
            ("mask_resizing", MaskResizing),
            ("query", Query),
            ("smoothing", Smoothing),
            ("active", Active),
            ("reduction", Reduction),
            ("sigma", SigmaFormula),
        ):
            _check_choice(field, getattr(self, field), get_args(choices))


def _check_choice(field: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"reading.{field}={value} is unknown; choose {' or '.join(choices)}")


PAPER = Reading(
    name="paper",
    mask_resizing="nearest",
    query="block_input",
    smoothing="none",
    active="first_half",
    offset=0.0,
    reduction="sum",
    sigma="cumulative",
    eta=0.15,
)

RELEASED = Reading(
    name="released",
    mask_resizing="pil_bicubic",
    query="after_self_attention",
    smoothing="gaussian",
    active="t_above_500",
    offset=1.0,
    reduction="mean",
    sigma="per_step",
    eta=0.25,
)

READINGS: Mapping[str, Reading] = MappingProxyType({r.name: r for r in (PAPER, RELEASED)})
