from __future__ import annotations

import pytest
import torch

from profi.inpainters.images import fit, unfit


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
