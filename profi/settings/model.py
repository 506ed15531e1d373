"""The settings of the model: the inpainter, its weights and how it runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from profi.catalogue import catalogue
from profi.settings.fields import check_device, check_fields, setting
from profi.settings.paths import SHIPPED
from profi.types import UserError

#: The inpainters with one dtype for all parts (pipelines of diffusers, and GLIDE).
OF_DIFFUSERS = ("sdxl_inpainting", "controlnet", "glide")
DType = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class BlendedLatentDiffusionConfig:
    """Settings of Blended Latent Diffusion (`profi.baselines.blended_latent_diffusion`)."""

    skip: float = setting(0.25, "share of the first steps to skip", at_least=0, at_most=0.99)
    start: Literal["noise", "known"] = setting(
        "noise", "start from pure noise, or from the noised latents of the given image"
    )
    background_steps: int = setting(
        0, "steps of fitting the decoder to each picture's background", at_least=0
    )
    background_weight: float = setting(
        100.0, "weight of the background in this fit; the painted part has 1", at_least=0
    )
    background_lr: float = setting(1e-4, "learning rate of this fit", at_least=0)

    def __post_init__(self) -> None:
        check_fields("model.blended_latent_diffusion", self)


@dataclass(frozen=True)
class SmartBrushConfig:
    """Settings of SmartBrush (`profi.baselines.smartbrush`)."""

    level: int = setting(
        2,
        "the masks' precision as the model's input: 0 is an object's outline, the last its box",
        at_least=0,
    )
    composition: Literal["given_mask", "predicted_mask"] = setting(
        "given_mask", "the region that is replaced: the given mask, or the predicted object in it"
    )

    def __post_init__(self) -> None:
        check_fields("model.smartbrush", self)


@dataclass(frozen=True)
class SDXLInpaintingConfig:
    """Settings of SDXL Inpainting (`profi.baselines.sdxl_inpainting`)."""

    strength: float = setting(
        0.9999, "diffusers' strength: the share of the steps that are run", at_least=0, at_most=1
    )

    def __post_init__(self) -> None:
        check_fields("model.sdxl_inpainting", self)


@dataclass(frozen=True)
class ControlNetConfig:
    """Settings of the ControlNet for inpainting."""

    path: str | None = setting(None, "a local folder or a Hugging Face repository")
    scale: float = setting(1.0, "factor of the ControlNet's output", at_least=0)

    def __post_init__(self) -> None:
        check_fields("model.controlnet", self)


@dataclass(frozen=True)
class WeightsConfig:
    """A file of weights."""

    path: str | None = setting(None, "a local file or its URL")
    sha256: str | None = setting(None, "its SHA-256; a URL needs one")


@dataclass(frozen=True)
class GLIDEConfig:
    """Settings of GLIDE's two models and their sampling (`profi.baselines.glide`)."""

    base: WeightsConfig = setting(WeightsConfig, "the model that paints at 64 pixels")
    upsampler: WeightsConfig = setting(WeightsConfig, "the upsampler from 64 to 256 pixels")
    base_steps: str = setting(
        "100",
        "steps of the 64-pixel model: a number, numbers for equal sections (10,10,3), or fast27",
    )
    upsampler_steps: str = setting("fast27", "steps of the upsampler, in the same form")
    guidance_scale: float = setting(5.0, "guidance scale of the 64-pixel model", at_least=0)
    temperature: float = setting(0.997, "factor of the upsampler's start noise", at_least=0)

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
    """An inpainting model and how it runs: a row of Table 1.

    The section with the inpainter's name has the settings of that inpainter. Only
    stable_inpainting has ablations other than base. `channels_last`, `compile` and `threads` change
    results by float rounding.
    """

    id: str = setting(
        "profi-mini", "label of the row and, if path is null, its Hugging Face repository"
    )
    path: str | None = setting(
        f"{SHIPPED}cpu/inpaint", "a local folder in the diffusers layout, or a repository"
    )
    unet: str | None = setting(
        None, "another folder; its unet/ and scheduler/ replace those of the model"
    )
    inpainter: str = setting("stable_inpainting", "an inpainter of the catalogue")
    blended_latent_diffusion: BlendedLatentDiffusionConfig = setting(
        BlendedLatentDiffusionConfig, "settings of this inpainter"
    )
    sdxl_inpainting: SDXLInpaintingConfig = setting(
        SDXLInpaintingConfig, "settings of this inpainter"
    )
    controlnet: ControlNetConfig = setting(ControlNetConfig, "settings of this inpainter")
    glide: GLIDEConfig = setting(GLIDEConfig, "settings of this inpainter")
    smartbrush: SmartBrushConfig = setting(SmartBrushConfig, "settings of this inpainter")
    dtype: DType = setting("float32", "dtype of the UNet")
    vae_dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto",
        "dtype of the VAE. auto: float16 with a float16 UNet on a GPU (except SDXL's VAE, which "
        "overflows), else float32. A pipeline of diffusers has one dtype for all parts",
    )
    channels_last: bool = setting(False, "channels-last memory format for UNet and VAE")
    compile: bool = setting(
        False,
        "compile the UNet's blocks for each batch size and picture size; needs a C++ compiler and "
        "pays off only for many pictures of one size",
    )
    device: str = setting("auto", "auto, cpu, cuda, cuda:N or mps")
    threads: int | None = setting(
        None, "threads of a process on a CPU; null: as torch chooses", at_least=1
    )
    long_side: int = setting(512, "long side of the working size, in pixels", at_least=8)
    pad_multiple: int = setting(
        64,
        "both sides are padded to a multiple of this, on the right and at the bottom",
        at_least=1,
    )
    batch_size: int = setting(4, "pictures painted at once", at_least=1)

    def __post_init__(self) -> None:
        check_fields("model", self)
        check_device("model.device", self.device)
        catalogue.inpainters.get(self.inpainter)
        if self.inpainter == "controlnet" and not self.controlnet.path:
            raise UserError(
                "model.controlnet.path is not set: give the ControlNet's folder or repository"
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
                    f"model.glide.{name}.path is not set: give the file of the released model"
                )
        if self.dtype == "bfloat16":
            raise UserError("model.dtype=bfloat16: GLIDE runs only in float32 or float16")
        if self.compile or self.channels_last:
            raise UserError(
                "model.compile and model.channels_last do not work with GLIDE: leave them false"
            )

    @property
    def ablations(self) -> tuple[str, ...]:
        """The methods that the model has."""
        ablated = catalogue.inpainters.get(self.inpainter).ablated
        return catalogue.methods.names() if ablated else ("base",)
