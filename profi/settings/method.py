"""The settings of the methods and of the sampling, and the readings of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from profi.catalogue import catalogue
from profi.settings.fields import bundle_of, check_fields, differing, setting
from profi.types import check_text

MaskResizing = Literal["nearest", "pil_bicubic"]
MaskedImage = Literal["given", "as_resized"]
Query = Literal["block_input", "after_self_attention"]
Smoothing = Literal["none", "zero_padded_3x3"]
Active = Literal["first_half", "t_above_500"]
CGradient = Literal["flows", "stops"]
Reduction = Literal["sum", "mean"]
VanishedMask = Literal["unguided", "literal"]
SigmaFormula = Literal["cumulative", "per_step"]

#: The reading when none is given.
DEFAULT_READING = "released"


@dataclass(frozen=True)
class Reading:
    """One value per choice, by default what the paper prints.

    Change any of them with `dataclasses.replace`, or on the command line:
    `reading=released reading.eta=0.1`.
    """

    name: Literal["paper", "released"] = setting(
        "paper", "label: the set of values that the changes start from"
    )
    mask_resizing: MaskResizing = setting(
        "nearest", "how masks are resized for the latents and the attention (method/level_masks.py)"
    )
    masked_image: MaskedImage = setting(
        "given", "the mask that blanks the image for the VAE: the given one or the resized one"
    )
    query: Query = setting(
        "block_input",
        "input of PAIntA's query for c: the block's input X, or X plus the output of the plain "
        "self-attention",
    )
    smoothing: Smoothing = setting(
        "none", "smoothing of PAIntA's c before it is normalised: none, or the released 3x3 filter"
    )
    active: Active = setting(
        "first_half", "the steps in which PAIntA works: the first half, or those with t > 500"
    )
    c_gradient: CGradient = setting("flows", "whether RASG's gradient flows through PAIntA's c")
    offset: float = setting(0.0, "offset subtracted from the logits in eq. 10")
    reduction: Reduction = setting("sum", "reduction over the pixels in eq. 10")
    vanished_mask: VanishedMask = setting(
        "unguided",
        "when no masked cell is left at the objective's level. unguided: no gradient. literal: "
        "eq. 10 as printed, which lowers attention to the prompt everywhere",
    )
    sigma: SigmaFormula = setting(
        "cumulative", "the alphas in eq. 11: cumulative, or per training step"
    )
    eta: float = setting(0.15, "eta of eq. 11", at_least=0)

    def __post_init__(self) -> None:
        check_fields("reading", self)

    @property
    def changes(self) -> dict[str, object]:
        """The values that differ from those of the named reading."""
        return differing(self, READINGS[self.name])


PAPER = Reading()
RELEASED = Reading(
    name="released",
    mask_resizing="pil_bicubic",
    masked_image="as_resized",
    query="after_self_attention",
    smoothing="zero_padded_3x3",
    active="t_above_500",
    offset=1.0,
    reduction="mean",
    vanished_mask="literal",
    sigma="per_step",
    eta=0.25,
)
READINGS: Mapping[str, Reading] = MappingProxyType({r.name: r for r in (PAPER, RELEASED)})


def reading_of(chosen: str | Reading) -> Reading:
    """The reading of a name; a reading is returned as it is; UserError for an unknown name."""
    found: Reading = bundle_of("reading", chosen, READINGS)
    return found


Objective = Literal["bce", "max_attention"]
Output = Literal["unblended", "blended", "softly_blended"]


@dataclass(frozen=True)
class AblationConfig:
    """The method, a row of Table 2."""

    name: str = setting("profi", "base, painta_only, rasg_only, profi, or another of the catalogue")

    def __post_init__(self) -> None:
        catalogue.methods.get(self.name, "ablation.name")


@dataclass(frozen=True)
class RASGSettings:
    """Settings of RASG that are not part of the reading (the paper mentions them in sec. 4.1)."""

    every: int = setting(1, "RASG works in every n-th step; the others use eq. 4", at_least=1)
    until: float = setting(
        1.0, "RASG works only in this first share of the steps", at_least=0, at_most=1
    )
    objective: Objective = setting(
        "bce", "S: eq. 10 (bce) or eq. 13 (max_attention); also for vanilla_only"
    )

    def __post_init__(self) -> None:
        check_fields("rasg", self)


@dataclass(frozen=True)
class VanillaSettings:
    """Settings of vanilla guidance (fig. 8 compares RASG with it)."""

    scale: float = setting(1000.0, "s of eq. 6 (0, 100, 1000, 10000 in fig. 8)", at_least=0)

    def __post_init__(self) -> None:
        check_fields("vanilla", self)


@dataclass(frozen=True)
class Sampling:
    """How the diffusion is sampled; the defaults are the paper's evaluation."""

    num_inference_steps: int = setting(50, "DDIM steps", at_least=1)
    guidance_scale: float = setting(
        7.5, "scale of classifier-free guidance; up to 1 the prompt's branch alone runs", at_least=0
    )
    output: Output = setting(
        "unblended",
        "unblended: the decoded picture. blended: with the given pixels outside the mask. "
        "softly_blended: with the mask softened by BrushBench's 21x21 Gaussian (sigma 3.5), on "
        "both sides of its edge",
    )
    positive_prompt: str = setting("", "appended to every prompt")
    negative_prompt: str = setting("", "replaces the empty unconditional text")

    def __post_init__(self) -> None:
        check_fields("sampling", self)
        for name in ("positive_prompt", "negative_prompt"):
            check_text(f"sampling.{name}", getattr(self, name))
