"""The inputs of a diffusers pipeline's call, as the inpainter takes them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils import USE_PEFT_BACKEND, scale_lora_layers, unscale_lora_layers
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor, nn

from profi.data.pictures import check_pair
from profi.fitting import Extent, fit_mask, fit_picture
from profi.inpainter import precise
from profi.inputs import image_tensor, mask_tensor, pil_image, several, several_masks
from profi.method.inpainting import Given
from profi.models.backbone import Backbone
from profi.models.text import Conditioning, TextTower
from profi.models.tokens import with_suffix
from profi.settings.evaluation import Evaluation, Noise
from profi.types import UserError, check_text

log = logging.getLogger(__name__)
#: Proportions that differ by less are those of one picture, rounded to whole pixels.
SQUEEZED = 0.02

Prompts = str | Sequence[str] | None


@dataclass(frozen=True)
class Texts:
    """The texts of a call and their embeddings, for all its paintings.

    `prompts` are B texts ("" where only embeddings are given), `negative` the negative text;
    `given` has what replaces the inpainter's own encoding of them.
    """

    prompts: list[str]
    negative: str
    given: Given


def texts_of(
    backbone: Backbone,
    convert: Callable[[str], str],
    prompt: Prompts,
    negative: Prompts,
    positive: str,
    embeds: Tensor | None,
    negative_embeds: Tensor | None,
    words: Tensor | None,
    count: int,
    clip_skip: int | None,
    guidance_scale: Callable[[], float],
) -> Texts:
    """The texts of `count` paintings per prompt.

    `convert` expands the names of textual inversions; `words` is ind(tau) [N, L] of the embeddings.

    Raises:
        UserError: neither prompt nor embeddings, or lists and embeddings of different lengths.
    """
    if prompt is None and embeds is None:
        raise UserError("prompt is None: give a prompt, or prompt_embeds")
    if embeds is not None and embeds.ndim != 3:
        raise UserError(f"prompt_embeds have the shape {tuple(embeds.shape)}; give [N, L, D]")
    prompts = None if prompt is None else _listed("prompt", prompt)
    n = len(embeds) if embeds is not None else len(prompts or ())
    if prompts is None:
        prompts = [""] * n
    if len(prompts) != n or n == 0:
        raise UserError(f"{len(prompts)} prompts and {n} prompt_embeds: give one of each")
    negatives = _listed("negative_prompt", negative or "")
    negatives = negatives * n if len(negatives) == 1 else negatives
    if len(negatives) != n:
        raise UserError(f"{len(negatives)} negative prompts for {n} prompts: give one, or {n}")
    prompts, negatives = [convert(p) for p in prompts], [convert(p) for p in negatives]
    texts = [text for text in prompts for _ in range(count)]
    given = Given(guidance_scale=guidance_scale)
    if words is not None:
        length = backbone.text.first.token_limit if embeds is None else embeds.shape[1]
        if tuple(words.shape) != (n, length):
            raise UserError(
                f"prompt_words have the shape {tuple(words.shape)}; give bool {(n, length)}"
            )
        given = replace(given, words=words.bool().repeat_interleave(count, dim=0))
    if embeds is None and negative_embeds is None and len(set(negatives)) == 1 and not clip_skip:
        return Texts(texts, negatives[0], given)
    tower = backbone.text.first
    if embeds is None:
        embeds = embedded(tower, [with_suffix(p, positive) for p in prompts], clip_skip)
    if negative_embeds is None:
        negative_embeds = embedded(tower, negatives, clip_skip)
    if negative_embeds.shape != embeds.shape:
        raise UserError(
            f"negative_prompt_embeds have the shape {tuple(negative_embeds.shape)} and "
            f"prompt_embeds {tuple(embeds.shape)}; give equal ones"
        )
    conditional, unconditional = (
        Conditioning(e.to(backbone.device, backbone.unet.dtype).repeat_interleave(count, dim=0))
        for e in (embeds, negative_embeds)
    )
    given = replace(given, texts=(conditional, unconditional))
    return Texts(texts, negatives[0], given)


@torch.no_grad()
def embedded(tower: TextTower, prompts: Sequence[str], clip_skip: int | None) -> Tensor:
    """[N, L, D]: the last hidden states, or those `clip_skip` layers before, normalised."""
    if not clip_skip:
        last: Tensor = tower(prompts).last_hidden_state
        return last
    encoder: Any = tower.encoder
    states = tower(prompts, hidden_states=True).hidden_states
    if not 0 < clip_skip < len(states):
        raise UserError(f"clip_skip={clip_skip}: the text encoder has {len(states) - 1} layers")
    text_model = getattr(encoder, "text_model", encoder)
    skipped: Tensor = text_model.final_layer_norm(states[-(clip_skip + 1)])
    return skipped


def _warn_of_squeezing(image: Tensor, mask: Tensor) -> None:
    """Log if a mask [h, w] has other proportions than its image [3, H, W]."""
    (height, width), (mask_height, mask_width) = image.shape[1:], mask.shape
    if abs(mask_width * height / (width * mask_height) - 1) > SQUEEZED:
        log.warning(
            "mask_image is %dx%d and its image %dx%d: it is squeezed to the image's proportions",
            mask_width,
            mask_height,
            width,
            height,
        )


def pictures_of(
    image: Any,
    mask_image: Any,
    requested: tuple[int | None, int | None],
    multiple: int,
    counts: tuple[int, int],
    evaluation: Evaluation,
) -> tuple[Tensor, Tensor]:
    """Images [count, 3, H, W] in [0, 1] and masks [count, H, W] bool.

    `counts` are the numbers of prompts and of paintings. `requested` is (height, width); None is
    the first image's. Both are rounded down to `multiple`. As in diffusers a mask may have another
    size than its image; other proportions are logged.
    """
    count = counts[1]
    images = [image_tensor(item) for item in several(image)]
    masks = [mask_tensor(item, "mask_image") for item in several_masks(mask_image)]
    for name, given in (("image", images), ("mask_image", masks)):
        if len(given) not in (1, *counts):
            raise UserError(
                f"{name}: {len(given)} given for {counts[0]} prompts and {count} paintings; give "
                "one, or one per prompt or painting"
            )
    for i in range(max(len(images), len(masks))):
        _warn_of_squeezing(images[i % len(images)], masks[i % len(masks)])
    height, width = (
        (own if side is None else side) // multiple * multiple
        for side, own in zip(requested, images[0].shape[1:], strict=True)
    )
    if height < 1 or width < 1:
        raise UserError(
            f"image: this model paints images of at least {multiple}x{multiple} pixels; "
            "give a larger image, or height and width"
        )
    size: Extent = (height, width)
    fitted = torch.stack([fit_picture(item, size, evaluation.picture) for item in images])
    holes = torch.stack([fit_mask(item, size, evaluation.mask) for item in masks])
    return (
        fitted.repeat_interleave(count // len(fitted), dim=0),
        holes.repeat_interleave(count // len(holes), dim=0),
    )


@dataclass(frozen=True)
class Cropped:
    """What is painted of an image: all of it, or the surroundings of its mask.

    `size` is the requested (height, width). With `box` (left, top, right, bottom) the painted part
    is pasted back into `original` inside of `hole`.
    """

    image: Any
    mask: Any
    size: tuple[int | None, int | None]
    box: tuple[int, int, int, int] | None = None
    original: Image.Image | None = None
    hole: Image.Image | None = None

    @classmethod
    def of(
        cls, image: Any, mask: Any, size: tuple[int | None, int | None], padding: int | None
    ) -> Cropped:
        """The crop `padding` pixels around the mask, in the aspect of `size`; None: no crop."""
        if padding is None:
            return cls(image, mask, size)
        if not isinstance(padding, int) or padding < 0:
            raise UserError(f"padding_mask_crop={padding}: give a whole number of pixels from 0")
        images, masks = several(image), several_masks(mask)
        if len(images) != 1 or len(masks) != 1:
            raise UserError("padding_mask_crop crops one image by one mask: give one of each")
        pixels, hole = image_tensor(images[0]), mask_tensor(masks[0], "mask_image")
        check_pair(pixels, hole, "image", "mask_image")
        if not hole.any():
            raise UserError("mask_image is empty: nothing to paint; make the part to paint white")
        original = pil_image((pixels * 255).round().byte())
        area = Image.fromarray(hole.numpy())
        height, width = size[0] or original.height, size[1] or original.width
        box = VaeImageProcessor.get_crop_region(area, width, height, pad=padding)
        return cls(original.crop(box), area.crop(box), (height, width), box, original, area)

    def pasted(self, painted: Image.Image) -> Image.Image:
        """The painted part in its place in the original; without a crop as it is."""
        if self.box is None or self.original is None or self.hole is None:
            return painted
        left, top, right, bottom = self.box
        part = painted.resize((right - left, bottom - top), Image.Resampling.LANCZOS)
        whole = self.original.copy()
        whole.paste(part, (left, top), self.hole.crop(self.box))
        return whole


def masked_of(latents: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    """E(I_M) as given, for all paintings; UserError for another shape."""
    if latents is None:
        return None
    if latents.ndim != 4 or tuple(latents.shape[1:]) != shape[1:] or shape[0] % len(latents):
        raise UserError(
            f"masked_image_latents have the shape {tuple(latents.shape)}; give {shape}, scaled"
        )
    return latents.float().repeat_interleave(shape[0] // len(latents), dim=0)


def plain(unet: Any) -> Any:
    """The module that `torch.compile` wrapped: the method changes the attention inside of it."""
    return getattr(unet, "_orig_mod", unet)


@contextmanager
def lora_scale(models: Sequence[nn.Module], scale: float | None) -> Iterator[None]:
    """Scale the models' LoRA weights inside the block."""
    if scale is None:
        yield
        return
    if not USE_PEFT_BACKEND:
        raise UserError("cross_attention_kwargs scale: LoRA weights need the package peft")
    for model in models:
        scale_lora_layers(model, scale)
    try:
        yield
    finally:
        for model in models:
            unscale_lora_layers(model, scale)


