"""Large pictures in overlapping tiles, so that memory does not grow with the picture."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: From a tile [B, C, h, w], its top and its left to a tile [B, C', h s, w s].
OnTile = Callable[[Tensor, int, int], Tensor]


def starts(length: int, tile: int, overlap: int, unit: int = 1) -> list[int]:
    """Where tiles begin on a side: as few as needed, evenly spread, the last one ends at the end.

    They begin at multiples of `unit`, which divides the other lengths; neighbours share `overlap`
    or a little more, and up to half a unit less.
    """
    if length <= tile:
        return [0]
    count = -(-(length - overlap) // (tile - overlap))
    return [round(i * (length - tile) / (count - 1) / unit) * unit for i in range(count)]


def tiled(
    function: OnTile, x: Tensor, tile: int | None, overlap: int, scale: float = 1.0
) -> Tensor:
    """`function` of x [B, C, h, w] in tiles of `tile` x `tile`; None: of all of it at once.

    `scale` is the output's size over the input's. Where tiles overlap, the result goes over from
    one to the next linearly. It is float32 and on x's device.
    """
    h, w = x.shape[2:]
    if tile is None or (h <= tile and w <= tile):
        return function(x, 0, 0).float()
    total: Tensor | None = None
    unit = max(1, round(1 / scale))
    for top in starts(h, tile, overlap, unit):
        for left in starts(w, tile, overlap, unit):
            part = x[..., top : top + tile, left : left + tile]
            out = function(part, top, left).float()
            t, s = round(top * scale), round(left * scale)
            if total is None:
                shape = (*out.shape[:2], round(h * scale), round(w * scale))
                total = out.new_zeros(shape)
                weights = out.new_zeros(shape[2:])
            ramp = max(1, round(overlap * scale))
            weight = _hat(out.shape[2], ramp, out)[:, None] * _hat(out.shape[3], ramp, out)
            total[..., t : t + out.shape[2], s : s + out.shape[3]] += out * weight
            weights[t : t + out.shape[2], s : s + out.shape[3]] += weight
    assert total is not None
    return total.div_(weights)


def _hat(length: int, ramp: int, like: Tensor) -> Tensor:
    """Weights along one side of a tile: they rise over `ramp` from the edge, and are never 0."""
    place = torch.arange(length, device=like.device, dtype=torch.float32) + 0.5
    return (torch.minimum(place, length - place) / ramp).clamp(max=1.0)
