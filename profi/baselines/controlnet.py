"""ControlNet inpainting (Zhang & Agrawala 2023): a text-to-image model with a ControlNet.

It runs diffusers' own pipeline, which also puts the noised known latents back after every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, StableDiffusionControlNetInpaintPipeline
from torch import Tensor

from profi.baselines.baseline import Baseline, Inputs, ddim_scheduler, paint_with
from profi.inpainter import Progress
from profi.models.backbone import Backbone, OnBackbone, backbone_identity, config_values
from profi.models.model_folder import file_hashes, hub_snapshot, load_weights, loading
from profi.settings.method import Sampling
from profi.types import UserError, digest

#: The condition's value in the hole.
HOLE = -1.0
KEY = "model.controlnet.path"


@dataclass(frozen=True)
class LoadedControlNet:
    """A ControlNet and the SHA-256 of its files."""

    model: ControlNetModel
    weights: Mapping[str, str]


def load_controlnet(
    source: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> LoadedControlNet:
    """Load a ControlNet from a local folder (config.json and safetensors) or by its Hub id."""
    folder = Path(source)
    if not folder.is_dir():
        folder = hub_snapshot(
            str(source),
            ("*.json", "*.safetensors"),
            lambda found: (found / "config.json").is_file() and any(found.glob("*.safetensors")),
            KEY,
        )
    model = loading(folder, "", partial(load_weights, ControlNetModel), KEY)
    model.to(device, dtype).eval().requires_grad_(False)
    return LoadedControlNet(model, file_hashes(folder, "controlnet"))


def known_part(images: Tensor, masks: Tensor) -> Tensor:
    """The condition [B, 3, H, W] of images in [0, 1]: the known pixels, and -1 in the hole."""
    return torch.where(masks[:, None], HOLE, images)


@dataclass(frozen=True)
class ControlNetInpainting(OnBackbone, Baseline):
    """A `Row`: a text-to-image model with a ControlNet for inpainting.

    `scale` multiplies the ControlNet's output, which is added in the UNet. Raises UserError if the
    ControlNet does not fit the UNet.
    """

    controlnet: LoadedControlNet
    sampling: Sampling = field(default_factory=Sampling)
    scale: float = 1.0
    _pipeline: StableDiffusionControlNetInpaintPipeline = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        _check_fits(self.controlnet.model, self.backbone)
        pipeline = StableDiffusionControlNetInpaintPipeline(
            vae=self.backbone.vae,
            text_encoder=None,
            tokenizer=None,
            unet=self.backbone.unet,
            controlnet=self.controlnet.model,
            scheduler=ddim_scheduler(self.backbone.schedule),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        object.__setattr__(self, "_pipeline", pipeline)

    @property
    def identity(self) -> dict[str, Any]:
        """See `Row`."""
        chosen = {
            "weights": digest(dict(self.controlnet.weights)),
            "config": digest(config_values(self.controlnet.model.config)),
            "scale": self.scale,
        }
        return {
            **backbone_identity(self.backbone),
            "controlnet": chosen,
            "sampling": asdict(self.sampling),
        }

    def paint(self, inputs: Inputs, progress: Progress) -> Tensor:
        """See `Baseline`."""
        return paint_with(
            self._pipeline,
            self.backbone,
            self.sampling,
            inputs,
            progress,
            control_image=known_part(inputs.images.float(), inputs.masks),
            controlnet_conditioning_scale=self.scale,
        )


def _check_fits(controlnet: ControlNetModel, backbone: Backbone) -> None:
    """Raise UserError unless the ControlNet has the UNet's latents, texts and blocks."""
    shared = ("in_channels", "cross_attention_dim", "block_out_channels", "layers_per_block")
    for name in shared:
        ours, theirs = backbone.unet.config[name], controlnet.config[name]
        if _plain(ours) != _plain(theirs):
            raise UserError(
                f"the ControlNet has {name}={theirs} and the UNet {ours}; "
                f"give the ControlNet that was made for this model ({KEY}=...)"
            )
    halvings = len(controlnet.config.conditioning_embedding_out_channels) - 1
    if 2**halvings != backbone.latent_factor:
        raise UserError(
            f"the ControlNet reads images {2**halvings} times the latents' size and the VAE's are "
            f"{backbone.latent_factor} times; give the ControlNet made for this model ({KEY}=...)"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
