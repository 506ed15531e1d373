"""A pre-trained latent diffusion model, loaded from the diffusers folder layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from profi.models.folder import (
    PIPELINE_CONFIG,
    SCHEDULER_CONFIG,
    from_hub,
    load_part,
    loading,
    missing_file,
    read_json,
    text_folders,
    weight_hashes,
)
from profi.models.memo import Memo, content
from profi.models.schedule import Schedule
from profi.models.text import Conditioning, PromptEncoder, TextTower
from profi.models.tokens import with_suffix
from profi.models.unet_role import INPAINTING, UNetRole
from profi.settings.method import Sampling
from profi.types import UserError, digest

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Backbone:
    """The parts of a latent diffusion model, ready to run.

    UNet and VAE may be in half precision. `load_backbone` gives float32 text encoders (they run
    once per prompt). `weights` maps each weight file to its SHA-256; it is empty if the parts were
    not loaded from files. `execution_device` is where the models run, if it differs from the device
    of their weights (offloading).
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text: PromptEncoder
    schedule: Schedule
    weights: Mapping[str, str]
    execution_device: torch.device | None = None
    _memo: Memo = field(default_factory=Memo, init=False, repr=False, compare=False)

    @classmethod
    def from_parts(
        cls,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text: PromptEncoder,
        schedule: Schedule,
        weights: Mapping[str, str] | None = None,
        execution_device: torch.device | None = None,
        role: UNetRole = INPAINTING,
    ) -> Backbone:
        """Check that the parts fit together and set them to inference.

        The models are set to eval mode and their parameters' gradients are turned off (RASG
        differentiates only with respect to the latents). Raises UserError if the UNet does not have
        this role, or if it needs conditions that these parts do not give.
        """
        role.check(unet, vae)
        text.check_fits(unet)
        for model in (unet, vae, *(tower.encoder for tower in text.towers)):
            model.eval().requires_grad_(False)
        return cls(unet, vae, text, schedule, dict(weights or {}), execution_device)

    @property
    def device(self) -> torch.device:
        """Where the models run."""
        return self.execution_device or self.unet.device

    @property
    def latent_factor(self) -> int:
        """Image pixels per latent, 8 in Stable Diffusion."""
        return latent_factor(self.vae)

    @property
    def pixel_multiple(self) -> int:
        """The images' sides must be multiples of this, so that every UNet level halves evenly."""
        return pixel_multiple(self.unet, self.vae)

    @property
    def digest(self) -> str:
        """One digest of all weight files."""
        return digest(dict(self.weights))

    def condition(self, prompts: Sequence[str], size: tuple[int, int]) -> Conditioning:
        """The UNet's conditioning for B prompts and pictures of `size` (height, width) in pixels.

        It is cached, like the results of the next two methods, because many batches are painted
        again with another seed or method.
        """
        key = ("condition", tuple(prompts), size, *self._place)
        return self._memo(key, lambda: self.text(prompts, size).to(self.unet.dtype))

    def unconditional(self, negative: str, size: tuple[int, int], batch: int) -> Conditioning:
        """The conditioning of the unconditional branch; "" is no negative text."""
        key = ("unconditional", negative, size, batch, *self._place)
        return self._memo(
            key, lambda: self.text.unconditional(negative, size, batch).to(self.unet.dtype)
        )

    def encode_images(self, images: Tensor) -> Tensor:
        """Latents [B, 4, h, w], float32: the VAE's mean (no sample) of images in [-1, 1]."""
        images = images.to(self.device, self.vae.dtype)
        return self._memo(("images", content(images)), lambda: mean_latents(self.vae, images))

    def forget(self) -> None:
        """Clear the cache, to free its memory or to time an encoding again."""
        self._memo.clear()

    @property
    def _place(self) -> tuple[str, str]:
        """Device and dtype of a cached result."""
        return str(self.device), str(self.unet.dtype)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [0, 1], float32, of latents [B, 4, h, w]."""
        latents = (latents / self.vae.config.scaling_factor).to(self.device, self.vae.dtype)
        images: Tensor = self.vae.decode(latents).sample.float()
        return (images / 2 + 0.5).clamp(0.0, 1.0)


def both_texts(
    backbone: Backbone, sampling: Sampling, prompts: Sequence[str], size: tuple[int, int]
) -> tuple[Conditioning, Conditioning]:
    """The conditionings of the conditional and the unconditional branch for B prompts.

    `size` is the pictures' (height, width) in pixels. Raises UserError for a prompt that is too
    long.
    """
    full = [with_suffix(prompt, sampling.positive_prompt) for prompt in prompts]
    conditional = backbone.condition(full, size)
    return conditional, backbone.unconditional(sampling.negative_prompt, size, len(full))


@dataclass(frozen=True)
class OnBackbone:
    """The properties of a `Row` (see `profi.inpainter`) that come from its backbone."""

    backbone: Backbone

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.backbone.device

    @property
    def pixel_multiple(self) -> int:
        """The images' sides must be multiples of this."""
        return self.backbone.pixel_multiple


