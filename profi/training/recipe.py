"""How SmartBrush is trained: what its paper says, and our choice wherever it says nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from profi.types import UserError

#: AdamW's. The second is less than the usual 0.999: it forgets a gradient's size after 100
#: updates, so that the embedded world's short training is not ruled by its first, largest ones.
BETAS = (0.9, 0.99)
#: Of a setting: beyond, the optimizer's own arithmetic leaves float32.
LARGEST = 1e30


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run; docs/smartbrush.md gives each one's reason.

    Published (Xie et al. 2023 and the ProFI-Painter paper's summary of it):
        inpainting: share of the samples that are inpainted; the others are text-to-image.
        dice_weight: of the mask prediction's DICE term beside the diffusion loss.

    Not published, chosen by us:
        blurs: sigma of the Gaussian blur of precision levels 1 to S - 1, in shares of the longer
            side of the object's box. Level 0 is the exact mask, level S = len(blurs) + 1 the box.
        threshold: above which a blurred mask is mask.
        captions: share of the inpainted samples whose text is a caption of the crop; the others'
            is the label.
        drop_text: share of all samples trained without a text, for classifier-free guidance.
        steps: updates of the weights, in all.
        batch: samples per process and forward pass.
        accumulate: forward passes per update.
        rate: the learning rate.
        warmup: updates in which it rises linearly from nothing.
        decay: the last share of the updates, in which it falls linearly to nothing.
        weight_decay: of AdamW, whose betas are constants (BETAS).
        clip: largest norm of the gradient.
        ema: decay of the moving average of the weights, which is what is kept in the end.
        seed: of all that is drawn.
    """

    inpainting: float = 0.8
    dice_weight: float = 0.01
    blurs: tuple[float, ...] = (0.02, 0.06, 0.15)
    threshold: float = 0.1
    captions: float = 0.5
    drop_text: float = 0.1
    steps: int = 50_000
    batch: int = 8
    accumulate: int = 1
    rate: float = 1e-5
    warmup: int = 1_000
    decay: float = 0.2
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.9999
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("inpainting", "captions", "drop_text", "decay"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"{name}={getattr(self, name)}: a share, from 0 to 1")
        for name in ("steps", "batch", "accumulate"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}: at least 1")
        for name in ("dice_weight", "rate", "warmup", "weight_decay", "clip", "seed"):
            value = getattr(self, name)
            if not 0 <= value <= LARGEST:
                raise UserError(f"{name}={value}: a number from 0 to {LARGEST:g}")
        if not 0.0 < self.threshold < 1.0:
            raise UserError(f"threshold={self.threshold}: between 0 and 1")
        if not 0.0 <= self.ema < 1.0:
            raise UserError(f"ema={self.ema}: from 0 (no average) to less than 1")
        if any(not (b > 0 and math.isfinite(b)) for b in self.blurs):
            raise UserError(f"blurs={','.join(map(str, self.blurs))}: shares above 0, by commas")
        if list(self.blurs) != sorted(self.blurs):
            raise UserError(f"blurs={','.join(map(str, self.blurs))}: from small to large")

    @property
    def coarsest(self) -> int:
        """S, the precision level of the box."""
        return len(self.blurs) + 1

    def rate_at(self, step: int) -> float:
        """The learning rate of an update, from 0."""
        fall = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.rate * min(1.0, (step + 1) / max(1, self.warmup), max(fall, 0.0))

    def changed(self, settings: Sequence[str]) -> Recipe:
        """This recipe with `name=value` texts applied; UserError names what is wrong with one."""
        values: dict[str, object] = {}
        kinds: dict[str, type] = {spec.name: type(spec.default) for spec in fields(self)}
        for setting in settings:
            name, _, text = setting.partition("=")
            if name not in kinds or not text:
                raise UserError(f"{setting}: settings are {' '.join(f'{k}=...' for k in kinds)}")
            try:
                if kinds[name] is tuple:
                    values[name] = tuple(float(part) for part in text.split(","))
                else:
                    values[name] = kinds[name](text)
            except ValueError as error:
                raise UserError(f"{setting}: not a number") from error
        return replace(self, **values)  # type: ignore[arg-type]  # made of each field's own type
