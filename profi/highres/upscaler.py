"""A latent x4 upscaler: the parts of diffusers' StableDiffusionUpscalePipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from profi.models.backbone import DTYPES, _load_text, config_values, latent_factor, mean_latents
from profi.models.devices import resolve_device
from profi.models.model_folder import (
    PIPELINE_CONFIG,
    SCHEDULER_CONFIG,
    hub_snapshot,
    load_part,
    read_json,
    weight_hashes,
)
from profi.models.schedule import Schedule
from profi.models.text import PromptEncoder
from profi.models.unet_role import UNetRole
from profi.settings.highres import FACTOR, SUFFIX, upscaler_source
from profi.settings.paths import SHIPPED, shipped_path
from profi.types import UserError, digest

#: The text encoder of the upscaler mini is the shipped inpainting model's.
MINI_TEXTS = f"{SHIPPED}cpu/inpaint"
LOW_SCHEDULER = "low_res_scheduler/scheduler_config.json"
#: A pipeline's config may lack it; this is diffusers' own value.
MAX_NOISE_LEVEL = 350
UPSCALER = UNetRole(
    1,
    FACTOR - 1,
    "latents, the low picture",
    "Stable Diffusion's x4 upscaler or one of its structure",
    conditions=("num_class_embeds",),
)


@dataclass(frozen=True)
class Upscaler:
    """The parts of an x4 upscaler, ready to run.

    `schedule` is the latents' and `low_schedule` that of the low picture's noise. `weights` maps
    each weight file to its SHA-256. `prompt_suffix` is what its prompts end in.
    Raises UserError if the parts do not fit together.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text: PromptEncoder
    schedule: Schedule
    low_schedule: Schedule
    max_noise_level: int = MAX_NOISE_LEVEL
    prompt_suffix: str = SUFFIX
    weights: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        UPSCALER.check(self.unet, self.vae)
        self.text.check_fits(self.unet)
        if latent_factor(self.vae) != FACTOR:
            raise UserError(
                f"the upscaler's VAE has {latent_factor(self.vae)} pixels per latent, not "
                f"{FACTOR}; use {UPSCALER.remedy}"
            )
        for model in (self.unet, self.vae, *(tower.encoder for tower in self.text.towers)):
            model.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.unet.device

    @property
    def pixel_multiple(self) -> int:
        """The large picture's sides must be multiples of this."""
        return int(FACTOR * 2 ** (len(self.unet.config.block_out_channels) - 1))

    @property
    def noise_levels(self) -> int:
        """The number of levels of the low picture's noise."""
        return min(self.max_noise_level + 1, int(self.unet.config.num_class_embeds))

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Hashes of everything in it that changes a pixel."""
        parts = {
            "unet": config_values(dict(self.unet.config)),
            "vae": config_values(dict(self.vae.config)),
            **{part: config_values(values) for part, values in self.text.configs.items()},
        }
        schedules = {
            name: [one.prediction_type, one.alphas_cumprod.tolist()]
            for name, one in (("latents", self.schedule), ("low", self.low_schedule))
        }
        return {
            "weights": digest(dict(self.weights)),
            "configs": digest(parts),
            "tokenizer": self.text.tokenizer_digest,
            "schedules": digest(schedules),
            "prompt_suffix": self.prompt_suffix,
            "dtype": str(self.unet.dtype).removeprefix("torch."),
            "vae_dtype": str(self.vae.dtype).removeprefix("torch."),
        }

    def encode(self, images: Tensor) -> Tensor:
        """Latents [B, C, h, w], float32: the VAE's mean of images in [-1, 1]."""
        return mean_latents(self.vae, images.to(self.device, self.vae.dtype))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [-1, 1] or a little beyond, float32, of latents."""
        latents = (latents / self.vae.config.scaling_factor).to(self.device, self.vae.dtype)
        images: Tensor = self.vae.decode(latents).sample
        return images.float()


def load_upscaler(
    source: str | Path = "x4",
    device: str | torch.device = "auto",
    dtype: str = "float32",
) -> Upscaler:
    """Load an upscaler.

    Args:
        source: mini (ships with the package), x4 (Stable Diffusion's x4 upscaler), a local folder
            in the layout of diffusers' StableDiffusionUpscalePipeline, or a repository of the
            Hugging Face Hub.
        device: auto (the best available), cpu, cuda, cuda:N or mps.
        dtype: of the UNet: float32, bfloat16 or float16. The VAE has it too, except where it
            overflows in float16 (its config says so: `force_upcast`); then it is float32.

    Raises UserError, without a long wait, if it cannot be loaded.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r} is unknown; choose {', '.join(DTYPES)}")
    place = torch.device(resolve_device("device", str(device)))
    mini, found = str(source) == "mini", upscaler_source(str(source))
    folder = Path(found) if Path(found).is_dir() else _from_hub(found)
    texts_folder = shipped_path(MINI_TEXTS) if mini else folder
    missing = _missing(folder, texts_folder)
    if missing is not None:
        raise UserError(
            f"upscaler folder {folder}: {missing} is missing; give a complete folder in the layout "
            "of diffusers' StableDiffusionUpscalePipeline"
        )
    vae = load_part(folder, "vae", AutoencoderKL)
    has_config = (folder / PIPELINE_CONFIG).is_file()
    config = read_json(folder, PIPELINE_CONFIG) if has_config else {}
    return Upscaler(
        load_part(folder, "unet", UNet2DConditionModel).to(place, DTYPES[dtype]),
        vae.to(place, vae_dtype(vae, DTYPES[dtype], place)),
        _load_text(texts_folder, place),
        Schedule.from_config(read_json(folder, SCHEDULER_CONFIG)),
        Schedule.from_config(read_json(folder, LOW_SCHEDULER)),
        int(config.get("max_noise_level", MAX_NOISE_LEVEL)),
        "" if mini else SUFFIX,
        weight_hashes(folder, ("unet", "vae")) | weight_hashes(texts_folder, ("text_encoder",)),
    )


def vae_dtype(vae: AutoencoderKL, dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The VAE's dtype next to a UNet of `dtype`; a config without `force_upcast` says yes."""
    overflows = dtype == torch.float16 and bool(vae.config.force_upcast)
    return torch.float32 if overflows or device.type == "cpu" else dtype


def _missing(folder: Path, texts: Path) -> str | None:
    """The first missing file; None if the folder looks complete."""
    files = ("unet/config.json", "vae/config.json", SCHEDULER_CONFIG, LOW_SCHEDULER)
    found = next((name for name in files if not (folder / name).is_file()), None)
    if found is None:
        parts = ("text_encoder/config.json", "tokenizer")
        found = next((name for name in parts if not (texts / name).exists()), None)
    return found


def _from_hub(repo_id: str) -> Path:
    """The local snapshot of a Hub repository, downloaded if needed."""
    patterns = [PIPELINE_CONFIG, "scheduler/*", "low_res_scheduler/*", "tokenizer/*"]
    for part in ("unet", "vae", "text_encoder"):
        patterns += [f"{part}/*.json", f"{part}/*.safetensors"]

    def complete(folder: Path) -> bool:
        return _missing(folder, folder) is None and all(
            any((folder / part).glob("*.safetensors")) for part in ("unet", "vae", "text_encoder")
        )

    return hub_snapshot(repo_id, patterns, complete, "upscaler")
