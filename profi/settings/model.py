"""The model: which inpainter paints, with which weights and how they are run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from profi.settings.fields import check_device, check_fields, choice, number
from profi.settings.paths import SHIPPED
from profi.types import ABLATIONS, UserError

#: The inpainter that the paper's modules are for: the one of all ablations.
ABLATED = "stable_inpainting"
#: Those that are pipelines of diffusers, which have one dtype.
OF_DIFFUSERS = ("sdxl_inpainting", "controlnet", "glide")


@dataclass
class BlendedLatentDiffusionConfig:
    """What may be chosen of Blended Latent Diffusion (`profi.baselines.blended_latent_diffusion`).

    `skip`: the share of the first steps that are left out; `start`: from noise alone, or from the
    known latents noised. `background_steps`: steps by which the decoder is fitted to every
    picture's background, 0 for none; `background_weight` is what the background counts beside the
    painted part in it, `background_lr` its learning rate.
    """

    skip: float = number(0.25, at_least=0, at_most=0.99)
    start: str = choice("noise", "known")
    background_steps: int = number(0, at_least=0)
    background_weight: float = number(100.0, at_least=0)
    background_lr: float = number(1e-4, at_least=0)

    def __post_init__(self) -> None:
        check_fields("model.blended_latent_diffusion", self)


@dataclass
class SmartBrushConfig:
    """What may be chosen of SmartBrush (`profi.baselines.smartbrush`).

    `level`: the precision that the masks are said to have, 0 for an object's outline, the model's
    last for its box. `composition`: what is painted in the end: the given mask, or the part of it
    where the model says that its object is.
    """

    level: int = number(2, at_least=0)
    composition: str = choice("given_mask", "predicted_mask")

    def __post_init__(self) -> None:
        check_fields("model.smartbrush", self)


@dataclass
class SDXLInpaintingConfig:
    """What may be chosen of SDXL Inpainting: `strength`, the share of the noise that is painted.

    See `profi.baselines.sdxl_inpainting`.
    """

    strength: float = number(0.9999, at_least=0, at_most=1)

    def __post_init__(self) -> None:
        check_fields("model.sdxl_inpainting", self)


@dataclass
class ControlNetConfig:
    """The ControlNet for inpainting: a local folder or a Hugging Face repository, and its scale."""

    path: str | None = None
    scale: float = number(1.0, at_least=0)

    def __post_init__(self) -> None:
        check_fields("model.controlnet", self)


@dataclass
class WeightsConfig:
    """A file of weights, local or by its URL, and its SHA-256 (a URL is fetched by it alone)."""

    path: str | None = None
    sha256: str | None = None


@dataclass
class GLIDEConfig:
    """GLIDE's two models and how they are sampled (`profi.baselines.glide`).

    `base` paints at 64 pixels, `upsampler` makes 256 of them. `base_steps` and `upsampler_steps`
    are the spacings of the package: a number of steps, numbers for equal shares of the process
    (10,10,3), or fast27. `guidance_scale` is the base's, `temperature` scales the upsampler's start
    noise.
    """

    base: WeightsConfig = field(default_factory=WeightsConfig)
    upsampler: WeightsConfig = field(default_factory=WeightsConfig)
    base_steps: str = "100"
    upsampler_steps: str = "fast27"
    guidance_scale: float = number(5.0, at_least=0)
    temperature: float = number(0.997, at_least=0)

    def __post_init__(self) -> None:
        check_fields("model.glide", self)
        for name in ("base_steps", "upsampler_steps"):
            value = getattr(self, name)
            if not re.fullmatch(r"fast27|[1-9]\d*(,[1-9]\d*)*", value):
                raise UserError(
                    f"model.glide.{name}={value}: write a number of steps such as 100, numbers "
                    "such as 10,10,3, or fast27"
                )


@dataclass
class ModelConfig:
    """A model that inpaints, and how it is run: a row of Table 1.

    `inpainter` is the file of `profi.inpainters` that paints; the section of its name holds what
    may be chosen of it alone. All but stable_inpainting have one ablation, base.

    `id` is the row label and, where `path` is null, the Hugging Face repository; `path` is a local
    folder in the diffusers layout, or the repository of a row with a label of its own. `unet` is
    another folder, whose `unet/` and `scheduler/` take the place of the model's.

    Images are fitted to `long_side` pixels and padded right and bottom to a multiple of
    `pad_multiple`. `dtype` is the UNet's; of `vae_dtype`, auto is float16 beside a float16 UNet on
    a GPU (but for SDXL's VAE, which overflows in it) and float32 else, or `dtype` of a pipeline of
    diffusers.
    `channels_last` is the memory format of UNet and VAE. `compile` compiles the UNet's blocks anew
    for each size of batch and padded picture: it needs a C++ compiler and pays off only after many
    pictures of one size. Both change results by float rounding.
    """

    id: str = "profi-mini"
    path: str | None = f"{SHIPPED}cpu/inpaint"
    unet: str | None = None
    inpainter: str = choice(
        ABLATED,
        "blended_latent_diffusion",
        "sdxl_inpainting",
        "controlnet",
        "glide",
        "smartbrush",
    )
    blended_latent_diffusion: BlendedLatentDiffusionConfig = field(
        default_factory=BlendedLatentDiffusionConfig
    )
    sdxl_inpainting: SDXLInpaintingConfig = field(default_factory=SDXLInpaintingConfig)
    controlnet: ControlNetConfig = field(default_factory=ControlNetConfig)
    glide: GLIDEConfig = field(default_factory=GLIDEConfig)
    smartbrush: SmartBrushConfig = field(default_factory=SmartBrushConfig)
    dtype: str = choice("float32", "bfloat16", "float16")
    vae_dtype: str = choice("auto", "float32", "bfloat16", "float16")
    channels_last: bool = False
    compile: bool = False
    device: str = "auto"
    long_side: int = number(512, at_least=8)
    pad_multiple: int = number(64, at_least=1)
    batch_size: int = number(4, at_least=1)

    def __post_init__(self) -> None:
        check_fields("model", self)
        check_device("model.device", self.device)
        if self.inpainter == "controlnet" and not self.controlnet.path:
            raise UserError(
                "model.controlnet.path is not set: name the ControlNet's folder or repository"
            )
        if self.inpainter == "glide":
            self._check_glide()
        if self.inpainter in OF_DIFFUSERS and self.vae_dtype not in ("auto", self.dtype):
            raise UserError(
                f"model.vae_dtype={self.vae_dtype}: inpainter={self.inpainter} runs the VAE in "
                f"the UNet's dtype, {self.dtype}; leave it at auto"
            )

    def _check_glide(self) -> None:
        for name in ("base", "upsampler"):
            if not getattr(self.glide, name).path:
                raise UserError(
                    f"model.glide.{name}.path is not set: name the file of the released model"
                )
        if self.dtype == "bfloat16":
            raise UserError("model.dtype=bfloat16: GLIDE runs in float32 or float16")
        if self.compile or self.channels_last:
            raise UserError(
                "model.compile and model.channels_last are not for GLIDE: leave them false"
            )

    @property
    def ablations(self) -> tuple[str, ...]:
        """The ablations that the model has, by their one spelling."""
        return tuple(ABLATIONS.values()) if self.inpainter == ABLATED else ("base",)
