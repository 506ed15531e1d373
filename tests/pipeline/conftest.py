"""A tiny pipeline and its inputs."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image
from pipeline_calls import STEPS, pipeline_of

from profi import ProFIPainterPipeline
from profi.models.backbone import Backbone


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
