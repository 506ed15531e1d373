"""The embedded world's categories (with COCO's ids and names) and sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from profi.metrics.detectors import COCO_CATEGORIES
from profi.types import UserError

SHIPPED = Path(__file__).parent / "shipped"
SPRITES = Path(__file__).parent / "sprites"

CPU_CATEGORIES = (
    "airplane",
    "apple",
    "banana",
    "bus",
    "car",
    "clock",
    "cup",
    "donut",
    "elephant",
    "pizza",
    "teddy bear",
    "umbrella",
)
GPU_CATEGORIES = (
    "airplane",
    "apple",
    "banana",
    "bear",
    "bicycle",
    "bird",
    "boat",
    "book",
    "broccoli",
    "bus",
    "cake",
    "car",
    "carrot",
    "cat",
    "chair",
    "clock",
    "cup",
    "dog",
    "donut",
    "elephant",
    "giraffe",
    "horse",
    "motorcycle",
    "orange",
    "pizza",
    "potted plant",
    "sports ball",
    "stop sign",
    "teddy bear",
    "train",
    "umbrella",
    "zebra",
)


@dataclass(frozen=True)
class World:
    """One size of the embedded world; its images are square, lengths are in pixels."""

    size: Literal["cpu", "gpu"]
    image_size: int
    categories: tuple[str, ...]
    vae_channels: tuple[int, ...]
    unet_channels: tuple[int, ...]
    unet_layers: int
    text_width: int
    clip_image_size: int
    detector_size: int
    latent_channels: int = 4
    token_limit: int = 32
    max_objects: int = 4
    category_ids: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        ids = {name: COCO_CATEGORIES[name] for name in self.categories}
        object.__setattr__(self, "category_ids", ids)

    @property
    def latent_size(self) -> int:
        """Side of the latents: the VAE halves once per level after the first."""
        return self.image_size // 2 ** (len(self.vae_channels) - 1)

    @property
    def sprite_size(self) -> int:
        """Side of a stored sprite: the size of the largest object, so no sprite is enlarged."""
        return self.image_size * 5 // 8

    @property
    def folder(self) -> Path:
        """The folder with this size's shipped data and models."""
        return SHIPPED / self.size


WORLDS: dict[str, World] = {
    "cpu": World(
        "cpu",
        128,
        CPU_CATEGORIES,
        (8, 16, 48, 96),
        (96, 96, 128),
        1,
        128,
        64,
        64,
        latent_channels=8,
    ),
    "gpu": World("gpu", 128, GPU_CATEGORIES, (32, 64, 96), (80, 96, 128), 1, 160, 64, 128),
}


def world(size: str) -> World:
    """The world of a size; UserError for an unknown size."""
    if size not in WORLDS:
        raise UserError(f"size={size}: choose {' or '.join(WORLDS)}")
    return WORLDS[size]
