"""What strangers send is refused with a sentence, before anything is decoded."""

from __future__ import annotations

import threading
from io import BytesIO

import numpy as np
import pytest
from hostile_files import encoded, hostile_files, picture
from PIL import Image

from profi.types import UserError
from profi.ui.painter.picture_store import Limits, PictureStore, decoded, mask_png

FILES = hostile_files()


def test_there_are_fifty_of_them() -> None:
    assert len(FILES) >= 50


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_refused_with_a_sentence(name: str) -> None:
    with pytest.raises(UserError) as refused:
        decoded(FILES[name], Limits())
    text = str(refused.value)
    assert text.startswith("this file ")
    assert "\n" not in text
    assert "Error" not in text


def test_too_many_pixels_are_refused_before_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encoded(Image.new("L", (1000, 1000)), "PNG")
    loads: list[int] = []
    monkeypatch.setattr(Image.Image, "load", lambda self: loads.append(1))
    with pytest.raises(UserError, match=r"1000x1000 pixels, more than the 0\.5 million"):
        decoded(data, Limits(pixels=500_000))
    assert loads == []


KINDS = {
    "PNG": ("RGB", "L", "RGBA", "P", "I;16"),
    "JPEG": ("RGB", "L", "CMYK"),
    "WEBP": ("RGB", "L", "RGBA", "P"),
}


@pytest.mark.parametrize(("kind", "mode"), [(k, mode) for k in KINDS for mode in KINDS[k]])
def test_good_pictures_of_all_modes_are_read(kind: str, mode: str) -> None:
    image = picture(mode="L").convert("I;16") if mode == "I;16" else picture().convert(mode)
    assert decoded(encoded(image, kind), Limits()).size == (48, 40)


def test_a_telephone_s_jpeg_of_several_pictures_is_a_jpeg() -> None:
    file = BytesIO()
    picture().save(file, "MPO", save_all=True, append_images=[picture()])
    assert decoded(file.getvalue(), Limits()).format == "JPEG"


def test_a_photo_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(), "JPEG", exif=exif)
    assert decoded(data, Limits()).size == (40, 48)
    assert 0x0112 not in decoded(data, Limits()).getexif()


def test_a_mask_becomes_one_bit_by_the_rule_of_all_masks() -> None:
    greys = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (8, 1)))
    mask = np.asarray(Image.open(BytesIO(mask_png(greys))))
    assert mask.dtype == bool
    assert (mask == (np.asarray(greys) > 127)).all()


def test_the_store_forgets_what_was_not_used_for_longest() -> None:
    store = PictureStore(Limits(kept_bytes=1000))
    names = [store.put(bytes(300), "image/png") for _ in range(3)]
    store.get(names[0])
    store.put(bytes(300), "image/png")
    assert store.bytes <= 1000
    with pytest.raises(UserError, match="upload it again"):
        store.get(names[1])
    for name in (names[0], names[2]):
        assert store.get(name).data == bytes(300)


def test_the_store_forgets_after_its_time() -> None:
    store = PictureStore(Limits(kept_seconds=0.0))
    name = store.put(b"x", "image/png")
    threading.Event().wait(0.01)
    with pytest.raises(UserError):
        store.get(name)
    assert store.bytes == 0


@pytest.mark.parametrize("name", ["", "../etc/passwd", None, 3, ["x"], {"path": "/etc/passwd"}])
def test_a_made_up_name_finds_nothing(name: object) -> None:
    with pytest.raises(UserError):
        PictureStore().get(name)
