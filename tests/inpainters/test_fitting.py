from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from profi.data.user_images import read_pair
from profi.inpainters.ablations import compose
from profi.inpainters.backbone import Backbone
from profi.inpainters.images import fit, unfit
from profi.inpainters.readings import PAPER
from profi.inpainters.stable_inpainting import Sampling, StableInpainting


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


@pytest.mark.parametrize(("H", "W"), [(37, 120), (90, 41)])
def test_a_pair_of_any_size_from_the_disk_to_a_picture(
    backbone: Backbone, tmp_path: Path, H: int, W: int
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    hole = np.zeros((H, W), dtype=bool)
    hole[H // 4 : H // 2, W // 4 : W // 2] = True
    Image.fromarray(hole).save(tmp_path / "mask.png")
    fitted = fit(*read_pair(tmp_path / "image.png", tmp_path / "mask.png"), 64, 16)
    sampling = Sampling(num_inference_steps=2, output="blended")
    paint = StableInpainting(backbone, compose("profi", PAPER), sampling)
    painted = paint(fitted.image[None], fitted.mask[None], ["cat"], seeds=[0])
    picture, mask = unfit(painted[0], fitted), unfit(fitted.mask, fitted)
    assert picture.shape == (3, fitted.height, fitted.width)
    assert max(picture.shape[1:]) == 64
    known = unfit(fitted.image, fitted)
    torch.testing.assert_close(picture[:, ~mask], known[:, ~mask], atol=1e-6, rtol=0)
    assert not torch.allclose(picture[:, mask], known[:, mask], atol=0.01)
