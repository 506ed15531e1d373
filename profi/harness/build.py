"""From settings to the objects that do the work; the last place that knows a config's fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from profi.baselines.blended_latent_diffusion import BackgroundReconstruction
from profi.baselines.blended_latent_diffusion import BlendedLatentDiffusion
from profi.baselines.controlnet import ControlNetInpainting, load_controlnet
from profi.baselines.glide import GLIDE
from profi.baselines.glide_stage import Stage, load_stage
from profi.baselines.sdxl_inpainting import SDXLInpainting
from profi.baselines.smartbrush import SMARTBRUSH, SmartBrush
from profi.inpainter import Row, Sampling
from profi.method.ablations import Guidance, Method, compose
from profi.method.inpainting import StableInpainting
from profi.models.backbone import Backbone, load_backbone, memory_format
from profi.models.compiled import CompiledBlocks
from profi.models.devices import resolve_device
from profi.models.unet_role import INPAINTING, TEXT_TO_IMAGE, UNetRole
from profi.settings import (
    ABLATED,
    Config,
    ModelConfig,
    WeightsConfig,
    shipped_path,
)
from profi.settings.evaluation import Evaluation
from profi.settings.presets import hub_id
from profi.settings.reading import READINGS, Reading
from profi.types import UserError
from profi.weights import verified_file


def load_rows(config: Config) -> dict[str, Row]:
    """The wanted ablations of the model, by name, all on one set of weights.

    Raises:
        UserError: what cannot be loaded, or a padding that the model cannot halve.
    """
    names = dict.fromkeys(name for name, _ in config.wanted)
    if config.model.inpainter == ABLATED:
        backbone = load_model(config.model)
        rows: dict[str, Row] = {name: inpainter(config, backbone, name) for name in names}
    else:
        rows = dict.fromkeys(names, BASELINES[config.model.inpainter](config))
    for row in rows.values():
        if config.model.pad_multiple % row.pixel_multiple:
            raise UserError(
                f"model.pad_multiple={config.model.pad_multiple}: "
                f"this model needs a multiple of {row.pixel_multiple}"
            )
    return rows


def load_model(model: ModelConfig, role: UNetRole = INPAINTING) -> Backbone:
    """The model's parts on their device, its UNet compiled where that is asked for."""
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
    """The model's folder or its Hub id; UserError for a folder that is not there."""
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


def reading(config: Config) -> Reading:
    """How the paper is read."""
    return Reading(**asdict(config.reading))


def evaluation(config: Config) -> Evaluation:
    """The protocol, apart from the method."""
    return Evaluation(**asdict(config.evaluation))


def guidance(config: Config) -> Guidance:
    """What is chosen of the guidance beside the reading."""
    rasg = config.rasg
    return Guidance(
        objective=rasg.objective,  # type: ignore[arg-type]  # the config checked it
        every=rasg.every,
        until=rasg.until,
        vanilla_scale=config.vanilla.scale,
    )


def method(config: Config, ablation: str) -> Method:
    """The composed method of a row."""
    return compose(ablation, reading(config), guidance(config))


def reading_label(config: Config) -> str:
    """The bundle's name, followed by what was changed in it and in the guidance.

    For instance `paper, eta=0.05, every=2`.
    """
    chosen = reading(config)
    changed = _changed(asdict(chosen), asdict(READINGS[chosen.name]))
    changed += _changed(asdict(guidance(config)), asdict(Guidance()))
    return ", ".join([chosen.name, *changed])


def _changed(values: dict[str, Any], usual: dict[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in values.items() if value != usual[name]]


def sampling(config: Config) -> Sampling:
    """How the diffusion is sampled, less eta, which belongs to the method."""
    settings = config.sampling
    return Sampling(
        num_inference_steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale,
        positive=settings.positive_prompt,
        negative=settings.negative_prompt,
        output=settings.output,  # type: ignore[arg-type]  # Sampling checks it
        noise=evaluation(config).noise,
    )


def inpainter(config: Config, backbone: Backbone, ablation: str) -> StableInpainting:
    """One row of the table on a shared model."""
    return StableInpainting(backbone, method(config, ablation), sampling(config))


def blended_latent_diffusion(config: Config) -> Row:
    """Blended Latent Diffusion on a text-to-image model."""
    chosen = config.model.blended_latent_diffusion
    background = BackgroundReconstruction(
        chosen.background_steps, chosen.background_weight, chosen.background_lr
    )
    return BlendedLatentDiffusion(
        load_model(config.model, TEXT_TO_IMAGE),
        sampling(config),
        chosen.skip,
        chosen.start,  # type: ignore[arg-type]  # the config checked it
        background,
    )


def sdxl_inpainting(config: Config) -> Row:
    """SDXL Inpainting by diffusers' pipeline."""
    backbone = _load_for_diffusers(config.model, INPAINTING)
    return SDXLInpainting(backbone, sampling(config), config.model.sdxl_inpainting.strength)


def controlnet(config: Config) -> Row:
    """A text-to-image model with a ControlNet for inpainting, by diffusers' pipeline."""
    model = config.model
    chosen = model.controlnet
    # Refused by the config.
    assert chosen.path is not None
    source = hub_id(chosen.path) or _folder(model, "controlnet.path", chosen.path)
    backbone = _load_for_diffusers(model, TEXT_TO_IMAGE)
    loaded = load_controlnet(source, backbone.device, backbone.unet.dtype)
    return ControlNetInpainting(backbone, loaded, sampling(config), chosen.scale)


def glide(config: Config) -> Row:
    """GLIDE's two models, by OpenAI's package."""
    model, chosen = config.model, config.model.glide
    device = resolve_device("model.device", model.device)

    def stage(name: str, weights: WeightsConfig, steps: str) -> Stage:
        key = f"model.glide.{name}.path"
        path = verified_file(weights.path or "", weights.sha256, key)
        return load_stage(path, key, name == "upsampler", steps, device, model.dtype == "float16")

    return GLIDE(
        stage("base", chosen.base, chosen.base_steps),
        stage("upsampler", chosen.upsampler, chosen.upsampler_steps),
        torch.device(device),
        sampling(config),
        chosen.guidance_scale,
        chosen.temperature,
    )


def _load_for_diffusers(model: ModelConfig, role: UNetRole) -> Backbone:
    """With one dtype throughout."""
    return load_model(replace(model, vae_dtype=model.dtype), role)


def smartbrush(config: Config) -> Row:
    """SmartBrush, of which no trained weights are published."""
    model = config.model
    if model.path is None and model.unet is None:
        raise UserError(
            f"{model.id}: nobody publishes SmartBrush's weights: train them with "
            "scripts/train_smartbrush.py (docs/smartbrush.md) and set model.path to its result"
        )
    chosen = model.smartbrush
    return SmartBrush(
        load_model(model, SMARTBRUSH),
        sampling(config),
        chosen.level,
        chosen.composition,  # type: ignore[arg-type]  # the config checked it
    )


#: How the inpainters without ablations are loaded, by `model.inpainter`.
BASELINES: Mapping[str, Callable[[Config], Row]] = MappingProxyType(
    {
        "blended_latent_diffusion": blended_latent_diffusion,
        "sdxl_inpainting": sdxl_inpainting,
        "controlnet": controlnet,
        "glide": glide,
        "smartbrush": smartbrush,
    }
)
