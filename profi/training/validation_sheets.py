"""Validation pictures during a training: the averaged weights paint the same triplets each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import Tensor

from profi.baselines.smartbrush import SMARTBRUSH, SmartBrush
from profi.data.masks import triplet_mask
from profi.data.pictures import load_image
from profi.fitting import fit
from profi.models.backbone import Backbone
from profi.models.schedule import Schedule
from profi.models.text import PromptEncoder, TextTower
from profi.settings.evaluation import OURS
from profi.settings.method import Sampling
from profi.training.examples import TextToImage
from profi.types import Triplet, noise_seed


@dataclass(frozen=True)
class ValidationSheets:
    """Paints `triplets` of images in `root` and writes a sheet of them, `<update>.png`.

    A column per triplet: the picture, the hole and what was painted.
    """

    model: TextToImage
    root: Path
    triplets: Sequence[Triplet]
    folder: Path
    side: int
    level: int
    sampling: Sampling = field(default_factory=Sampling)

    def __call__(self, unet: UNet2DConditionModel, step: int) -> Path:
        """Paint with a UNet of that many updates; returns the sheet's path."""
        device = unet.device
        backbone = Backbone.from_parts(
            unet,
            self.model.vae,
            PromptEncoder(TextTower(self.model.text, self.model.tokenizer, device)),
            Schedule.from_config(self.model.scheduler.config),
            role=SMARTBRUSH,
        )
        row = SmartBrush(backbone, self.sampling, self.level)
        columns = []
        for triplet in self.triplets:
            pixels = torch.from_numpy(load_image(self.root, triplet)).permute(2, 0, 1) / 255
            mask = torch.from_numpy(triplet_mask(triplet))
            fitted = fit(pixels, mask, self.side, row.pixel_multiple, OURS)
            image, hole = fitted.image[None], fitted.mask[None]
            painted = row(image, hole, [triplet.prompt], [noise_seed(0, triplet.triplet_id)])
            shown = torch.where(hole[:, None], 0.5, image)
            columns.append(_square(torch.cat([image, shown, painted], dim=2)[0], self.side))
        sheet = torch.cat(columns, dim=2).clamp(0, 1)
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"{step:07d}.png"
        Image.fromarray((sheet.permute(1, 2, 0) * 255).round().byte().numpy()).save(target)
        return target


def _square(column: Tensor, side: int) -> Tensor:
    """A column of three pictures [3, 3 h, w] as [3, 3 side, side], padded with white."""
    h, w = column.shape[1] // 3, column.shape[2]
    out = torch.ones(3, 3 * side, side)
    for i in range(3):
        out[:, i * side : i * side + h, :w] = column[:, i * h : (i + 1) * h, :side]
    return out
