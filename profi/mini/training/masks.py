"""Random inpainting masks, drawn on the device."""

from __future__ import annotations

import torch
from torch import Tensor


def _shapes(centre: Tensor, radius: Tensor, size: int, round_: Tensor) -> Tensor:
    """Axis-aligned ellipses where `round_` [N], else boxes: [N, size, size] bool.

    centre and radius [N, 2] as (x, y) shares of the side.
    """
    axis = (torch.arange(size, device=centre.device) + 0.5) / size
    dx = (axis[None, None, :] - centre[:, 0, None, None]) / radius[:, 0, None, None]
    dy = (axis[None, :, None] - centre[:, 1, None, None]) / radius[:, 1, None, None]
    box = (dx.abs() <= 1) & (dy.abs() <= 1)
    return torch.where(round_[:, None, None], dx.square() + dy.square() <= 1.2, box)


def random_masks(n: int, size: int, g: torch.Generator) -> Tensor:
    """Ellipses and boxes anywhere, a tenth of them twice, a tenth the whole image: [N, H, W]."""

    def one() -> Tensor:
        centre = torch.rand((n, 2), generator=g, device=g.device) * 0.8 + 0.1
        radius = torch.rand((n, 2), generator=g, device=g.device) * 0.28 + 0.1
        return _shapes(centre, radius, size, torch.rand(n, generator=g, device=g.device) < 0.5)

    kind = torch.rand((n, 1, 1), generator=g, device=g.device)
    return one() | (one() & (kind < 0.1)) | (kind > 0.9)


def object_masks(masks: Tensor, g: torch.Generator) -> Tensor:
    """For each scene a loose ellipse or box over one of its objects: [N, K, H, W] -> [N, H, W].

    Scenes without an object get an empty mask.
    """
    n, _, _, size = masks.shape
    seen = masks.flatten(2).any(-1).float()
    pick = torch.multinomial(seen + 1e-6, 1, generator=g)[:, 0]
    chosen = masks[torch.arange(n, device=g.device), pick]
    axis = (torch.arange(size, device=g.device) + 0.5) / size
    columns, rows = chosen.any(1), chosen.any(2)
    low = torch.stack([torch.where(m, axis, 2.0).amin(1) for m in (columns, rows)], 1)
    high = torch.stack([torch.where(m, axis, -1.0).amax(1) for m in (columns, rows)], 1)
    loose = 1 + 0.35 * torch.rand((n, 2), generator=g, device=g.device)
    round_ = torch.rand(n, generator=g, device=g.device) < 0.5
    shape = _shapes((low + high) / 2, ((high - low) / 2).clamp(min=0.02) * loose, size, round_)
    return (shape | chosen) & chosen.flatten(1).any(1)[:, None, None]
