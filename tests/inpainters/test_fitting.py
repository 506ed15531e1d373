from __future__ import annotations

import pytest
import torch

from profi.inpainters.images import covering, fit, unfit


@pytest.mark.parametrize(("H", "W"), [(64, 64), (48, 64), (100, 33), (20, 50), (500, 3)])
def test_fit_and_unfit(H: int, W: int) -> None:
    image, mask = torch.rand(3, H, W), torch.ones(H, W, dtype=torch.bool)
    fitted = fit(image, mask, long_side=64, multiple=16)
    assert fitted.image.shape[1:] == fitted.mask.shape
    assert all(side % 16 == 0 and side > 0 for side in fitted.mask.shape)
    assert max(fitted.height, fitted.width) == 64
    assert fitted.height / fitted.width == pytest.approx(H / W, rel=0.05) or min(H, W) < 10
    assert 0.0 <= float(fitted.image.min()) <= float(fitted.image.max()) <= 1.0
    # Black and known beyond the content.
    assert fitted.mask[: fitted.height, : fitted.width].all()
    assert int(fitted.mask.sum()) == fitted.height * fitted.width
    assert not fitted.image[:, fitted.height :].any()
    assert not fitted.image[:, :, fitted.width :].any()
    assert unfit(fitted.image, fitted).shape == (3, fitted.height, fitted.width)


def test_an_image_that_fits_is_left_alone() -> None:
    image, mask = torch.rand(3, 48, 64), torch.rand(48, 64) > 0.5
    fitted = fit(image, mask, long_side=64, multiple=16)
    assert torch.equal(unfit(fitted.image, fitted), image)
    assert torch.equal(fitted.mask, mask)


@pytest.mark.parametrize("factor", [2, 5])
def test_a_covering_mask_has_every_block_that_is_touched(factor: int) -> None:
    mask = torch.rand(6 * factor, 4 * factor, generator=torch.Generator().manual_seed(0)) > 0.9
    blocks = mask.view(6, factor, 4, factor).any(dim=3).any(dim=1)
    assert torch.equal(covering(mask, (6, 4)), blocks)


@pytest.mark.parametrize(("H", "W"), [(37, 91), (500, 333), (20, 17)])
def test_no_masked_point_is_outside_of_a_covering_mask(H: int, W: int) -> None:
    """Whatever the ratio: the new pixel under every masked pixel's centre is masked."""
    y, x = torch.arange(0, H, 7), torch.arange(0, W, 5)[: len(torch.arange(0, H, 7))]
    y = y[: len(x)]
    mask = torch.zeros(H, W, dtype=torch.bool)
    mask[y, x] = True
    fitted = fit(torch.zeros(3, H, W), mask, 64, 16, covering)
    at_y = ((y + 0.5) * fitted.height / H).long()
    at_x = ((x + 0.5) * fitted.width / W).long()
    assert bool(fitted.mask[at_y, at_x].all())
    assert not bool(fitted.mask.all())
