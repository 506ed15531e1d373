"""From settings to the objects that do the work; the last place that knows a config's fields."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, try_to_load_from_cache

from profi.config import Config, DataConfig, MetricConfig, ModelConfig, SamplingConfig, shipped_path
from profi.data.coco import Candidates, read_coco, sample_triplets
from profi.data.images import image_path
from profi.inpainters.ablations import Guidance, Method, compose
from profi.inpainters.backbone import Backbone, load_backbone, memory_format
from profi.inpainters.compiled import CompiledBlocks
from profi.inpainters.devices import resolve_device
from profi.inpainters.model_folder import HUB_ERRORS, HUB_TIMEOUT_SECONDS
from profi.inpainters.readings import READINGS, Reading
from profi.inpainters.stable_inpainting import Sampling, StableInpainting
from profi.metrics import (
    AestheticScore,
    CLIPScore,
    GenerationAccuracy,
    KnownRegionPSNR,
    Metric,
    TransformersDetector,
)
from profi.types import Triplet, UserError

log = logging.getLogger(__name__)


def load_triplets(data: DataConfig) -> tuple[tuple[Triplet, ...], Candidates]:
    """The sampled triplets, and what they were sampled from.

    Raises:
        UserError: no folder, no annotations, too few instances, or a folder that lacks most of
            the sampled images (some may be missing: these are set aside when their turn comes).
    """
    root, annotations = shipped_path(data.root), shipped_path(data.annotations)
    if not root.is_dir():
        raise UserError(f"{root} is no folder: set data.root to the images' folder")
    candidates = read_coco(annotations, data.min_area)
    triplets = sample_triplets(candidates.triplets, data.limit, data.sample_seed)
    paths = [image_path(root, triplet) for triplet in triplets]
    missing = [path for path in paths if not path.is_file()]
    if 2 * len(missing) > len(paths):
        raise UserError(
            f"{len(missing)} of the {len(paths)} sampled images are not in {root} "
            f"(such as {missing[0].name}): set data.root to the images' folder"
        )
    if missing:
        log.warning("%d images are missing, such as %s", len(missing), missing[0])
    return triplets, candidates


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


def load_metrics(config: MetricConfig, device: str) -> list[Metric]:
    """The wanted metrics in the wanted order."""
    device = resolve_device("model.device", device)
    builders: dict[str, Callable[[MetricConfig, str], Metric]] = {
        "clip_score": _clip_score,
        "accuracy": _accuracy,
        "aesthetic": _aesthetic,
        "known_region_psnr": lambda _config, _device: KnownRegionPSNR(),
    }
    return [builders[name](config, device) for name in config.metrics]


def _clip_score(config: MetricConfig, device: str) -> Metric:
    path = _weights("metric.clip.path", config.clip.path)
    return CLIPScore.from_pretrained(path, device=device, batch_size=config.batch_size)


def _accuracy(config: MetricConfig, device: str) -> Metric:
    path = _weights("metric.accuracy.path", config.accuracy.path)
    detector = TransformersDetector.from_pretrained(
        path, device=device, batch_size=config.batch_size
    )
    return GenerationAccuracy(detector, config.accuracy.threshold)


def _aesthetic(config: MetricConfig, device: str) -> Metric:
    path = Path(_weights("metric.aesthetic.path", config.aesthetic.path))
    clip = _weights("metric.aesthetic.clip_path", config.aesthetic.clip_path)
    return AestheticScore.from_pretrained(path, clip, device=device, batch_size=config.batch_size)


def _weights(key: str, text: str | None) -> str:
    """A folder or a repository id; UserError naming the key where neither is set."""
    if not text:
        raise UserError(f"{key} is not set: give a local folder, or leave the metric out")
    local = shipped_path(text)
    # What looks like a path and is not there must not be asked for on the network.
    looks_local = text.startswith(("shipped:", "/", ".", "~")) or text.count("/") > 1
    if looks_local and not local.exists():
        raise UserError(f"{key}={text}: {local} does not exist; give a local folder")
    if local.exists():
        return str(local)
    _check_hub(key, text)
    return text


def _check_hub(key: str, repository: str) -> None:
    """UserError, soon, for a repository that is neither cached nor reachable.

    Left to itself the download asks again for half a minute.
    """
    try:
        # Refuses what cannot be the name of a repository, too.
        if isinstance(try_to_load_from_cache(repository, "config.json"), str):
            return
        HfApi().model_info(repository, timeout=HUB_TIMEOUT_SECONDS)
    except HUB_ERRORS as error:
        raise UserError(
            f"{key}={repository} is neither a local folder nor to be had from the Hugging Face Hub "
            f"({type(error).__name__}): give a local folder with {key}=..."
        ) from error
