"""From settings to the objects that do the work; the last place that knows a config's fields."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from profi.config import Config, ModelConfig, SamplingConfig, shipped_path
from profi.inpainters.ablations import Guidance, Method, compose
from profi.inpainters.backbone import Backbone, load_backbone, memory_format
from profi.inpainters.compiled import CompiledBlocks
from profi.inpainters.devices import resolve_device
from profi.inpainters.readings import READINGS, Reading
from profi.inpainters.stable_inpainting import Sampling, StableInpainting
from profi.types import UserError


def load_model(model: ModelConfig) -> Backbone:
    """The model's parts on their device, its UNet compiled where that is asked for."""
    device = resolve_device("model.device", model.device)
    source: str | Path = model.id
    if model.path is not None:
        source = shipped_path(model.path)
        if not source.is_dir():
            raise UserError(
                f"{model.id}: there is no folder {source}; "
                "point model.path=... at a local folder in the diffusers layout"
            )
    layout = memory_format(model.channels_last)
    backbone = load_backbone(source, device, model.dtype, layout, model.vae_dtype)
    if model.compile:
        CompiledBlocks(backbone.unet).install()
    return backbone


def reading(config: Config) -> Reading:
    """How the paper is read."""
    return Reading(**asdict(config.reading))


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


def sampling(settings: SamplingConfig) -> Sampling:
    """How the diffusion is sampled, less eta, which belongs to the method."""
    return Sampling(
        num_inference_steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale,
        positive=settings.positive_prompt,
        negative=settings.negative_prompt,
        output=settings.output,  # type: ignore[arg-type]  # Sampling checks it
    )


def inpainter(config: Config, backbone: Backbone, ablation: str) -> StableInpainting:
    """One row of the table on a shared model."""
    return StableInpainting(backbone, method(config, ablation), sampling(config.sampling))
