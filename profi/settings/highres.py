"""High resolution (appendix E): all its choices, and the named sets of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from profi.settings.fields import bundle_of, check_fields, differing, setting
from profi.settings.paths import SHIPPED, shipped_path
from profi.settings.presets import hub_id
from profi.types import UserError

#: What is appended to the prompts of the upscaler.
SUFFIX = "high resolution professional photo"
#: The upscaler makes this many pixels of one (Stable Diffusion's x4 upscaler).
FACTOR = 4

Result = Literal["own", "worked"]
Known = Literal["eq16", "free"]
MaskLow = Literal["soft", "hard"]
Hole = Literal["given", "painted"]
Eps = Literal["kept", "recomputed"]
Low = Literal["decoded", "blended"]
Poisson = Literal["dirichlet", "opencv", "none"]


@dataclass(frozen=True)
class HighRes:
    """One value per choice; the defaults are `ours`.

    `released` is the authors' released code and `paper` what appendix E prints. Both give a picture
    of the worked size, as they do. Change any value with `dataclasses.replace`. How pictures and
    masks are resized and rounded to bytes is the evaluation's (`profi.settings.evaluation`).
    """

    name: Literal["none", "ours", "released", "paper"] = setting(
        "ours",
        "label: the set of values that the changes start from; none: nothing is enlarged",
    )
    long_side: int | None = setting(
        None,
        "long side in pixels at which the upscaler works, a multiple of 4; the low picture is "
        "painted at a quarter of it. null: four times the painter's own (2048 for 512)",
        at_least=32,
    )
    result: Result = setting(
        "own", "size of the result: the given picture's own, or the size that was worked at"
    )
    crop: int | None = setting(
        None,
        "work only on the mask's surroundings, this many pixels around it, at least `margin`; "
        "null: on the whole picture",
        at_least=0,
    )
    low: Low = setting(
        "blended",
        "the low picture outside its mask: as the inpainting model decodes it, or the given one",
    )
    prompt_suffix: str | None = setting(
        None,
        "appended to the prompt for the upscaler; null: the upscaler's own (high resolution "
        "professional photo; nothing for mini)",
    )
    negative_prompt: str = setting("", "the upscaler's negative text")
    num_inference_steps: int = setting(20, "DDIM steps of the upscaler", at_least=1)
    guidance_scale: float = setting(7.5, "the upscaler's scale of guidance", at_least=0)
    noise_level: int = setting(
        20, "level of the noise that is added to the low picture", at_least=0
    )
    known: Known = setting(
        "eq16", "eq16: the known latents enter x0_pred in every step. free: plain upscaling"
    )
    mask: MaskLow = setting(
        "soft",
        "M of eq. 16 at the latents' size. soft: bicubic and blurred, in [0, 1]. hard: every "
        "latent that the mask touches",
    )
    dilation: int = setting(
        19, "times that the mask is dilated by a 3x3 cross before eq. 16", at_least=0
    )
    blur: int = setting(
        19, "side in latents of the Gaussian filter of a soft mask, odd; 1: none", at_least=1
    )
    hole: Hole = setting(
        "painted",
        "what E(I) of eq. 16 sees in the hole. given: the given picture, whose old object comes "
        "through the soft edge of the mask. painted: the enlarged small picture",
    )
    eps: Eps = setting(
        "kept", "eq. 4 after eq. 16: with the predicted eps, or with the one of the new x0_pred"
    )
    poisson: Poisson = setting(
        "dirichlet",
        "the last blend. dirichlet: Poisson's equation inside the dilated mask, no pixel outside "
        "changes. opencv: as OpenCV's seamlessClone, which also changes the bounding box around "
        "the mask. none: the painted pixels inside the dilated mask",
    )
    margin: int = setting(
        48, "side in pixels of the box that dilates the mask for the last blend", at_least=1
    )
    border: int = setting(
        32,
        "pixels of the painted picture's reflection put around both pictures for opencv",
        at_least=0,
    )
    pad_multiple: int = setting(
        256, "the worked picture is padded by reflection to a multiple of this", at_least=4
    )
    tile: int | None = setting(
        192, "latents per side that the UNet sees at once; null: all", at_least=16
    )
    vae_tile: int | None = setting(
        128, "latents per side that the VAE sees at once; null: all", at_least=16
    )
    overlap: int = setting(32, "latents that neighbouring tiles share", at_least=0)

    def __post_init__(self) -> None:
        check_fields("highres", self)
        if self.long_side is not None and self.long_side % FACTOR:
            raise UserError(f"highres.long_side={self.long_side}: must be a multiple of {FACTOR}")
        if self.pad_multiple % FACTOR:
            raise UserError(
                f"highres.pad_multiple={self.pad_multiple}: must be a multiple of {FACTOR}"
            )
        if self.blur % 2 == 0:
            raise UserError(f"highres.blur={self.blur}: must be odd")
        for name in ("tile", "vae_tile"):
            tile = getattr(self, name)
            if tile is not None and tile <= self.overlap:
                raise UserError(
                    f"highres.{name}={tile}: must be more than highres.overlap={self.overlap}"
                )

    @property
    def changes(self) -> dict[str, object]:
        """The values that differ from those of the named set."""
        return differing(self, CHOICES[self.name])


OURS = HighRes()
RELEASED = HighRes(
    name="released",
    result="worked",
    low="decoded",
    hole="given",
    poisson="opencv",
    tile=None,
    vae_tile=None,
)
PAPER = HighRes(
    name="paper",
    result="worked",
    low="decoded",
    mask="hard",
    dilation=0,
    hole="given",
    tile=None,
    vae_tile=None,
)
HIGHRES: Mapping[str, HighRes] = MappingProxyType({h.name: h for h in (OURS, RELEASED, PAPER)})
NONE = HighRes(name="none")
#: What an experiment may have as `highres`.
CHOICES: Mapping[str, HighRes] = MappingProxyType({"none": NONE, **HIGHRES})

#: Upscalers by name, as folders or repositories.
UPSCALERS: Mapping[str, str] = MappingProxyType(
    {"mini": f"{SHIPPED}upscaler", "x4": "stabilityai/stable-diffusion-x4-upscaler"}
)


def upscaler_source(name: str) -> str:
    """An upscaler's folder or Hub id, from a key of UPSCALERS, a local folder or a Hub id.

    The network is not used. Raises UserError for any other name.
    """
    text = UPSCALERS.get(name, name)
    folder = shipped_path(text)
    if folder.is_dir():
        return str(folder)
    if hub_id(text) is None:
        raise UserError(
            f"upscaler {name!r} is unknown: choose {', '.join(UPSCALERS)}, a local folder in the "
            "layout of diffusers' StableDiffusionUpscalePipeline or a repository of the Hugging "
            "Face Hub (owner/name)"
        )
    return text


def highres_of(chosen: str | HighRes) -> HighRes:
    """The settings of a name; settings are returned as they are; UserError for a wrong name."""
    found: HighRes = bundle_of("highres", chosen, HIGHRES)
    return found
