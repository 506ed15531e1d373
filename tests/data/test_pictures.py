from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from profi.data.pictures import check_pair, read_image, read_mask, read_stored
from profi.inputs import image_tensor, mask_tensor
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
        check_pair(read_image(image), read_mask(mask), f"image {image}", mask)
    good = save(Image.new("L", (8, 6), 255), tmp_path / "m.png")
    check_pair(read_image(image), read_mask(good), image, good)


# One picture of two greys, 51 and 204 of 255, in every mode; the third value is what a mask makes
# of its transparent last column, the fourth what an image makes of it.
GREYS = np.tile(np.array([51, 204, 204], np.uint8), (4, 1))
ALPHA = np.tile(np.array([255, 255, 0], np.uint8), (4, 1))
PALETTE = Image.fromarray(GREYS // 102)
PALETTE = PALETTE.convert("P")
PALETTE.putpalette([51] * 3 + [51] * 3 + [204] * 3)
SIXTEEN = GREYS.astype(np.uint16) * 257
MODES = {
    "L": (Image.fromarray(GREYS), True, 0.8),
    "RGB": (Image.fromarray(GREYS).convert("RGB"), True, 0.8),
    "RGBA": (Image.fromarray(np.dstack([GREYS] * 3 + [ALPHA])), False, 1.0),
    "LA": (Image.merge("LA", (Image.fromarray(GREYS), Image.fromarray(ALPHA))), False, 1.0),
    "P": (PALETTE, True, 0.8),
    "CMYK": (Image.fromarray(GREYS).convert("CMYK"), True, 0.8),
    "YCbCr": (Image.fromarray(GREYS).convert("YCbCr"), True, 0.8),
    "HSV": (Image.fromarray(GREYS).convert("RGB").convert("HSV"), True, 0.8),
    "I;16": (Image.fromarray(SIXTEEN), True, 0.8),
    "I of 16 bits": (Image.fromarray(SIXTEEN.astype(np.int32)), True, 0.8),
    "I of 8 bits": (Image.fromarray(GREYS.astype(np.int32)), True, 0.8),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_means_the_same_at_every_entry(mode: str, tmp_path: Path) -> None:
    image, last, whitened = MODES[mode]
    suffix = "png" if mode in ("L", "RGB", "RGBA", "LA", "P", "I;16") else "tiff"
    files = [] if mode in ("HSV", "YCbCr") else [save(image, tmp_path / f"a.{suffix}")]
    for given in (image, *files):
        got = image_tensor(given)
        torch.testing.assert_close(
            got[:, 0], torch.tensor([[0.2, 0.8, whitened]] * 3), atol=0.005, rtol=0
        )
        assert mask_tensor(given)[0].tolist() == [False, True, last]
    for path in files:
        assert torch.equal(read_image(path), image_tensor(image))
        # COCO's pictures are read as stored: without their transparency.
        assert np.abs(read_stored(path)[0, :, 0].astype(int) - [51, 204, 204]).max() <= 1


@pytest.mark.parametrize(
    "labels",
    [
        Image.fromarray((GREYS > 100).astype(np.uint8)),
        Image.fromarray((GREYS > 100).astype(np.int32)),
        Image.fromarray((GREYS > 100).astype(np.uint8)).convert("P"),
    ],
    ids=["L", "I", "P"],
)
def test_a_label_map_of_0_and_1_is_a_mask(labels: Image.Image) -> None:
    assert mask_tensor(labels)[0].tolist() == [False, True, True]
    black = Image.new("L", (3, 4))
    assert not mask_tensor(black).any()


def test_colours_of_another_profile_come_out_as_srgb() -> None:
    """A profile with red and blue exchanged, made here: its red is sRGB's blue."""
    plain = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    place = {plain[i : i + 4].decode(): i for i in range(132, 132 + 12 * plain[131], 12)}
    red, blue = (slice(place[tag] + 4, place[tag] + 12) for tag in ("rXYZ", "bXYZ"))
    plain[red], plain[blue] = plain[blue], plain[red]
    exchanged = bytes(plain).replace(
        "sRGB built-in".encode("utf-16-be"), "exchanged xxx".encode("utf-16-be")
    )
    photo = Image.new("RGB", (4, 4), (250, 10, 10))
    photo.info["icc_profile"] = exchanged
    torch.testing.assert_close(
        image_tensor(photo)[:, 0, 0], torch.tensor([10, 10, 250]) / 255, atol=0.02, rtol=0
    )
    clear = photo.convert("RGBA")
    clear.info["icc_profile"] = exchanged
    clear.putalpha(0)
    assert image_tensor(clear).min() == 1
    # A damaged profile, or one of another colour space, is ignored.
    photo.info["icc_profile"] = b"nonsense"
    assert image_tensor(photo)[0, 0, 0] == pytest.approx(250 / 255)


def turned(tag: int, path: Path, pixels: np.ndarray = RGB) -> Path:
    exif = Image.Exif()
    exif[0x0112] = tag
    return save(Image.fromarray(pixels), path, exif=exif)


def test_an_annotated_photo_is_turned_only_if_the_annotations_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = turned(6, tmp_path / "quarter.png")
    upright = np.rot90(RGB, k=-1)
    assert np.array_equal(read_stored(path, (6, 8)), RGB)
    assert np.array_equal(read_stored(path, (8, 6)), upright)
    assert not caplog.records
    half = turned(3, tmp_path / "half.png")
    assert np.array_equal(read_stored(half, (6, 8)), RGB)
    assert "half.png has an orientation tag (3): it is read as stored" in caplog.text
