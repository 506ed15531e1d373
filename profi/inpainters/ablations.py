"""The rows of Table 2 as compositions of the two modules."""

from __future__ import annotations

from dataclasses import dataclass

from profi.attention.painta import PAIntASettings
from profi.guidance.rasg import RASGSettings
from profi.inpainters.masks import MaskedImage, MaskResizing
from profi.inpainters.readings import Reading
from profi.types import ABLATIONS, UserError


@dataclass(frozen=True)
class Method:
    """What is added to the inpainting model; None leaves a module out."""

    mask_resizing: MaskResizing
    masked_image: MaskedImage = "as_resized"
    painta: PAIntASettings | None = None
    rasg: RASGSettings | None = None


def compose(ablation: str, reading: Reading) -> Method:
    """The method of an ablation's name in a reading; raises UserError for an unknown name."""
    row = ABLATIONS.get(ablation)
    if row is None:
        raise UserError(f"ablation {ablation!r} is unknown; choose {', '.join(ABLATIONS)}")
    painta = PAIntASettings(reading.query, reading.smoothing, reading.active, reading.c_gradient)
    rasg = RASGSettings(
        reading.offset,
        reading.reduction,
        reading.sigma,
        reading.eta,
        vanished_mask=reading.vanished_mask,
    )
    return Method(
        mask_resizing=reading.mask_resizing,
        masked_image=reading.masked_image,
        painta=painta if row in ("painta_only", "profi") else None,
        rasg=rasg if row in ("rasg_only", "profi") else None,
    )
