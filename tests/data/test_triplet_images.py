from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from profi.data.pictures import load_image
from profi.types import Triplet, UserError

TRIPLET = Triplet("t", 1, 1, 1, "cat", "a.png", 8, 12, (0, 0, 4, 0, 4, 4))
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(PIXELS).save(folder / "a.png")
    Image.fromarray(PIXELS).save(tmp_path / "secret.png")
    return folder


def test_pixels_are_as_stored(root: Path) -> None:
    np.testing.assert_array_equal(load_image(root, TRIPLET), PIXELS)


def test_grey_images_become_rgb(root: Path) -> None:
    Image.fromarray(PIXELS[..., 0]).save(root / "a.png")
    expected = np.repeat(PIXELS[..., :1], 3, axis=2)
    np.testing.assert_array_equal(load_image(root, TRIPLET), expected)


@pytest.mark.parametrize("name", ["../secret.png", "x/../../secret.png", "ABSOLUTE", ".."])
def test_a_name_that_leads_out_is_refused(root: Path, name: str) -> None:
    outside = root.parent / "secret.png"
    name = str(outside) if name == "ABSOLUTE" else name
    with pytest.raises(UserError, match="leads out of"):
        load_image(root, replace(TRIPLET, file_name=name))


def test_links_are_fine(root: Path, tmp_path: Path) -> None:
    (root / "link.png").symlink_to(root.parent / "secret.png")
    assert load_image(root, replace(TRIPLET, file_name="./link.png")).shape == (8, 12, 3)
    (tmp_path / "linked").symlink_to(root)
    assert load_image(tmp_path / "linked", TRIPLET).shape == (8, 12, 3)


def test_other_size_missing_and_cut_files_name_the_file(root: Path) -> None:
    with pytest.raises(UserError, match=r"12x8 pixels but data.annotations says 12x9"):
        load_image(root, replace(TRIPLET, height=9))
    with pytest.raises(UserError, match=r"b\.png does not exist: set data.root"):
        load_image(root, replace(TRIPLET, file_name="b.png"))
    (root / "a.png").write_bytes((root / "a.png").read_bytes()[:90])
    with pytest.raises(UserError, match=r"a\.png cannot be read"):
        load_image(root, TRIPLET)
