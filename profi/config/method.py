"""The method: which modules are on, how the paper is read, how the diffusion is sampled."""

from __future__ import annotations

from dataclasses import dataclass

from profi.config.fields import check_fields, choice, number
from profi.types import ABLATIONS, UserError


@dataclass
class AblationConfig:
    """Which of the paper's two modules are on: a row of Table 2."""

    name: str = "profi"

    def __post_init__(self) -> None:
        canonical_ablation("ablation.name", self.name)


def canonical_ablation(key: str, name: str) -> str:
    """The one spelling of an ablation's name; `UserError` naming `key` for an unknown one."""
    if name not in ABLATIONS:
        raise UserError(f"{key}={name}: choose one of {', '.join(ABLATIONS)}")
    return ABLATIONS[name]


@dataclass
class ReadingConfig:
    """Every choice where the paper's text and the authors' released code differ.

    The fields are those of `profi.inpainters.readings.Reading`, which says what each one means;
    `name` labels the bundle that the values started from.
    """

    name: str = choice("paper", "released")
    mask_resizing: str = choice("nearest", "pil_bicubic")
    masked_image: str = choice("given", "as_resized")
    query: str = choice("block_input", "after_self_attention")
    smoothing: str = choice("none", "zero_padded_3x3")
    active: str = choice("first_half", "t_above_500")
    c_gradient: str = choice("flows", "stops")
    offset: float = 0.0
    reduction: str = choice("sum", "mean")
    vanished_mask: str = choice("unguided", "literal")
    sigma: str = choice("cumulative", "per_step")
    eta: float = number(0.15, at_least=0)

    def __post_init__(self) -> None:
        check_fields("reading", self)


@dataclass
class RASGConfig:
    """What may be chosen of RASG beside its reading.

    `every` and `until`: RASG in every n-th step of the first share `until` of the steps.
    `objective`: eq. 10 (bce) or eq. 13 (max_attention), for `vanilla_only` too.
    """

    every: int = number(1, at_least=1)
    until: float = number(1.0, at_least=0, at_most=1)
    objective: str = choice("bce", "max_attention")

    def __post_init__(self) -> None:
        check_fields("rasg", self)


@dataclass
class VanillaConfig:
    """The vanilla guidance that fig. 8 compares RASG with: `scale` is s of eq. 6."""

    scale: float = number(1000.0, at_least=0)

    def __post_init__(self) -> None:
        check_fields("vanilla", self)


@dataclass
class SamplingConfig:
    """How the diffusion is sampled (eq. 11's eta is a choice of the reading: `reading.eta`).

    `positive_prompt` is appended to every prompt, `negative_prompt` replaces the empty one.
    """

    num_inference_steps: int = number(50, at_least=1)
    guidance_scale: float = number(7.5, at_least=0)
    output: str = choice("unblended", "blended")
    positive_prompt: str = ""
    negative_prompt: str = ""

    def __post_init__(self) -> None:
        check_fields("sampling", self)