def start_of(
    shape: tuple[int, ...],
    generator: torch.Generator | list[torch.Generator] | None,
    latents: Tensor | None,
    device: torch.device,
    noise: Noise,
) -> Tensor:
    """x_T of `shape` [B, C, h, w], N(0, 1): drawn, or as given."""
    if latents is not None:
        if tuple(latents.shape) != shape:
            raise UserError(f"latents have the shape {tuple(latents.shape)}, not {shape}")
        return latents
    if isinstance(generator, list) and len(generator) != shape[0]:
        raise UserError(
            f"{len(generator)} generators for {shape[0]} paintings; give one, or one per painting"
        )
    return precise(randn_tensor(shape, generator, device, torch.float32), noise)


@contextmanager
def as_they_were(models: Sequence[nn.Module]) -> Iterator[None]:
    """Give the models back in the modes and with the gradients' switches that they came with.

    Inside, gradient checkpointing is off: it would run the attention again, outside of the method.
    """
    with ExitStack() as stack:
        for model in models:
            for module in model.modules():
                stack.callback(setattr, module, "training", module.training)
                if getattr(module, "gradient_checkpointing", False) is True:
                    stack.callback(setattr, module, "gradient_checkpointing", True)
                    setattr(module, "gradient_checkpointing", False)  # noqa: B010
            for parameter in model.parameters():
                stack.callback(parameter.requires_grad_, parameter.requires_grad)
        yield


def _listed(name: str, value: str | Sequence[str]) -> list[str]:
    items = value if isinstance(value, list | tuple) else [value]
    for item in items:
        if not isinstance(item, str):
            raise UserError(f"{name} is of type {type(item).__name__}; give a text or several")
        check_text(name, item)
    return list(items)
