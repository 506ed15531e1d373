from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_coco import write
from tiny_model import text_to_image

from profi.training.examples import TextToImage
from profi.training.instance_list import InstanceList, read_instances


@pytest.fixture(scope="session")
def new_model(backbone, new_unet, scheduler_config) -> Callable[..., TextToImage]:  # type: ignore[no-untyped-def]
    """`new_model(prediction_type="epsilon")`: a tiny text-to-image model of one's own."""

    def make(prediction_type: str = "epsilon") -> TextToImage:
        config = {**scheduler_config, "prediction_type": prediction_type}
        return text_to_image(backbone, new_unet(0, in_channels=4), config)

    return make


@pytest.fixture(scope="session")
def model(new_model) -> TextToImage:  # type: ignore[no-untyped-def]
    return new_model()


@pytest.fixture
def instances(tmp_path: Path) -> InstanceList:
    return read_instances(*write(tmp_path), min_share=0.01)
