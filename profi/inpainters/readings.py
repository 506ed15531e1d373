"""Readings: every choice where the printed paper and the authors' released code differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import get_args

from profi.attention.painta import Active, CGradient, Query, Smoothing
from profi.diffusion.schedule import SigmaFormula
from profi.guidance.attention_objective import VanishedMask
from profi.guidance.objectives import Reduction
from profi.inpainters.masks import MaskedImage, MaskResizing
from profi.types import UserError


@dataclass(frozen=True)
class Reading:
    """One value per choice; any can be changed by itself with `dataclasses.replace`.

    Fields:
        mask_resizing: how masks get to the sizes of the latents and the attention (`masks.py`).
        masked_image: which mask blanks the image out for the VAE (`masks.py`).
        query, smoothing, active, c_gradient: of PAIntA (`PAIntASettings`).
        offset, reduction, vanished_mask: of the objective S (`ObjectiveSettings`).
        sigma, eta: of eq. 11 (`sigma_schedule`).
    """

    name: str
    mask_resizing: MaskResizing
    masked_image: MaskedImage
    query: Query
    smoothing: Smoothing
    active: Active
    c_gradient: CGradient
    offset: float
    reduction: Reduction
    vanished_mask: VanishedMask
    sigma: SigmaFormula
    eta: float

    def __post_init__(self) -> None:
        for field, choices in (
            ("mask_resizing", MaskResizing),
            ("masked_image", MaskedImage),
            ("query", Query),
            ("smoothing", Smoothing),
            ("active", Active),
            ("c_gradient", CGradient),
            ("vanished_mask", VanishedMask),
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
    masked_image="given",
    query="block_input",
    smoothing="none",
    active="first_half",
    c_gradient="flows",
    offset=0.0,
    reduction="sum",
    vanished_mask="unguided",
    sigma="cumulative",
    eta=0.15,
)

RELEASED = Reading(
    name="released",
    mask_resizing="pil_bicubic",
    masked_image="as_resized",
    query="after_self_attention",
    smoothing="zero_padded_3x3",
    active="t_above_500",
    c_gradient="flows",
    offset=1.0,
    reduction="mean",
    vanished_mask="literal",
    sigma="per_step",
    eta=0.25,
)

READINGS: Mapping[str, Reading] = MappingProxyType({r.name: r for r in (PAPER, RELEASED)})
