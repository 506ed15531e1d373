"""How SmartBrush is trained: what its paper says, and our choice wherever it says nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from profi.settings.fields import setting
from profi.training.loop import LARGEST, Plan
from profi.types import UserError


def _with_default(name: str, default: float) -> Any:
    """A setting of `Plan` with another default."""
    return field(default=default, metadata=Plan.__dataclass_fields__[name].metadata)


@dataclass(frozen=True)
class Recipe(Plan):
    """The settings of a SmartBrush training; docs/smartbrush.md gives each one's reason.

    `inpainting` and `dice_weight` are published (Xie et al. 2023 and the ProFI-Painter paper's
    summary of it); all others are our choice.
    """

    steps: int = _with_default("steps", 50_000)
    batch: int = _with_default("batch", 8)
    rate: float = _with_default("rate", 1e-5)
    warmup: int = _with_default("warmup", 1_000)
    decay: float = _with_default("decay", 0.2)
    ema: float = _with_default("ema", 0.9999)
    inpainting: float = setting(
        0.8, "share of inpainted samples; the others are text-to-image", at_least=0, at_most=1
    )
    dice_weight: float = setting(
        0.01, "of the mask prediction's DICE term", at_least=0, at_most=LARGEST
    )
    blurs: tuple[float, ...] = setting(
        (0.02, 0.06, 0.15),
        "sigmas of the blurs of precision levels 1 to S - 1, in shares of the longer side of the "
        "object's box; level 0 is the exact mask and level S the box",
    )
    threshold: float = setting(0.1, "a blurred mask above it is mask", at_least=0, at_most=1)
    captions: float = setting(
        0.5,
        "share of the inpainted samples with a caption of the crop; the others have the label",
        at_least=0,
        at_most=1,
    )
    drop_text: float = setting(
        0.1, "share of samples without a text, for guidance", at_least=0, at_most=1
    )
    seed: int = setting(0, "of everything random", at_least=0, at_most=LARGEST)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.threshold < 1.0:
            raise UserError(f"threshold={self.threshold}: between 0 and 1")
        if any(not (b > 0 and math.isfinite(b)) for b in self.blurs):
            raise UserError(f"blurs={','.join(map(str, self.blurs))}: shares above 0, by commas")
        if list(self.blurs) != sorted(self.blurs):
            raise UserError(f"blurs={','.join(map(str, self.blurs))}: from small to large")

    @property
    def coarsest(self) -> int:
        """S, the precision level of the box."""
        return len(self.blurs) + 1
