"""How painted pictures are blended with the given ones: `sampling.output`."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from profi.inpainter import blended

GENERATOR = torch.Generator().manual_seed(0)
PAINTED, IMAGES = (torch.rand(2, 3, 64, 48, generator=GENERATOR) for _ in range(2))
MASKS = torch.zeros(2, 64, 48, dtype=torch.bool)
MASKS[0, 20:40, 10:30] = True
MASKS[1, :9, :] = True


def test_soft_weights_are_those_of_opencv_s_gaussian_blur() -> None:
    """Painted white on black, the result is the weight; OpenCV derives sigma 3.5 from size 21."""
    got = blended(torch.ones_like(PAINTED), torch.zeros_like(IMAGES), MASKS, "softly_blended")
    for weights, mask in zip(got, MASKS, strict=True):
        expected = cv2.GaussianBlur(mask.numpy().astype(np.float32), (21, 21), 0)
        for channel in weights:
            np.testing.assert_allclose(channel.numpy(), expected, atol=2e-6)


def test_a_soft_blend_is_the_painted_inside_and_the_given_far_away() -> None:
    got = blended(PAINTED, IMAGES, MASKS, "softly_blended")
    mix = torch.minimum(PAINTED, IMAGES) - 1e-6, torch.maximum(PAINTED, IMAGES) + 1e-6
    assert bool(((got >= mix[0]) & (got <= mix[1])).all())
    assert torch.equal(got[0, :, :10], IMAGES[0, :, :10])
    assert torch.equal(got[1, :, 19:], IMAGES[1, :, 19:])
    everywhere = torch.ones_like(MASKS)
    torch.testing.assert_close(blended(PAINTED, IMAGES, everywhere, "softly_blended"), PAINTED)


def test_a_soft_blend_depends_on_its_own_sample_alone() -> None:
    both = blended(PAINTED, IMAGES, MASKS, "softly_blended")
    for i in range(2):
        part = slice(i, i + 1)
        alone = blended(PAINTED[part], IMAGES[part], MASKS[part], "softly_blended")
        assert torch.equal(alone, both[part])


@pytest.mark.parametrize("size", [1, 8, 20])
def test_pictures_smaller_than_the_gaussian_are_blended_too(size: int) -> None:
    ones, masks = torch.ones(1, 3, size, size), torch.ones(1, size, size, dtype=torch.bool)
    torch.testing.assert_close(blended(ones, 0 * ones, masks, "softly_blended"), ones)


def test_the_other_outputs() -> None:
    assert blended(PAINTED, IMAGES, MASKS, "unblended") is PAINTED
    hard = blended(PAINTED, IMAGES, MASKS, "blended")
    assert torch.equal(hard, torch.where(MASKS[:, None], PAINTED, IMAGES))
