"""Tiles with overlap."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from test_guided import OURS, pictures
from torch import Tensor
from torch.nn import functional

from profi.highres import Upscaler, upscale
from profi.highres.tiles import starts, tiled


@pytest.mark.parametrize(("length", "tile", "overlap", "unit"), [
    (100, 32, 8, 1), (512, 192, 32, 1), (33, 32, 8, 1), (2048, 512, 128, 4), (64, 16, 0, 4),
])  # fmt: skip
def test_tiles_cover_the_side_and_overlap(length: int, tile: int, overlap: int, unit: int) -> None:
    found = starts(length, tile, overlap, unit)
    assert found[0] == 0
    assert found[-1] + tile == length or unit > 1
    assert found[-1] + tile >= length
    assert all(start % unit == 0 for start in found)
    assert all(b - a <= tile - overlap + unit / 2 for a, b in pairwise(found))
    assert len(found) - 1 < (length - overlap) / (tile - overlap)


@pytest.mark.parametrize("scale", [1.0, 4.0, 0.25])
def test_a_function_of_single_pixels_is_the_same_in_tiles(scale: float) -> None:
    x = torch.rand(2, 3, 72, 104, generator=torch.Generator().manual_seed(0))

    def function(part: Tensor, top: int = 0, left: int = 0) -> Tensor:
        mode = "area" if scale < 1 else "nearest"
        return functional.interpolate(part * 2 + 1, scale_factor=scale, mode=mode)

    whole = function(x)
    for tile, overlap in ((None, 8), (200, 8), (32, 8), (40, 16), (32, 0)):
        torch.testing.assert_close(tiled(function, x, tile, overlap, scale), whole)


def test_a_filter_narrower_than_the_overlap_is_nearly_the_same_in_tiles() -> None:
    x = torch.rand(1, 1, 90, 70, generator=torch.Generator().manual_seed(0))
    kernel = torch.ones(1, 1, 5, 5) / 25

    def function(part: Tensor, top: int, left: int) -> Tensor:
        return functional.conv2d(functional.pad(part, (2, 2, 2, 2), mode="reflect"), kernel)

    whole = function(x, 0, 0)
    hard, soft = (
        (tiled(function, x, 32, overlap) - whole).abs().max().item() for overlap in (0, 16)
    )
    assert soft < hard / 2


def test_the_tiles_positions_are_given() -> None:
    x = torch.arange(60.0).expand(1, 1, 60, 60)
    seen = []

    def function(part: Tensor, top: int, left: int) -> Tensor:
        assert torch.equal(part, x[..., top : top + 24, left : left + 24])
        seen.append((top, left))
        return part

    torch.testing.assert_close(tiled(function, x, 24, 6), x)
    assert len(seen) == 9


def test_one_tile_is_the_picture_at_once_and_several_are_not(upscaler: Upscaler) -> None:
    low, large, mask = pictures(32, 48)
    whole = replace(OURS, tile=None, vae_tile=None, num_inference_steps=2)
    at_once = upscale(upscaler, low, large, mask, "a cat", 0, whole)
    one = upscale(upscaler, low, large, mask, "a cat", 0, replace(whole, tile=64, vae_tile=64))
    assert torch.equal(at_once, one)
    several = replace(whole, tile=24, vae_tile=24, overlap=8)
    tiles = upscale(upscaler, low, large, mask, "a cat", 0, several)
    assert not torch.equal(tiles, at_once)
    assert tiles.shape == at_once.shape
