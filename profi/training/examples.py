"""From pictures with an object's mask and texts to what the model learns from."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from profi.baselines.smartbrush import to_latents
from profi.models.backbone import latent_factor, mean_latents, pixel_multiple
from profi.models.model_folder import SCHEDULER_CONFIG, load_part, loading, read_json, weight_hashes
from profi.models.schedule import Schedule
from profi.models.text import PromptEncoder, TextTower
from profi.models.unet_role import TEXT_TO_IMAGE
from profi.training.recipe import Recipe
from profi.training.smartbrush_loss import Batch, at_precision
from profi.types import UserError, digest

ENCODED_AT_ONCE = 64  # pictures: larger batches only cost memory


@dataclass(frozen=True)
class Draw:
    """What is drawn for a sample; `level` is None for text-to-image.

    `captioned`: its text is a caption of the crop and not the label; `silent`: it has no text.
    """

    level: int | None
    captioned: bool
    silent: bool
    rng: random.Random

    @staticmethod
    def of(recipe: Recipe, index: int) -> Draw:
        """The draw of sample `index`, which depends on that and on the recipe alone.

        Levels are equally likely.
        """
        rng = random.Random(f"smartbrush:{recipe.seed}:{index}")
        painted, level = rng.random() < recipe.inpainting, rng.randint(0, recipe.coarsest)
        captioned, silent = rng.random() < recipe.captions, rng.random() < recipe.drop_text
        return Draw(level if painted else None, captioned, silent, rng)


@dataclass(frozen=True)
class Examples:
    """B pictures [B, 3, H, W] in [0, 1], an object's mask in each [B, H, W] bool, texts and levels.

    A level of None makes a sample text-to-image, whatever its mask.
    """

    images: Tensor
    objects: Tensor
    texts: Sequence[str]
    levels: Sequence[int | None]


class Source(Protocol):
    """Where samples come from: sample i is the same in every run of one recipe."""

    def batches(self, index_lists: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """A batch per list of sample indices, in their order."""
        ...


@dataclass(frozen=True)
class TextToImage:
    """The model that training starts from; VAE and text encoder stay as they are, in float32."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDPMScheduler

    @staticmethod
    def load(folder: Path, parts: Path) -> TextToImage:
        """UNet and scheduler from `folder`, the rest from `parts`, both in the diffusers layout.

        Raises UserError for what is missing, for a UNet that is no text-to-image one or not these
        parts', and for a model that predicts neither eps nor v or whose schedule the inpainter
        would refuse.
        """
        config = read_json(folder, SCHEDULER_CONFIG)
        Schedule.from_config(config)
        scheduler = DDPMScheduler.from_config(config)
        if scheduler.config.prediction_type not in ("epsilon", "v_prediction"):
            raise UserError(
                f"{folder} predicts {scheduler.config.prediction_type!r}; "
                "training is for models that predict epsilon or v_prediction"
            )
        unet = load_part(folder, "unet", UNet2DConditionModel)
        vae = load_part(parts, "vae", AutoencoderKL).eval().requires_grad_(False)
        TEXT_TO_IMAGE.check(unet, vae)
        text = load_part(parts, "text_encoder", CLIPTextModel).eval().requires_grad_(False)
        tokenizer = loading(parts, "tokenizer/", CLIPTokenizer.from_pretrained)
        PromptEncoder(TextTower(text, tokenizer)).check_fits(unet)
        return TextToImage(unet, vae, text, tokenizer, scheduler)

    def to(self, device: torch.device) -> TextToImage:
        """Move what encodes (in place); the UNet stays where it is."""
        self.vae.to(device)
        self.text.to(device)
        return self

    @property
    def latent_factor(self) -> int:
        """Image pixels per latent, 8 in Stable Diffusion."""
        return latent_factor(self.vae)

    def check_side(self, side: int) -> None:
        """UserError unless every level of the UNet halves pictures of side x side pixels evenly."""
        multiple = pixel_multiple(self.unet, self.vae)
        if side % multiple:
            lower = side // multiple * multiple
            near = " or ".join(str(n) for n in (lower, lower + multiple) if n)
            raise UserError(f"side={side}: must be a multiple of {multiple}, such as {near}")

    @torch.no_grad()
    def batch(self, examples: Examples, recipe: Recipe) -> Batch:
        """Encoded examples, on the VAE's device."""
        device = self.vae.device
        images, exact = examples.images.to(device), examples.objects.to(device)
        painted = torch.tensor([level is not None for level in examples.levels], device=device)
        levels = [recipe.coarsest if level is None else level for level in examples.levels]
        level = torch.tensor(levels, device=device)
        masks = at_precision(exact, level, recipe.blurs, recipe.threshold)
        masks = torch.where(painted[:, None, None], masks, True)
        pixels = images * 2 - 1
        return Batch(
            latents=self._encoded(pixels),
            # Zeros, a middle grey, in the hole, as in Stable Inpainting's masked image.
            known=self._encoded(pixels * ~masks[:, None]),
            mask=to_latents(masks, self.latent_factor),
            exact=to_latents(torch.where(painted[:, None, None], exact, True), self.latent_factor),
            levels=level,
            ids=self.tokenizer(
                list(examples.texts),
                padding="max_length",
                truncation=True,
                max_length=self.tokenizer.model_max_length,
                return_tensors="pt",
            ).input_ids.to(device),
            inpainting=painted,
        )

    def _encoded(self, pixels: Tensor) -> Tensor:
        """Scaled latent means of images in [-1, 1]."""
        parts = pixels.to(self.vae.dtype).split(ENCODED_AT_ONCE)
        return torch.cat([mean_latents(self.vae, part) for part in parts])

    @torch.no_grad()
    def context(self, ids: Tensor) -> Tensor:
        """The encoded texts [B, L, D]."""
        hidden: Tensor = self.text(ids).last_hidden_state
        return hidden


def start_fingerprint(folder: Path, parts: Path) -> dict[str, object]:
    """A digest of the weights and the noise schedule of what `TextToImage.load` loads."""
    hashes = weight_hashes(folder, ("unet",)) | weight_hashes(parts, ("vae", "text_encoder"))
    config = read_json(folder, SCHEDULER_CONFIG)
    schedule = {name: value for name, value in config.items() if not name.startswith("_")}
    return {"model": digest([hashes, schedule])}
