"""From settings to the objects that do the work; the last place that knows a config's fields."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

import torch

from profi.config import Config, DataConfig, ModelConfig, SamplingConfig, shipped_path
from profi.data.coco import Candidates, read_coco, sample_triplets
from profi.data.images import image_path
from profi.inpainters.ablations import Guidance, Method, compose
from profi.inpainters.backbone import Backbone, load_backbone
from profi.inpainters.readings import READINGS, Reading
from profi.inpainters.stable_inpainting import Sampling, StableInpainting
from profi.types import Triplet, UserError

log = logging.getLogger(__name__)


def resolve_device(name: str) -> str:
    """`auto` becomes the best device there is; UserError for one that is not there."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    if name.startswith("cuda"):
        index = int(name.partition(":")[2] or 0)
        if not cuda or index >= torch.cuda.device_count():
            raise UserError(f"model.device={name}: PyTorch sees no such device; use device=auto")
    if name == "mps" and not mps:
        raise UserError("model.device=mps: PyTorch sees no such device; use device=auto")
    return name


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
    """The model's parts on their device."""
    device = resolve_device(model.device)
    if model.path is None:
        return load_backbone(model.id, device, model.dtype)
    folder = shipped_path(model.path)
    if not folder.is_dir():
        raise UserError(
            f"{model.id}: there is no folder {folder}; "
            "point model.path=... at a local folder in the diffusers layout"
        )
    return load_backbone(folder, device, model.dtype)


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
