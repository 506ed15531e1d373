"""The evaluation: all choices of the protocol, without the method, as one settings object.

`released` is the protocol of the authors' released code, pixel for pixel. `ours` has the choices
that this project considers better. docs/evaluation.md gives the reasons and the effects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from profi.settings.fields import bundle_of, check_fields, differing, recorded, setting

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

#: The choices that change only scores; all others change pixels.
OF_SCORES = ("box", "clip_resizing", "clip_clamp", "channels", "aesthetic_crop")


@dataclass(frozen=True)
class Evaluation:
    """One value per choice, by default `ours`; change any of them with `dataclasses.replace`."""

    name: Literal["ours", "released"] = setting(
        "ours", "label: the set of values that the changes start from"
    )
    hull: Hull = setting(
        "exact",
        "how polygons become a mask. exact: every pixel that the convex hull of their points "
        "touches. opencv: points truncated to integers, then OpenCV's convexHull and drawContours",
    )
    crowds: Crowds = setting("left_out", "whether polygons marked as crowd become triplets")
    order: Order = setting(
        "hash",
        "hash: by the hash of seed and annotation id. list: the order of the released list (or of "
        "the file), with the names <image id>_<segment>",
    )
    size: Size = setting("rounded", "how the shorter side of the working size is rounded")
    picture: PictureFit = setting(
        "antialiased",
        "how images are resized: bicubic with antialiasing on floats, or PIL's bicubic on bytes",
    )
    mask: MaskFit = setting(
        "covering",
        "how masks are resized. covering: every new pixel that overlaps a masked one. "
        "pil_bicubic: every pixel above 0 after PIL's bicubic on bytes",
    )
    dilation: Dilation = setting(
        "before_padding", "whether the dilated mask of a reading may grow into the padding"
    )
    bytes: Bytes = setting("rounded", "how painted pixels become bytes")
    noise: Noise = setting(
        "picture",
        "picture: each picture has its own start noise, float32. run: all pictures of one size "
        "have the same start noise, from the run's seed, rounded to half precision",
    )
    box: BoxOf = setting(
        "painted_mask",
        "the mask whose bounding box is cropped for CLIP score and accuracy: the painted one or "
        "PIL's bicubic one",
    )
    clip_resizing: ClipResizing = setting(
        "antialiased",
        "how the crop is resized for CLIP: PIL's bicubic (antialiased) or OpenCV's INTER_CUBIC",
    )
    clip_clamp: ClipClamp = setting("none", "whether negative CLIP scores count as 0")
    channels: Channels = setting(
        "bgr",
        "the order of RTMDet's input channels; it was trained on BGR, so rgb_as_bgr is wrong",
    )
    aesthetic_crop: AestheticCrop = setting(
        "floored", "how the offset of the aesthetic score's centre crop is rounded"
    )

    def __post_init__(self) -> None:
        check_fields("evaluation", self)

    @property
    def of_pixels(self) -> dict[str, str]:
        """The choices of pixels that are not neutral (those of `ours`): part of a run's id."""
        return {k: v for k, v in recorded(self).items() if k not in ("name", *OF_SCORES)}

    @property
    def label(self) -> str:
        """The name and the changed choices, such as `released, hull=exact`."""
        changes = differing(self, EVALUATIONS[self.name])
        return ", ".join([self.name, *(f"{name}={value}" for name, value in changes.items())])


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
    """The evaluation of a name; settings are returned as they are; UserError for a wrong name."""
    found: Evaluation = bundle_of("evaluation", chosen, EVALUATIONS)
    return found
