"""A tiny pipeline, its inputs, and pictures of GLIDE's size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from pipeline_calls import STEPS, pipeline_of
from torch import nn

from profi import ProFIPainterPipeline
from profi.inpainters.backbone import Backbone


@pytest.fixture(scope="module")
def pipe(backbone: Backbone) -> ProFIPainterPipeline:
    return pipeline_of(backbone)


@pytest.fixture
def given(batch) -> dict[str, Any]:  # type: ignore[no-untyped-def]
    """A call for four pictures."""
    return {
        "prompt": batch.prompts,
        "image": batch.images,
        "mask_image": batch.masks,
        "num_inference_steps": STEPS,
        "output_type": "pt",
    }


@pytest.fixture
def one(batch) -> dict[str, Any]:  # type: ignore[no-untyped-def]
    """A call for one PIL picture, 64x64."""
    image, mask = batch.images[0], batch.masks[0]
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    return {
        "prompt": "cat",
        "image": Image.fromarray(pixels),
        "mask_image": Image.fromarray(mask.numpy()),
        "num_inference_steps": STEPS,
    }


@pytest.fixture
def large(batch: Any) -> Any:
    """A batch of two pictures of 256 x 256 pixels, GLIDE's size."""
    coarse = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    images = nn.functional.interpolate(coarse, scale_factor=16, mode="nearest")
    masks = torch.zeros(2, 256, 256, dtype=torch.bool)
    masks[0, 40:120, 80:200] = True
    masks[1, 100:, :64] = True
    return replace(batch, images=images, masks=masks, prompts=["cat", "red bus"], seeds=[5, 2**62])
