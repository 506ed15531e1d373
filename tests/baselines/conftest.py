"""Pictures of GLIDE's size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn


@pytest.fixture
def large(batch: Any) -> Any:
    """A batch of two pictures of 256 x 256 pixels, GLIDE's size."""
    coarse = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    images = nn.functional.interpolate(coarse, scale_factor=16, mode="nearest")
    masks = torch.zeros(2, 256, 256, dtype=torch.bool)
    masks[0, 40:120, 80:200] = True
    masks[1, 100:, :64] = True
    return replace(batch, images=images, masks=masks, prompts=["cat", "red bus"], seeds=[5, 2**31])
