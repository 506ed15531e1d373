from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from profi.data.pictures import open_picture, read_image, read_stored, upright_size
from profi.fitting import bytes_of
from profi.inputs import image_tensor, mask_tensor, pil_image
from profi.picture_file import encoded
from profi.types import UserError

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
UNIT = torch.from_numpy(RGB.astype(np.float32) / 255).permute(2, 0, 1)
HOLE = np.random.default_rng(1).random((6, 8)) > 0.5


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(RGB),
        RGB,
        RGB[::-1][::-1],
        RGB.astype(np.float64) / 255,
        np.round(RGB.astype(np.float64) * 257).astype(np.uint16),
        np.dstack([RGB, np.full((6, 8), 255, np.uint8)]),
        UNIT,
        UNIT.double().requires_grad_(),
        torch.from_numpy(RGB).permute(2, 0, 1),
    ],
    ids=["pil", "uint8", "strided", "float64", "uint16", "rgba", "tensor", "double", "bytes"],
)
def test_every_form_of_an_image_is_the_same_tensor(image: object) -> None:
    got = image_tensor(image)  # type: ignore[arg-type]
    assert got.dtype == torch.float32
    assert not got.requires_grad
    torch.testing.assert_close(got, UNIT)


@pytest.mark.parametrize("grey", [RGB[..., 0], RGB[..., :1], Image.fromarray(RGB[..., 0])])
def test_a_grey_image_has_three_equal_channels(grey: object) -> None:
    got = image_tensor(grey)  # type: ignore[arg-type]
    torch.testing.assert_close(got, UNIT[:1].expand(3, -1, -1))


@pytest.mark.parametrize(
    "mask",
    [
        HOLE,
        HOLE.astype(np.uint8),
        HOLE.astype(np.int64),
        HOLE.astype(np.uint8) * 255,
        HOLE.astype(np.uint16),
        np.dstack([HOLE.astype(np.uint8)] * 3),
        Image.fromarray(np.dstack([HOLE.astype(np.uint8)] * 3)),
        HOLE.astype(np.float32),
        HOLE[..., None].astype(np.float32),
        np.dstack([HOLE.astype(np.uint8) * 255] * 3),
        Image.fromarray(HOLE),
        Image.fromarray(HOLE.astype(np.uint8) * 255),
        torch.from_numpy(HOLE),
        torch.from_numpy(HOLE)[None].half(),
        np.where(HOLE, 128, 127).astype(np.uint8),
    ],
)
def test_every_form_of_a_mask_is_the_same_tensor(mask: object) -> None:
    got = mask_tensor(mask)  # type: ignore[arg-type]
    assert torch.equal(got, torch.from_numpy(HOLE))


def test_a_picture_with_a_transparent_hole_is_hardly_a_mask(
    caplog: pytest.LogCaptureFixture,
) -> None:
    photo = Image.fromarray(np.dstack([RGB, np.where(HOLE, 0, 255).astype(np.uint8)]))
    mask_tensor(photo)
    assert "looks like a picture with a transparent hole" in caplog.text
    caplog.clear()
    # White on transparent is a mask, with a soft edge, too.
    white = np.full((6, 8, 4), 255, np.uint8)
    white[..., 3] = np.where(HOLE, 255, 0)
    assert torch.equal(mask_tensor(Image.fromarray(white)), torch.from_numpy(HOLE))
    assert caplog.text == ""


def test_a_turned_photo_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.fromarray(RGB)
    photo.info["exif"] = exif.tobytes()
    assert torch.equal(image_tensor(photo), image_tensor(np.rot90(RGB, k=-1)))


DAMAGED_EXIF = {
    "cut": b"Exif\0\0II*\0",
    "garbage": b"Exif\0\0garbage!garbage!",
    "orientation in letters": (
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\x006\0\0\0\0\0\0\0"
    ),
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("damage", DAMAGED_EXIF)
def test_damaged_exif_costs_no_picture(tmp_path: Path, kind: str, damage: str) -> None:
    path = tmp_path / f"photo.{kind.lower()}"
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(RGB).save(path, kind, exif=DAMAGED_EXIF[damage], **options)
    expected = image_tensor(np.asarray(Image.open(path).convert("RGB")))
    assert torch.equal(image_tensor(path), expected)
    with Image.open(path) as opened:
        assert torch.equal(image_tensor(opened), expected)
    assert torch.equal(read_image(path), expected)
    assert upright_size(path) == (8, 6)
    assert read_stored(path, (6, 8)).shape == (6, 8, 3)
    # A painted picture leaves out what cannot be written.
    original = open_picture(path)
    for written in ("PNG", "JPEG", "WEBP"):
        data = encoded(Image.fromarray(RGB), original, None, {}, {"format": written})
        assert Image.open(BytesIO(data)).size == (8, 6)


def test_exif_that_no_jpeg_can_hold_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 70_000
    original = Image.fromarray(RGB)
    original.info["exif"] = exif.tobytes()
    data = encoded(Image.fromarray(RGB), original, None, {}, {"format": "JPEG"})
    assert not Image.open(BytesIO(data)).getexif()
    assert "too long for a JPEG" in caplog.text


def test_a_picture_that_ends_too_early_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="image cannot be read"):
        image_tensor(Image.open(path))


def test_eight_bits_come_back_as_they_were() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    back = np.asarray(pil_image(bytes_of(image_tensor(every), "rounded")))
    assert np.array_equal(back, np.dstack([every] * 3))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("photo.png", "photo.png does not exist"),
        (None, "type NoneType"),
        (UNIT.permute(1, 2, 0), r"shape \(6, 8, 3\)"),
        (UNIT[None], r"shape \(1, 3, 6, 8\)"),
        (RGB[None], r"shape \(1, 6, 8, 3\)"),
        (RGB[:0], r"shape \(0, 8, 3\)"),
        (RGB.astype(np.float32), r"outside \[0, 1\]"),
        (UNIT * 2 - 1, r"outside \[0, 1\]"),
        (UNIT * float("nan"), r"outside \[0, 1\]"),
        (RGB.astype(np.int32) * 9, r"outside \[0, 255\]"),
        (RGB.astype(complex), "array of complex128"),
        (Image.new("F", (4, 4)), "floating-point"),
    ],
)
def test_what_is_no_image_is_refused_by_name(image: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        image_tensor(image, "my image")  # type: ignore[arg-type]
    assert str(caught.value).startswith("my image")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (UNIT, r"shape \(3, 6, 8\)"),
        (HOLE * 255.0, r"outside \[0, 1\]"),
        (np.zeros((0, 4), bool), r"shape \(0, 4\)"),
        ([[1, 0]], "type list"),
    ],
)
def test_what_is_no_mask_is_refused_by_name(mask: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        mask_tensor(mask, "my mask")  # type: ignore[arg-type]
    assert str(caught.value).startswith("my mask")
