from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from profi.inpainters.masks import dilated, mask_pyramid


def random_masks() -> torch.Tensor:
    masks = torch.zeros(3, 64, 96, dtype=torch.bool)
    masks[0, 10:37, 21:70] = True
    masks[1, 63, 95] = True
    masks[2] = torch.rand(64, 96, generator=torch.Generator().manual_seed(0)) < 0.3
    return masks


def test_dilation_equals_scipy() -> None:
    masks = random_masks()
    peer = [ndimage.binary_dilation(mask.numpy()) for mask in masks]
    assert torch.equal(dilated(masks), torch.from_numpy(np.stack(peer)))


def test_nearest_takes_the_first_pixel_of_each_cell() -> None:
    masks = random_masks()
    pyramid = mask_pyramid(masks, 8, (2, 4), "nearest")
    assert torch.equal(pyramid.image, masks)
    assert torch.equal(pyramid.latent, masks[:, ::8, ::8])
    assert torch.equal(pyramid.levels[2], masks[:, ::16, ::16])
    assert torch.equal(pyramid.flat(4), masks[:, ::32, ::32].flatten(1))


def test_pil_bicubic_goes_straight_to_every_size() -> None:
    masks = random_masks()
    pyramid = mask_pyramid(masks, 8, (2, 4), "pil_bicubic")
    assert torch.equal(pyramid.image, dilated(masks))
    for i, mask in enumerate(masks):
        grown = ndimage.binary_dilation(mask.numpy())
        image = Image.fromarray((grown * 255).astype(np.uint8))

        def to(factor: int, image: Image.Image = image) -> np.ndarray:
            size = (96 // factor, 64 // factor)
            return np.asarray(image.resize(size, Image.Resampling.BICUBIC))

        assert np.array_equal(pyramid.latent[i], to(8) > 0)
        assert np.array_equal(pyramid.levels[2][i], to(16) / 255 > 0.5)
        assert np.array_equal(pyramid.levels[4][i], to(32) / 255 > 0.5)


def test_full_masks_stay_full() -> None:
    full = torch.ones(1, 64, 64, dtype=torch.bool)
    for resizing in ("nearest", "pil_bicubic"):
        pyramid = mask_pyramid(full, 8, (2, 4), resizing)  # type: ignore[arg-type]
        assert bool(pyramid.latent.all())
        assert all(bool(level.all()) for level in pyramid.levels.values())
