from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from profi.method.level_masks import dilated, mask_pyramid, nearest


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


def nearest_by_hand(mask: np.ndarray, factor: int) -> np.ndarray:
    """The rule cell by cell."""
    h, w = mask.shape[0] // factor, mask.shape[1] // factor
    counts = mask.reshape(h, factor, w, factor).sum(axis=(1, 3))
    filled = counts * 2 >= factor * factor
    around = np.ones((3, 3))
    lost = (counts > 0) & ~ndimage.binary_dilation(filled, around)
    return filled | ((counts > 0) & ndimage.binary_dilation(lost, around))


def test_nearest_is_the_documented_rule() -> None:
    masks = random_masks()
    pyramid = mask_pyramid(masks, 8, (2, 4), "nearest")
    assert torch.equal(pyramid.image, masks)
    for i, mask in enumerate(masks.numpy()):
        assert np.array_equal(pyramid.latent[i], nearest_by_hand(mask, 8))
        assert np.array_equal(pyramid.levels[2][i], nearest_by_hand(mask, 16))
        assert np.array_equal(pyramid.flat(4)[i], nearest_by_hand(mask, 32).ravel())


def test_nearest_masks_half_of_what_lies_across_cells() -> None:
    """Edges go to the nearer border of cells, and no cell of a plain shape is marked besides."""
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[0, 13:45, 20:51] = True
    cells = nearest(mask, 8)[0]
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:6, 2:6] = True
    # Five rows of four columns: less than half.
    expected[5, 2] = False
    assert torch.equal(cells, expected)
    blocks = torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(1)) > 0.6
    whole = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    assert torch.equal(nearest(whole, 8), blocks)


def test_nearest_keeps_what_is_thin() -> None:
    """A pixel, a column at any place, and a limb of a thick part without a gap."""
    for x in range(64):
        mask = torch.zeros(1, 64, 64, dtype=torch.bool)
        mask[0, :, x] = True
        for factor in (8, 16, 32):
            cells = nearest(mask, factor)[0]
            assert cells.any(dim=0).nonzero()[:, 0].tolist() == [x // factor]
            assert bool(cells[:, x // factor].all())
    limb = torch.zeros(1, 64, 128, dtype=torch.bool)
    limb[0, 16:48, 0:32] = True
    limb[0, 27, 32:120] = True
    cells = nearest(limb, 8)[0]
    assert bool(cells[3, :15].all())
    assert not bool(cells[:, 15:].any())
    # The row next to the limb is not painted with it.
    assert not bool(cells[:3, 7:].any())


def test_pil_bicubic_s_latent_mask_keeps_what_is_thin() -> None:
    for x in range(64):
        mask = torch.zeros(1, 64, 64, dtype=torch.bool)
        mask[0, :, x] = True
        assert bool(mask_pyramid(mask, 8, (), "pil_bicubic").latent[0, :, x // 8].all())


def test_a_dilation_stays_within_the_content() -> None:
    """As if it had been dilated before it was padded; without contents it spills over."""
    content = torch.rand(2, 41, 50, generator=torch.Generator().manual_seed(2)) > 0.7
    padded = torch.zeros(2, 64, 64, dtype=torch.bool)
    padded[0, :41, :50] = content[0]
    padded[1, :41, :43] = content[1, :, :43]
    extents = [(41, 50), (41, 43)]
    pyramid = mask_pyramid(padded, 8, (2,), "pil_bicubic", contents=extents)
    for i, (height, width) in enumerate(extents):
        before = np.zeros((64, 64), bool)
        before[:height, :width] = ndimage.binary_dilation(padded[i, :height, :width].numpy())
        assert np.array_equal(pyramid.image[i], before)
        greys = Image.fromarray((before * 255).astype(np.uint8))
        latent = np.asarray(greys.resize((8, 8), Image.Resampling.BICUBIC)) > 0
        assert np.array_equal(pyramid.latent[i], latent)
    spilt = mask_pyramid(padded, 8, (2,), "pil_bicubic").image
    assert bool(spilt[:, 41].any())
    assert not torch.equal(spilt, pyramid.image)


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
