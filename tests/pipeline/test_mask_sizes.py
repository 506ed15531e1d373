"""A mask of another size than its image: fitted, and logged where it is squeezed."""

from __future__ import annotations

import logging

import pytest
from PIL import Image

from profi.pipeline_inputs import pictures_of
from profi.settings.evaluation import OURS

IMAGE = Image.new("RGB", (96, 64))


@pytest.mark.parametrize(
    ("size", "squeezed"),
    [((96, 64), False), ((192, 128), False), ((97, 64), False), ((64, 96), True), ((64, 64), True)],
)
def test_other_proportions_are_logged(
    caplog: pytest.LogCaptureFixture, size: tuple[int, int], squeezed: bool
) -> None:
    masks = [Image.new("L", IMAGE.size, 255), Image.new("L", size, 255)]
    with caplog.at_level(logging.WARNING, "profi"):
        _, holes = pictures_of(IMAGE, masks, (None, None), 32, (2, 2), OURS)
    assert holes.shape == (2, 64, 96)
    expected = f"mask_image is {size[0]}x{size[1]} and its image 96x64: it is squeezed"
    assert [expected in line for line in caplog.messages] == [True] * squeezed
