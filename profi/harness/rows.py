"""Builds the rows of a table from the settings, with one set of weights for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from profi.baselines.blended_latent_diffusion import (
    BackgroundReconstruction,
    BlendedLatentDiffusion,
)
from profi.baselines.controlnet import ControlNetInpainting, load_controlnet
from profi.baselines.glide import GLIDE
from profi.baselines.glide_stage import Stage, load_stage
from profi.baselines.sdxl_inpainting import SDXLInpainting
from profi.baselines.smartbrush import SMARTBRUSH, SmartBrush
from profi.catalogue import catalogue
from profi.inpainter import Row
from profi.method.inpainting import StableInpainting
from profi.method.methods import Method
from profi.models.backbone import Backbone, load_backbone, memory_format
from profi.models.compiled import CompiledBlocks
from profi.models.devices import resolve_device
from profi.models.unet_role import INPAINTING, TEXT_TO_IMAGE, UNetRole
from profi.settings import ModelConfig, Sampling, WeightsConfig, shipped_path
from profi.settings.evaluation import Noise
from profi.settings.presets import hub_id
from profi.types import UserError
from profi.weights import verified_file


def load_model(model: ModelConfig, role: UNetRole = INPAINTING) -> Backbone:
    """The model's parts on their device; its UNet compiled if `model.compile`."""
    device = resolve_device("model.device", model.device)
    backbone = load_backbone(
        model_source(model),
        device,
        model.dtype,
        memory_format(model.channels_last),
        model.vae_dtype,
        role,
        None if model.unet is None else _folder(model, "unet", model.unet),
    )
    if model.compile:
        CompiledBlocks(backbone.unet).install()
    return backbone


def model_source(model: ModelConfig) -> str | Path:
    """The model's folder or its Hub id; UserError for a folder that does not exist."""
    if model.path is None:
        return model.id
    return hub_id(model.path) or _folder(model, "path", model.path)


def _folder(model: ModelConfig, key: str, text: str) -> Path:
    folder = shipped_path(text)
    if not folder.is_dir():
        raise UserError(
            f"{model.id}: there is no folder {folder}; "
            f"point model.{key}=... at a local folder in the diffusers layout"
        )
    return folder


@dataclass(frozen=True)
class RowContext:
    """The arguments of a row's builder.

    `method` is None for rows with only the ablation base; `own` are a plugin's own settings;
    `load` loads the model, once for all rows that share it.
    """

    model: ModelConfig
    sampling: Sampling
    noise: Noise = "picture"
    method: Method | None = None
    own: Any = None
    load: Callable[[ModelConfig], Backbone] = load_model


def load_rows(context: RowContext, methods: Sequence[Method]) -> dict[str, Row]:
    """One row per method, by name; all share one set of weights.

    Raises:
        UserError: the model cannot be loaded, or `model.pad_multiple` does not fit it.
    """
    entry = catalogue.inpainters.get(context.model.inpainter)
    target = entry.load()
    by_name = {one.name: one for one in methods}
    rows: dict[str, Row]
    if entry.ablated:
        load = cache(load_model)
        rows = {
            name: target(replace(context, method=one, load=load)) for name, one in by_name.items()
        }
    else:
        rows = dict.fromkeys(by_name, target(context))
    for row in rows.values():
        if context.model.pad_multiple % row.pixel_multiple:
            raise UserError(
                f"model.pad_multiple={context.model.pad_multiple}: "
                f"this model needs a multiple of {row.pixel_multiple}"
            )
    return rows


def stable_inpainting(context: RowContext) -> Row:
    """Stable Inpainting with a method."""
    assert context.method is not None
    backbone = context.load(context.model)
    return StableInpainting(backbone, context.method, context.sampling, context.noise)


def blended_latent_diffusion(context: RowContext) -> Row:
    """Blended Latent Diffusion on a text-to-image model."""
    chosen = context.model.blended_latent_diffusion
    background = BackgroundReconstruction(
        chosen.background_steps, chosen.background_weight, chosen.background_lr
    )
    return BlendedLatentDiffusion(
        load_model(context.model, TEXT_TO_IMAGE),
        context.sampling,
        chosen.skip,
        chosen.start,
        background,
        context.noise,
    )


def sdxl_inpainting(context: RowContext) -> Row:
    """SDXL Inpainting in diffusers' pipeline."""
    backbone = _load_for_diffusers(context.model, INPAINTING)
    return SDXLInpainting(backbone, context.sampling, context.model.sdxl_inpainting.strength)


def controlnet(context: RowContext) -> Row:
    """A text-to-image model with a ControlNet for inpainting, in diffusers' pipeline."""
    model = context.model
    chosen = model.controlnet
    # `ModelConfig` has checked it.
    assert chosen.path is not None
    source = hub_id(chosen.path) or _folder(model, "controlnet.path", chosen.path)
    backbone = _load_for_diffusers(model, TEXT_TO_IMAGE)
    loaded = load_controlnet(source, backbone.device, backbone.unet.dtype)
    return ControlNetInpainting(backbone, loaded, context.sampling, chosen.scale)


def glide(context: RowContext) -> Row:
    """GLIDE's two models, from OpenAI's package."""
    model, chosen = context.model, context.model.glide
    device = resolve_device("model.device", model.device)

    def stage(name: str, weights: WeightsConfig, steps: str) -> Stage:
        key = f"model.glide.{name}.path"
        path = verified_file(weights.path or "", weights.sha256, key)
        return load_stage(path, key, name == "upsampler", steps, device, model.dtype == "float16")

    return GLIDE(
        stage("base", chosen.base, chosen.base_steps),
        stage("upsampler", chosen.upsampler, chosen.upsampler_steps),
        torch.device(device),
        context.sampling,
        chosen.guidance_scale,
        chosen.temperature,
        context.noise,
    )


def _load_for_diffusers(model: ModelConfig, role: UNetRole) -> Backbone:
    """The model with one dtype for all parts."""
    return load_model(replace(model, vae_dtype=model.dtype), role)


def smartbrush(context: RowContext) -> Row:
    """SmartBrush; its trained weights are not published."""
    model = context.model
    if model.path is None and model.unet is None:
        raise UserError(
            f"{model.id}: nobody publishes SmartBrush's weights: train them with "
            "scripts/train_smartbrush.py (docs/smartbrush.md) and set model.path to its result"
        )
    chosen = model.smartbrush
    return SmartBrush(
        load_model(model, SMARTBRUSH),
        context.sampling,
        chosen.level,
        chosen.composition,
        context.noise,
    )
