from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from profi.data.user_images import read_image, read_mask, read_pair
from profi.types import UserError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)


def save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_rgb_is_read_exactly(tmp_path: Path) -> None:
    got = read_image(save(Image.fromarray(RGB), tmp_path / "a.png"))
    assert got.dtype == torch.float32
    assert torch.equal((got * 255).round().byte(), torch.from_numpy(RGB).permute(2, 0, 1))


def test_greyscale_and_bilevel_have_three_equal_channels(tmp_path: Path) -> None:
    for mode in ("L", "1"):
        got = read_image(save(Image.fromarray(RGB).convert(mode), tmp_path / "a.png"))
        assert got.shape == (3, 6, 8)
        assert torch.equal(got[0], got[1])
        assert torch.equal(got[0], got[2])


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    greys = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)
    got = read_image(save(Image.fromarray(greys), tmp_path / "a.png"))
    expected = torch.from_numpy(greys.astype(np.float32) / 65535).expand(3, -1, -1)
    torch.testing.assert_close(got, expected)
    mask = read_mask(tmp_path / "a.png")
    assert torch.equal(mask, torch.from_numpy(greys > 32767))


def test_transparency_is_white_in_images_and_black_in_masks(tmp_path: Path) -> None:
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, 0], rgba[0, 1], rgba[0, 2] = (255, 0, 0, 255), (255, 255, 255, 0), (0, 0, 0, 51)
    path = save(Image.fromarray(rgba), tmp_path / "a.png")
    got = read_image(path)
    torch.testing.assert_close(got[:, 0, 0], torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(got[:, 0, 1], torch.ones(3))
    torch.testing.assert_close(got[:, 0, 2], torch.full((3,), 0.8))
    assert not read_mask(path).any()
    grey_alpha = save(Image.new("LA", (2, 2), (255, 255)), tmp_path / "b.png")
    assert read_mask(grey_alpha).all()


def test_palettes_have_their_colours(tmp_path: Path) -> None:
    image = Image.fromarray(RGB).quantize(8)
    got = read_image(save(image, tmp_path / "a.png"))
    expected = torch.from_numpy(np.asarray(image.convert("RGB")) / np.float32(255))
    assert torch.equal(got, expected.permute(2, 0, 1))


def test_cmyk_is_converted(tmp_path: Path) -> None:
    got = read_image(save(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), tmp_path / "a.jpg"))
    torch.testing.assert_close(got[:, 0, 0], torch.tensor([1.0, 0.0, 0.0]), atol=0.02, rtol=0)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # Stored turned: upright after a quarter turn clockwise.
    path = save(Image.fromarray(RGB), tmp_path / "a.png", exif=exif)
    got = read_image(path)
    upright = np.rot90(RGB, k=-1).copy()
    assert torch.equal((got * 255).round().byte(), torch.from_numpy(upright).permute(2, 0, 1))
    assert read_mask(path).shape == (8, 6)


def test_unreadable_files_are_user_errors(tmp_path: Path) -> None:
    whole = save(
        Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)), tmp_path / "a.png"
    )
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:3000])
    (tmp_path / "head.png").write_bytes(whole.read_bytes()[:20])
    (tmp_path / "text.png").write_text("no image", encoding="utf-8")
    (tmp_path / "empty.jpg").touch()
    save(Image.new("F", (4, 4)), tmp_path / "float.tiff")
    (tmp_path / "folder").mkdir()
    names = ("cut.png", "head.png", "text.png", "empty.jpg", "float.tiff", "missing.png", "folder")
    for name in names:
        with pytest.raises(UserError, match=name.replace(".", r"\.")) as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_pairs_must_be_of_one_size(tmp_path: Path) -> None:
    image = save(Image.fromarray(RGB), tmp_path / "a.png")
    mask = save(Image.new("L", (8, 5)), tmp_path / "m.png")
    with pytest.raises(UserError, match=r"m\.png is 8x5 and image .*a\.png is 8x6"):
        read_pair(image, mask)
    good = save(Image.new("L", (8, 6), 255), tmp_path / "m.png")
    assert read_pair(image, good)[1].all()
