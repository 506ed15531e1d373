"""The evaluation: every choice of the protocol, apart from the method, as one settings object.

`released` is the protocol of the authors' released code, pixel for pixel; `ours` is what this
project holds to be better. docs/evaluation.md gives the reasons and the effects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Literal

from profi.settings.fields import changed, check_fields, setting
from profi.types import UserError

Hull = Literal["exact", "opencv"]
Crowds = Literal["left_out", "counted"]
Order = Literal["hash", "list"]
Size = Literal["rounded", "truncated"]
PictureFit = Literal["antialiased", "pil_bicubic"]
MaskFit = Literal["covering", "pil_bicubic"]
Dilation = Literal["before_padding", "after_padding"]
Bytes = Literal["rounded", "truncated"]
Noise = Literal["picture", "run"]
BoxOf = Literal["painted_mask", "bicubic_mask"]
ClipResizing = Literal["antialiased", "opencv_cubic"]
ClipClamp = Literal["none", "at_zero"]
Channels = Literal["bgr", "rgb_as_bgr"]
AestheticCrop = Literal["floored", "rounded"]

#: The choices that change scores of the same pictures; all others change pixels.
OF_SCORES = ("box", "clip_resizing", "clip_clamp", "channels", "aesthetic_crop")


@dataclass(frozen=True)
class Evaluation:
    """One value per choice, by default `ours`; `dataclasses.replace` changes any by itself."""

    name: Literal["ours", "released"] = setting(
        "ours", "the bundle that the values started from; a label"
    )
    hull: Hull = setting(
        "exact",
        "how an instance's polygons become a mask. exact: every pixel that the convex hull of "
        "their points touches. opencv: points truncated to integers, hull and filling as OpenCV's "
        "convexHull and drawContours do it",
    )
    crowds: Crowds = setting(
        "left_out", "whether polygons that are marked as crowd become triplets"
    )
    order: Order = setting(
        "hash",
        "hash: by the hash of seed and annotation id. list: as the released list (or the file) has "
        "them, named <image id>_<segment>",
    )
    size: Size = setting(
        "rounded", "how the shorter side of the working size becomes a whole number"
    )
    picture: PictureFit = setting(
        "antialiased",
        "how pictures are resized: bicubic with antialiasing on floats, or PIL's bicubic on bytes",
    )
    mask: MaskFit = setting(
        "covering",
        "how masks are resized. covering: every new pixel that a masked one reaches into. "
        "pil_bicubic: what is above 0 after PIL's bicubic on bytes",
    )
    dilation: Dilation = setting(
        "before_padding", "whether a reading's dilation of the mask may reach into the padding"
    )
    bytes: Bytes = setting("rounded", "how a painted picture becomes bytes")
    noise: Noise = setting(
        "picture",
        "picture: a start noise of each picture's own, float32. run: all pictures of one size "
        "start from the noise of the run's seed, rounded to half precision",
    )
    box: BoxOf = setting(
        "painted_mask",
        "the mask whose bounding box is cropped for the CLIP score and the accuracy: as it was "
        "painted, or PIL's bicubic one",
    )
    clip_resizing: ClipResizing = setting(
        "antialiased",
        "how the crop is resized for CLIP: PIL's bicubic (antialiased) or OpenCV's INTER_CUBIC",
    )
    clip_clamp: ClipClamp = setting("none", "whether negative CLIP scores count as 0")
    channels: Channels = setting(
        "bgr",
        "of the pictures that RTMDet gets, which was trained on BGR: rgb_as_bgr is the wrong order",
    )
    aesthetic_crop: AestheticCrop = setting(
        "floored", "how the offset of the aesthetic score's centre crop becomes whole"
    )

    def __post_init__(self) -> None:
        check_fields("evaluation", self)

    @property
    def of_pixels(self) -> dict[str, str]:
        """The choices that change pixels and differ from `ours`: a part of what a run is."""
        return {k: v for k, v in changed(self).items() if k not in ("name", *OF_SCORES)}

    @property
    def label(self) -> str:
        """The bundle's name, followed by what was changed in it: `released, hull=exact`."""
        usual = EVALUATIONS[self.name]
        changed = [
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(usual, field.name)
        ]
        return ", ".join([self.name, *changed])


OURS = Evaluation()
RELEASED = Evaluation(
    name="released",
    hull="opencv",
    crowds="counted",
    order="list",
    size="truncated",
    picture="pil_bicubic",
    mask="pil_bicubic",
    dilation="before_padding",
    bytes="truncated",
    noise="run",
    box="bicubic_mask",
    clip_resizing="opencv_cubic",
    clip_clamp="at_zero",
    channels="rgb_as_bgr",
    aesthetic_crop="rounded",
)
EVALUATIONS: Mapping[str, Evaluation] = MappingProxyType({e.name: e for e in (OURS, RELEASED)})


def evaluation_of(chosen: str | Evaluation) -> Evaluation:
    """A bundle by its name, or the settings as they are; UserError for an unknown name."""
    found = EVALUATIONS.get(chosen) if isinstance(chosen, str) else chosen
    if found is None:
        raise UserError(f"evaluation={chosen} is unknown; choose {' or '.join(EVALUATIONS)}")
    return found
