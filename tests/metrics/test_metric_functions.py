from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from profi.metrics.functional import (
    CAP_DB,
    Detection,
    bounding_box,
    clip_score,
    crop,
    known_region_psnr,
    label_found,
    pad_to_square,
)
from profi.metrics.preprocess import Preprocessing, square_image, whole_image


def test_bounding_box_agrees_with_pil():
    rng = np.random.default_rng(1)
    for _ in range(50):
        mask = rng.random((9, 13)) > 0.95
        if not mask.any():
            continue
        left, top, right, bottom = Image.fromarray(mask.astype(np.uint8)).getbbox()
        assert bounding_box(mask) == (top, left, bottom, right)


def test_empty_mask_has_no_box():
    with pytest.raises(ValueError, match="empty"):
        bounding_box(np.zeros((4, 4), dtype=bool))


@pytest.mark.parametrize(
    ("height", "width", "top", "left"), [(2, 5, 1, 0), (7, 2, 0, 2), (3, 3, 0, 0)]
)
def test_padding_is_centred_black_and_keeps_every_pixel(height, width, top, left):
    image = np.random.default_rng(2).integers(1, 256, (height, width, 3), dtype=np.uint8)
    square = pad_to_square(image)
    assert square.shape == (max(height, width),) * 2 + (3,)
    np.testing.assert_array_equal(square[top : top + height, left : left + width], image)
    assert np.count_nonzero(square) == image.size


def test_crop_is_exactly_the_box():
    image = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    mask = np.zeros((6, 8), dtype=bool)
    mask[2, 3] = mask[4, 6] = True
    np.testing.assert_array_equal(crop(image, bounding_box(mask)), image[2:5, 3:7])


def test_clip_score_is_100_times_the_cosine_whatever_the_lengths():
    angle = torch.tensor([0.0, 0.3, 1.2, math.pi])
    text = torch.stack([angle.cos(), angle.sin()], dim=1)
    image = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    scales = torch.tensor([[1.0], [7.0], [0.01], [300.0]])
    torch.testing.assert_close(clip_score(image * scales, text / scales), 100 * angle.cos())


def test_label_found_is_strict_about_threshold_and_category():
    box = (0.0, 0.0, 1.0, 1.0)
    assert label_found([Detection(3, 0.3001, box), Detection(5, 0.2, box)], 3) == 100.0
    assert label_found([Detection(3, 0.3, box)], 3) == 0.0
    assert label_found([Detection(3, 0.9, box)], 4) == 0.0
    assert label_found([], 3) == 0.0
    assert label_found([Detection(3, 0.3, box)], 3, threshold=0.25) == 100.0


def test_psnr_closed_form_ignores_the_hole_and_caps_identity():
    original = np.full((10, 10, 3), 100, dtype=np.uint8)
    mask = np.zeros((10, 10), dtype=bool)
    mask[:5] = True
    image = original.copy()
    image[:5] = 255
    assert known_region_psnr(image, original, mask) == CAP_DB
    image[5:] += 5
    expected = 20 * math.log10(255 / 5)
    assert known_region_psnr(image, original, mask) == pytest.approx(expected)
    assert math.isnan(known_region_psnr(image, original, np.ones((10, 10), dtype=bool)))


NORMALISE = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}


def test_normalisation_by_hand_and_in_rgb_order():
    config = {"size": {"height": 4, "width": 4}, **NORMALISE}
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    image[..., 0] = 255
    pixels = whole_image(image, Preprocessing.from_config(config))
    expected = [(1 - 0.5) / 0.2, -0.4 / 0.25, -0.3 / 0.3]
    for channel, value in enumerate(expected):
        torch.testing.assert_close(pixels[channel], torch.full((4, 4), value))


def test_flags_switch_rescaling_and_normalisation_off():
    image = np.full((4, 4, 3), 200, dtype=np.uint8)
    config = {"size": {"height": 4, "width": 4}, "do_normalize": False}
    assert whole_image(image, Preprocessing.from_config(config)).max() == pytest.approx(200 / 255)
    raw = Preprocessing.from_config({**config, "do_rescale": False})
    assert whole_image(image, raw).max() == 200


def test_old_spelling_of_sizes_means_the_same():
    new = {"size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}}
    old = {"size": 8, "crop_size": 8}
    common = {"do_center_crop": True, "resample": 3, **NORMALISE}
    assert Preprocessing.from_config({**new, **common}) == Preprocessing.from_config(
        {**old, **common}
    )


def test_the_shorter_side_rule_and_its_cap():
    rule = Preprocessing.from_config(
        {"size": {"shortest_edge": 800, "longest_edge": 1333}, **NORMALISE}
    )
    assert rule.target_size(480, 640) == (800, 1066)
    assert rule.target_size(640, 480) == (1066, 800)
    height, width = rule.target_size(100, 1000)
    assert width <= 1333
    assert height == 133


def test_square_image_is_pil_bicubic():
    image = np.random.default_rng(3).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    rule = Preprocessing.from_config({"size": {"height": 16, "width": 16}, "do_normalize": False})
    oracle = np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(square_image(image, rule).permute(1, 2, 0) * 255, oracle, atol=1e-4)