@torch.no_grad()
def mean_latents(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Scaled latents [B, 4, h, w], float32: the VAE's mean (no sample) of images in [-1, 1]."""
    mean: Tensor = vae.encode(images).latent_dist.mean
    return mean.float() * vae.config.scaling_factor


def latent_factor(vae: AutoencoderKL) -> int:
    """Image pixels per latent, 8 in Stable Diffusion."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def pixel_multiple(unet: UNet2DConditionModel, vae: AutoencoderKL) -> int:
    """The images' sides must be multiples of this, so that every UNet level halves evenly."""
    return int(latent_factor(vae) * 2 ** (len(unet.config.block_out_channels) - 1))


def load_backbone(
    model: str | Path,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    memory_format: torch.memory_format = torch.contiguous_format,
    vae_dtype: str = "auto",
    role: UNetRole = INPAINTING,
    unet_from: Path | None = None,
) -> Backbone:
    """Load a model from a local folder in the diffusers layout, or by its Hub id.

    Args:
        model: an existing folder, or an id: stable-diffusion-v1-5/stable-diffusion-inpainting.
        device: of all parts.
        dtype: of the UNet: float32, bfloat16 or float16.
        memory_format: of the UNet and the VAE; torch.channels_last is faster on most devices.
        vae_dtype: of the VAE: auto (see `auto_vae_dtype`), float32, bfloat16 or float16.
        role: the role that the UNet must have.
        unet_from: another folder, whose `unet/` and `scheduler/` are used instead: a fine-tuned
            UNet, with the VAE and the text encoder of its original model.

    Only safetensors are loaded. Raises UserError, without a long wait, if the model cannot be
    loaded.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r} is unknown; choose {', '.join(DTYPES)}")
    if vae_dtype not in ("auto", *DTYPES):
        raise UserError(f"vae_dtype {vae_dtype!r} is unknown; choose auto, {', '.join(DTYPES)}")
    folder = Path(model) if Path(model).is_dir() else from_hub(str(model))
    missing = missing_file(folder)
    if missing is not None:
        raise UserError(
            f"model folder {folder}: {missing} is missing; "
            "give a complete folder in the diffusers layout (run.py: model.path=...)"
        )
    unet_folder = unet_from or folder
    unet = load_part(unet_folder, "unet", UNet2DConditionModel)
    vae = load_part(folder, "vae", AutoencoderKL)
    text = load_text(folder, device)
    vae_type = DTYPES.get(vae_dtype) or auto_vae_dtype(
        torch.device(device), DTYPES[dtype], len(text.towers) > 1, bool(vae.config.force_upcast)
    )
    hashes = weight_hashes(folder)
    if unet_from is not None:
        hashes = {name: value for name, value in hashes.items() if not name.startswith("unet/")}
        hashes |= weight_hashes(unet_from, ("unet",))
    return Backbone.from_parts(
        unet.to(device, dtype=DTYPES[dtype], memory_format=memory_format),
        vae.to(device, dtype=vae_type, memory_format=memory_format),
        text,
        Schedule.from_config(read_json(unet_folder, SCHEDULER_CONFIG)),
        hashes,
        role=role,
    )


def memory_format(channels_last: bool) -> torch.memory_format:
    """The memory format of the setting `channels_last`."""
    return torch.channels_last if channels_last else torch.contiguous_format


def auto_vae_dtype(
    device: torch.device, unet_dtype: torch.dtype, is_xl: bool, force_upcast: bool
) -> torch.dtype:
    """The VAE's dtype for `vae_dtype="auto"`.

    float16 with a float16 UNet on a GPU, which works for the VAEs of SD 1 and SD 2; else float32.
    SDXL's VAE overflows in float16, unless its config says `force_upcast: false` (a corrected VAE).
    This key is used only for SDXL: older configs do not have it, and diffusers then sets it to
    true. bfloat16 is never chosen: its 8 bits of precision are not more than a picture's.
    """
    if device.type == "cpu" or unet_dtype != torch.float16 or (is_xl and force_upcast):
        return torch.float32
    return torch.float16


def load_text(folder: Path, device: str | torch.device) -> PromptEncoder:
    """The text encoder, or SDXL's two, with their tokenizers."""

    def tower(encoder: str, tokenizer: str, model_class: Any) -> TextTower:
        model = load_part(folder, encoder, model_class).to(device)
        load_tokenizer = partial(CLIPTokenizer.from_pretrained, local_files_only=True)
        return TextTower(model, loading(folder, f"{tokenizer}/", load_tokenizer))

    first, *others = text_folders(folder)
    if not others:
        return PromptEncoder(tower(*first, CLIPTextModel))
    has_config = (folder / PIPELINE_CONFIG).is_file()
    pipeline = read_json(folder, PIPELINE_CONFIG) if has_config else {}
    return PromptEncoder(
        tower(*first, CLIPTextModel),
        tower(*others[0], CLIPTextModelWithProjection),
        zeros_for_empty=bool(pipeline.get("force_zeros_for_empty_prompt", True)),
    )
