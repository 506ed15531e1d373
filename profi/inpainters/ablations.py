"""The rows of Table 2, and of fig. 8, as compositions of the method's modules."""

from __future__ import annotations

from dataclasses import dataclass, replace

from profi.attention.painta import PAIntASettings
from profi.guidance.attention_objective import Objective, ObjectiveSettings
from profi.guidance.rasg import RASGSettings
from profi.guidance.vanilla import VanillaSettings
from profi.inpainters.masks import MaskedImage, MaskResizing
from profi.inpainters.readings import Reading
from profi.types import ABLATIONS, UserError


@dataclass(frozen=True)
class Guidance:
    """What may be chosen of the guidance beside a reading.

    `objective`: S. `every` and `until`: the steps in which RASG works (`RASGSettings`).
    `vanilla_scale`: s of eq. 6, for the vanilla guidance alone.
    """

    objective: Objective = "bce"
    every: int = 1
    until: float = 1.0
    vanilla_scale: float = 1000.0


@dataclass(frozen=True)
class Method:
    """What is added to the inpainting model; None leaves a module out."""

    mask_resizing: MaskResizing
    masked_image: MaskedImage = "as_resized"
    painta: PAIntASettings | None = None
    rasg: RASGSettings | None = None
    vanilla: VanillaSettings | None = None

    def __post_init__(self) -> None:
        if self.rasg is not None and self.vanilla is not None:
            raise UserError("RASG and vanilla guidance exclude each other; choose one")

    @property
    def objective(self) -> ObjectiveSettings | None:
        """The objective of whichever guidance there is."""
        guidance = self.rasg or self.vanilla
        return guidance.objective if guidance is not None else None


def compose(ablation: str, reading: Reading, guidance: Guidance | None = None) -> Method:
    """The method of an ablation's name in a reading; raises UserError for an unknown name."""
    row = ABLATIONS.get(ablation)
    if row is None:
        raise UserError(f"ablation {ablation!r} is unknown; choose {', '.join(ABLATIONS)}")
    chosen = guidance or Guidance()
    objective = ObjectiveSettings(
        chosen.objective,
        reading.offset,
        reading.reduction,
        vanished_mask=reading.vanished_mask,
    )
    painta = PAIntASettings(reading.query, reading.smoothing, reading.active, reading.c_gradient)
    rasg = RASGSettings(objective, reading.sigma, reading.eta, chosen.every, chosen.until)
    vanilla = VanillaSettings(objective, chosen.vanilla_scale)
    method = Method(mask_resizing=reading.mask_resizing, masked_image=reading.masked_image)
    if row in ("painta_only", "profi"):
        method = replace(method, painta=painta)
    if row in ("rasg_only", "profi"):
        method = replace(method, rasg=rasg)
    return replace(method, vanilla=vanilla) if row == "vanilla_only" else method
