"""The settings of the methods and of the sampling, without the reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from profi.catalogue import catalogue
from profi.settings.fields import check_fields, setting
from profi.types import check_text

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
