"""The model: which inpainter paints, with which weights and how they are run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from profi.catalogue import catalogue
from profi.settings.fields import check_device, check_fields, setting
from profi.settings.paths import SHIPPED
from profi.types import UserError

#: Those that are pipelines of diffusers, which have one dtype.
OF_DIFFUSERS = ("sdxl_inpainting", "controlnet", "glide")
DType = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class BlendedLatentDiffusionConfig:
    """Of Blended Latent Diffusion (`profi.baselines.blended_latent_diffusion`)."""

    skip: float = setting(
        0.25, "the share of the first steps that are left out", at_least=0, at_most=0.99
    )
    start: Literal["noise", "known"] = setting(
        "noise", "from noise alone, or from the known latents, noised"
    )
    background_steps: int = setting(
        0, "steps by which the decoder is fitted to each picture's background", at_least=0
    )
    background_weight: float = setting(
        100.0, "of the background beside the painted part in it", at_least=0
    )
    background_lr: float = setting(1e-4, "its learning rate", at_least=0)

    def __post_init__(self) -> None:
        check_fields("model.blended_latent_diffusion", self)


@dataclass(frozen=True)
class SmartBrushConfig:
    """Of SmartBrush (`profi.baselines.smartbrush`)."""

    level: int = setting(
        2,
        "the precision that the masks are said to have: 0 an object's outline, the last its box",
        at_least=0,
    )
    composition: Literal["given_mask", "predicted_mask"] = setting(
        "given_mask", "what is painted in the end: the given mask, or its predicted object"
    )

    def __post_init__(self) -> None:
        check_fields("model.smartbrush", self)


@dataclass(frozen=True)
class SDXLInpaintingConfig:
    """Of SDXL Inpainting (`profi.baselines.sdxl_inpainting`)."""

    strength: float = setting(
        0.9999, "the share of the noise that is painted from", at_least=0, at_most=1
    )

    def __post_init__(self) -> None:
        check_fields("model.sdxl_inpainting", self)


@dataclass(frozen=True)
class ControlNetConfig:
    """The ControlNet for inpainting."""

    path: str | None = setting(None, "a local folder or a Hugging Face repository")
    scale: float = setting(1.0, "of what it adds to the UNet", at_least=0)

    def __post_init__(self) -> None:
        check_fields("model.controlnet", self)


@dataclass(frozen=True)
class WeightsConfig:
    """A file of weights."""

    path: str | None = setting(None, "a local file or its URL")
    sha256: str | None = setting(None, "its SHA-256; a URL is fetched by it alone")


@dataclass(frozen=True)
class GLIDEConfig:
    """GLIDE's two models and how they are sampled (`profi.baselines.glide`)."""

    base: WeightsConfig = setting(WeightsConfig, "the model that paints at 64 pixels")
    upsampler: WeightsConfig = setting(WeightsConfig, "the model that makes 256 of them")
    base_steps: str = setting(
        "100", "its spacing: a number of steps, numbers for equal shares (10,10,3), or fast27"
    )
    upsampler_steps: str = setting("fast27", "likewise")
    guidance_scale: float = setting(5.0, "of the model at 64 pixels", at_least=0)
    temperature: float = setting(0.997, "scales the upsampler's start noise", at_least=0)

    def __post_init__(self) -> None:
        check_fields("model.glide", self)
        for name in ("base_steps", "upsampler_steps"):
            value = getattr(self, name)
            if not re.fullmatch(r"fast27|[1-9]\d*(,[1-9]\d*)*", value):
                raise UserError(
                    f"model.glide.{name}={value}: write a number of steps such as 100, numbers "
                    "such as 10,10,3, or fast27"
                )


@dataclass(frozen=True)
class ModelConfig:
    """A model that inpaints, and how it is run: a row of Table 1.

    The section of its inpainter's name holds what may be chosen of that one alone. All inpainters
    but stable_inpainting have one ablation, base. `channels_last` and `compile` change results by
    float rounding.
    """

    id: str = setting(
        "profi-mini", "the row's label and, where path is null, the Hugging Face repository"
    )
    path: str | None = setting(
        f"{SHIPPED}cpu/inpaint",
        "a local folder in the diffusers layout, or the repository of a row with its own label",
    )
    unet: str | None = setting(
        None, "another folder, whose unet/ and scheduler/ take the place of the model's"
    )
    inpainter: str = setting("stable_inpainting", "what paints: an inpainter of the catalogue")
    blended_latent_diffusion: BlendedLatentDiffusionConfig = setting(
        BlendedLatentDiffusionConfig, "of this inpainter alone"
    )
    sdxl_inpainting: SDXLInpaintingConfig = setting(SDXLInpaintingConfig, "likewise")
    controlnet: ControlNetConfig = setting(ControlNetConfig, "likewise")
    glide: GLIDEConfig = setting(GLIDEConfig, "likewise")
    smartbrush: SmartBrushConfig = setting(SmartBrushConfig, "likewise")
    dtype: DType = setting("float32", "of the UNet")
    vae_dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto",
        "of the VAE; auto is float16 with a float16 UNet on a GPU (but for SDXL's VAE, which "
        "overflows in it), else float32; a pipeline of diffusers has one dtype",
    )
    channels_last: bool = setting(False, "the memory format of UNet and VAE")
    compile: bool = setting(
        False,
        "compile the UNet's blocks for each size of batch and picture; needs a C++ compiler and "
        "pays off after many pictures of one size",
    )
    device: str = setting("auto", "auto, cpu, cuda, cuda:N or mps")
    long_side: int = setting(512, "in pixels: pictures are fitted to it", at_least=8)
    pad_multiple: int = setting(
        64, "both sides are padded to a multiple, right and below", at_least=1
    )
    batch_size: int = setting(4, "pictures painted at once", at_least=1)

    def __post_init__(self) -> None:
        check_fields("model", self)
        check_device("model.device", self.device)
        catalogue.inpainters.get(self.inpainter)
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
        """The methods that the model has."""
        ablated = catalogue.inpainters.get(self.inpainter).ablated
        return catalogue.methods.names() if ablated else ("base",)
