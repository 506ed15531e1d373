"""Crops of objects, padded to squares as the CLIP score takes them, and corrupted images."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from profi.mini.scenes import Scenes


def boxes_of(masks: Tensor) -> Tensor:
    """Tight boxes [..., 4] as (x0, y0, x1, y1) shares of the side; zeros for an empty mask."""
    size = masks.shape[-1]
    index = torch.arange(size, device=masks.device, dtype=torch.float32)
    columns, rows = masks.any(-2), masks.any(-1)
    low = [torch.where(m, index, float(size)).amin(-1) for m in (columns, rows)]
    high = [torch.where(m, index + 1, 0.0).amax(-1) for m in (columns, rows)]
    boxes = torch.stack([low[0], low[1], high[0], high[1]], -1) / size
    return boxes * masks.flatten(-2).any(-1, keepdim=True)


def view_resize(images: Tensor, views: Tensor, side: int) -> Tensor:
    """Resample views [N, 4] (x0, y0, x1, y1; they may leave the image) to [N, 3, side, side].

    What lies outside the image is black.
    """
    theta = torch.zeros(len(views), 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1] = (views[:, 2:] - views[:, :2]).unbind(1)
    theta[:, :, 2] = views[:, :2] + views[:, 2:] - 1
    grid = F.affine_grid(theta, [len(views), 3, side, side], align_corners=False)
    return F.grid_sample(images, grid, align_corners=False, padding_mode="zeros")


def crop_resize(images: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Crop boxes [N, 4], zero-pad each to a square (centred) and resize: [N, 3, side, side]."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    reach = half.amax(1, keepdim=True)
    axis = (torch.arange(side, device=images.device) + 0.5) / side * 2 - 1
    inside = (axis.abs() * reach)[:, None, :] <= half[..., None]  # [N, 2, side]
    square = view_resize(images, torch.cat([middle - reach, middle + reach], 1), side)
    return square * (inside[:, None, 1, :, None] & inside[:, None, 0, None, :])


def object_crops(
    scenes: Scenes, side: int, g: torch.Generator, jitter: float
) -> tuple[Tensor, Tensor]:
    """One crop for each scene that shows an object, and its category [n].

    `jitter` moves each side of the box by up to that share of the box's extent, outwards more
    than inwards, as a convex hull is looser than the visible part.
    """
    seen = (scenes.category >= 0).float()
    keep = seen.any(1)
    pick = torch.multinomial(seen[keep], 1, generator=g)[:, 0]
    rows = torch.arange(len(pick), device=g.device)
    boxes = boxes_of(scenes.masks[keep][rows, pick])
    extent = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    moved = torch.rand(boxes.shape, generator=g, device=g.device) * 1.5 - 0.5
    sign = torch.tensor([-1.0, -1.0, 1.0, 1.0], device=g.device)
    boxes = (boxes + sign * moved * jitter * extent).clamp(0, 1)
    return crop_resize(scenes.image[keep], boxes, side), scenes.category[keep][rows, pick]


def corrupt(images: Tensor, g: torch.Generator, share: float) -> Tensor:
    """Blur, noise or fade a `share` of the images at a random strength (an augmentation)."""
    n = len(images)
    strength = torch.rand((n, 1, 1, 1), generator=g, device=g.device)
    kind = torch.randint(3, (n, 1, 1, 1), generator=g, device=g.device)
    hit = torch.rand((n, 1, 1, 1), generator=g, device=g.device) < share
    small = F.interpolate(images, scale_factor=0.4, mode="bilinear", antialias=True)
    blurred = F.interpolate(small, images.shape[-2:], mode="bilinear")
    noise = torch.randn(images.shape, generator=g, device=g.device)
    variants = torch.stack(
        [
            images + strength * (blurred - images),
            images + 0.12 * strength * noise,
            images + 0.4 * strength * (images.mean((1, 2, 3), keepdim=True) - images),
        ]
    )
    chosen = variants.gather(0, kind[None].expand(1, *images.shape))[0]
    return torch.where(hit, chosen, images).clamp(0, 1)


def recolour(images: Tensor, g: torch.Generator, share: float) -> Tensor:
    """Turn the hue of a `share` of the images by up to 60 degrees and change their saturation.

    A scorer that has seen three apples must know the fourth by its shape, not by its red.
    """
    n = len(images)
    # YIQ: hue is the angle of (I, Q), saturation their length.
    to_yiq = torch.tensor(
        [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]],
        device=g.device,
    )
    angle = (torch.rand(n, generator=g, device=g.device) * 2 - 1) * math.pi / 3
    saturation = 0.3 + torch.rand(n, generator=g, device=g.device)
    turn = torch.zeros(n, 3, 3, device=g.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = saturation * torch.cos(angle)
    turn[:, 2, 1] = saturation * torch.sin(angle)
    turn[:, 1, 2] = -turn[:, 2, 1]
    matrix = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    turned = torch.einsum("nij,njhw->nihw", matrix, images).clamp(0, 1)
    hit = torch.rand((n, 1, 1, 1), generator=g, device=g.device) < share
    return torch.where(hit, turned, images)


def graded(images: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Corrupt images by a random grade in [0, 1] each: blur, noise, fading, blocks, warping.

    Returns the images and their ratings 10 * (1 - grade) [N]; a fifth stays untouched.
    """
    n, _, h, w = images.shape
    grade = torch.rand(n, generator=g, device=g.device)
    grade *= torch.rand(n, generator=g, device=g.device) > 0.2
    s = grade[:, None, None, None]
    small = F.interpolate(images, scale_factor=0.2, mode="bilinear", antialias=True)
    blurred = F.interpolate(small, (h, w), mode="bicubic")
    blocks = F.interpolate(small, (h, w), mode="nearest")
    noise = torch.randn(images.shape, generator=g, device=g.device)
    base = F.affine_grid(torch.eye(2, 3, device=g.device).expand(n, 2, 3), [n, 3, h, w], False)
    bend = F.interpolate(
        torch.randn((n, 2, 8, 8), generator=g, device=g.device), (h, w), mode="bicubic"
    )
    warped = F.grid_sample(
        images,
        base + 0.15 * s * bend.permute(0, 2, 3, 1),
        padding_mode="border",
        align_corners=False,
    )
    faded = images + s * 0.8 * (images.mean((1, 2, 3), keepdim=True) - images)
    variants = torch.stack(
        [
            images + s * (blurred - images),
            images + 0.35 * s * noise,
            faded,
            images + s * (blocks - images),
            warped,
        ]
    )
    kind = torch.randint(len(variants), (1, n, 1, 1, 1), generator=g, device=g.device)
    return variants.gather(0, kind.expand(1, *images.shape))[0].clamp(0, 1), 10 * (1 - grade)
