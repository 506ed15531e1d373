from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from profi.data.manifest import read_manifest, write_manifest
from profi.data.masks import triplet_mask
from profi.data.own_folder import read_folder
from profi.data.pictures import load_image
from profi.types import UserError

RNG = np.random.default_rng(0)
SIZES = {"a.png": (30, 40), "deep/b.jpg": (17, 90), "c c.png": (64, 64)}
HEADER = ["image", "mask", "prompt"]


def write(root: Path, rows: list[list[str]], header: list[str] = HEADER) -> Path:
    """Three images of three sizes, each with a mask of random pixels, and a table."""
    for name, size in SIZES.items():
        image, mask = root / "images" / name, (root / "masks" / name).with_suffix(".png")
        for path in (image, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8)).save(image)
        Image.fromarray(RNG.random(size) > 0.6).save(mask)
    with (root / "prompts.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return root


ROWS = [
    ["a.png", "a.png", "a red vase, old"],
    ["deep/b.jpg", "deep/b.png", "ein Kätzchen"],
    ["c c.png", "c c.png", "dog"],
    ["./a.png", "a.png", "a blue vase"],
]


def test_rows_are_triplets_with_their_masks_as_they_are(tmp_path: Path) -> None:
    triplets = read_folder(write(tmp_path, ROWS)).triplets
    assert [t.prompt for t in triplets] == [row[2] for row in ROWS]
    assert [t.file_name for t in triplets] == ["a.png", "deep/b.jpg", "c c.png", "a.png"]
    for triplet, row in zip(triplets, ROWS, strict=True):
        with Image.open(tmp_path / "masks" / row[1]) as file:
            expected = np.array(file.convert("1"))
        np.testing.assert_array_equal(triplet_mask(triplet), expected)
        image = load_image(tmp_path / "images", triplet)
        assert image.shape == (*SIZES[row[0].removeprefix("./")], 3)
        with Image.open(tmp_path / "images" / row[0]) as file:
            np.testing.assert_array_equal(image, np.array(file))


def test_ids_are_unique_and_need_no_other_row(tmp_path: Path) -> None:
    every = read_folder(write(tmp_path, ROWS)).triplets
    assert len({t.triplet_id for t in every}) == len(ROWS)
    assert every[2].triplet_id.startswith("c_c-")
    # Rows of one image are of one image, and only these.
    assert [t.image_id == every[0].image_id for t in every] == [True, False, False, True]
    for i, triplet in enumerate(every):
        (alone,) = read_folder(write(tmp_path / str(i), [ROWS[i]])).triplets
        assert (alone.triplet_id, alone.image_id) == (triplet.triplet_id, triplet.image_id)


def test_ids_of_one_s_own(tmp_path: Path) -> None:
    rows = [[*row, f"Nr.{i}"] for i, row in enumerate(ROWS)]
    triplets = read_folder(write(tmp_path, rows, [*HEADER, "id"])).triplets
    assert [t.triplet_id for t in triplets] == ["Nr.0", "Nr.1", "Nr.2", "Nr.3"]


def test_the_manifest_holds_the_masks(tmp_path: Path) -> None:
    triplets = read_folder(write(tmp_path, ROWS)).triplets
    write_manifest(tmp_path / "m.parquet", triplets)
    assert read_manifest(tmp_path / "m.parquet") == triplets


def test_spreadsheets_marks_and_further_columns_do_no_harm(tmp_path: Path) -> None:
    write(tmp_path, [])
    text = '\ufeffid,note,prompt,image,mask\r\n 1 ,x, "a, b", a.png,a.png\r\n'
    (tmp_path / "prompts.csv").write_text(text, encoding="utf-8", newline="")
    (triplet,) = read_folder(tmp_path).triplets
    assert (triplet.triplet_id, triplet.prompt) == ("1", "a, b")


def test_an_image_that_cannot_be_read_is_left_to_its_turn(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    (tmp_path / "images" / "a.png").unlink()
    (tmp_path / "images" / "deep" / "b.jpg").write_bytes(b"no image")
    first, second, third, _ = read_folder(tmp_path).triplets
    assert load_image(tmp_path / "images", third).shape == (64, 64, 3)
    for triplet, named in (
        (first, r"a\.png does not exist"),
        (second, r"b\.jpg is not a readable image"),
    ):
        with pytest.raises(UserError, match=named):
            load_image(tmp_path / "images", triplet)


def test_an_image_that_changed_its_size_is_refused(tmp_path: Path) -> None:
    (triplet, *_) = read_folder(write(tmp_path, ROWS)).triplets
    Image.new("RGB", (41, 30)).save(tmp_path / "images" / "a.png")
    with pytest.raises(UserError, match=r"a\.png is 41x30 pixels but its mask is 40x30"):
        load_image(tmp_path / "images", triplet)


def test_a_photo_is_turned_as_a_viewer_turns_it(tmp_path: Path) -> None:
    """The mask is drawn on what is seen: 40 wide as stored, 30 wide upright."""
    write(tmp_path, [["turned.png", "turned.png", "x"]])
    pixels = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "images" / "turned.png", exif=exif)
    Image.new("1", (30, 40), 1).save(tmp_path / "masks" / "turned.png")
    (triplet,) = read_folder(tmp_path).triplets
    got = load_image(tmp_path / "images", triplet)
    np.testing.assert_array_equal(got, np.rot90(pixels, k=-1))


@pytest.mark.parametrize(
    ("row", "named"),
    [
        (["../secret.png", "a.png", "x"], r"'\.\./secret\.png' leads out of .*images"),
        (["a.png", "x/../../secret.png", "x"], r"leads out of .*masks"),
        (["a.png", "/etc/passwd", "x"], r"leads out of .*masks"),
        (["a.png", "none.png", "x"], r"none\.png does not exist"),
        (["a.png", "text.png", "x"], r"text\.png is not a readable image"),
        (["a.png", "black.png", "x"], r"black\.png is black"),
        (["a.png", "c c.png", "x"], r"c c\.png is 64x64 and image .*a\.png is 40x30"),
        (["a.png", "a.png", " "], "no prompt"),
        (["", "a.png", "x"], "no image"),
        (["a.png", "a.png"], "no prompt"),
        (["a.png", "a.png", "one", " two"], "more values than columns"),
        (["a.png", "a.png", "first"], "the same id a-[0-9a-f]{12} as line 2"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, row: list[str], named: str) -> None:
    write(tmp_path / "set", [["a.png", "a.png", "first"], row])
    Image.new("1", (40, 30), 1).save(tmp_path / "secret.png")
    Image.new("1", (40, 30), 0).save(tmp_path / "set" / "masks" / "black.png")
    (tmp_path / "set" / "masks" / "text.png").write_text("no image")
    with pytest.raises(UserError, match=rf"prompts\.csv line 3: .*{named}") as caught:
        read_folder(tmp_path / "set")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a|b", "x" * 101])
def test_an_id_that_is_not_allowed_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, [[*ROWS[0], name]], [*HEADER, "id"])
    with pytest.raises(UserError, match=r"line 2: (id .* is not allowed|no id)"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (None, r"does not exist: set data\.root to a folder with images/, masks/ and prompts\.csv"),
        (b"", "has no column image"),
        (b"image,prompt\na.png,x\n", "has no column mask"),
        (b"image,mask,prompt\n", "has no rows"),
        (b"image,mask,prompt\na.png,a.png,K\xe4tzchen\n", "save it as UTF-8 CSV"),
        (b'image,mask,prompt\na.png,a.png,"x"y\n', "after line 1 .*quote"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, text: bytes | None, named: str) -> None:
    write(tmp_path, ROWS)
    (tmp_path / "prompts.csv").unlink()
    if text is not None:
        (tmp_path / "prompts.csv").write_bytes(text)
    with pytest.raises(UserError, match=rf"prompts\.csv .*{named}") as caught:
        read_folder(tmp_path)
    assert "\n" not in str(caught.value)
