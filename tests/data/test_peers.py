"""BrushBench and EditBench in the layouts of their publications."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from profi.data.masks import triplet_mask
from profi.data.peers import read_brushbench, read_editbench, runs_mask
from profi.data.pictures import load_image
from profi.harness.build_data import image_root, load_triplets
from profi.settings import DataConfig
from profi.types import UserError

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 9, 14
IN, OUT = "inpainting_mask", "outpainting_mask"


def runs_of(mask: np.ndarray) -> list[int]:
    """The published encoding, pixel by pixel: (row, column) is number row * width + column + 1."""
    height, width = mask.shape
    runs: list[int] = []
    for row in range(height):
        for column in range(width):
            number = row * width + column + 1
            if not mask[row, column]:
                continue
            if runs and runs[-2] + runs[-1] == number:
                runs[-1] += 1
            else:
                runs += [number, 1]
    return runs


def brushbench(root: Path, **changes: Any) -> dict[str, np.ndarray]:
    """Three pictures with masks of random pixels; `changes` replace values of entry b."""
    masks: dict[str, np.ndarray] = {}
    content: dict[str, Any] = {}
    (root / "images").mkdir(parents=True, exist_ok=True)
    for key in "abc":
        pixels = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{key}.png")
        masks[key] = RNG.random((HEIGHT, WIDTH)) > 0.6
        content[key] = {
            "image": f"images/{key}.png",
            "caption": f"a {key}, red",
            IN: runs_of(masks[key]),
            OUT: runs_of(~masks[key]),
        }
    content["b"] |= changes
    (root / "mapping_file.json").write_text(json.dumps(content))
    return masks


def test_masks_of_random_pixels_are_decoded_row_by_row_from_one(tmp_path: Path) -> None:
    masks = brushbench(tmp_path)
    inner = read_brushbench(tmp_path, "inpainting").triplets
    outer = read_brushbench(tmp_path, "outpainting").triplets
    assert [t.triplet_id for t in inner] == ["a", "b", "c"]
    assert [t.prompt for t in inner] == ["a a, red", "a b, red", "a c, red"]
    for one, other in zip(inner, outer, strict=True):
        np.testing.assert_array_equal(triplet_mask(one), masks[one.triplet_id])
        np.testing.assert_array_equal(triplet_mask(other), ~masks[one.triplet_id])
        assert load_image(tmp_path, one).shape == (HEIGHT, WIDTH, 3)


def test_runs_by_hand() -> None:
    """The first pixel, a run over a row's end, the last pixel."""
    expected = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 1]], dtype=bool)
    np.testing.assert_array_equal(runs_mask([1, 1, 6, 2, 9, 1], 3, 3, "x"), expected)
    np.testing.assert_array_equal(runs_mask([9, 1, 6, 2, 1, 1], 3, 3, "x"), expected)
    assert runs_mask([1, 12], 3, 4, "x").all()


LAST = HEIGHT * WIDTH


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({IN: [LAST, 2]}, rf"the run of 2 from {LAST} is not in the {WIDTH}x{HEIGHT} picture"),
        ({IN: [LAST + 1, 1]}, "is not in the"),
        ({IN: [0, 3]}, "the run of 3 from 0 is not in the"),
        ({IN: [-3, 8]}, "is not in the"),
        ({IN: [3, 0]}, "the run of 0 from 3"),
        ({IN: [3, -1]}, "the run of -1 from 3"),
        ({IN: [1, 10**30]}, "is not in the"),
        ({IN: [1, 2, 3]}, "has 3 values, an odd number"),
        ({IN: [1, 2.5]}, "not whole numbers"),
        ({IN: [True, 1]}, "not whole numbers"),
        ({IN: ["1", "2"]}, "not whole numbers"),
        ({IN: [1, 3, 2, 3]}, "the runs from 1 and 2 overlap"),
        ({IN: []}, f"has no {IN}"),
        ({IN: "1 2"}, f"has no {IN}"),
        ({"caption": " "}, "has no caption"),
        ({"caption": "x\ud83d"}, "caption is not UTF-8 text"),
        ({"image": 3}, "has no image"),
        ({"image": "../secret.png"}, r"'\.\./secret\.png' leads out of"),
        ({"image": "/etc/passwd"}, "leads out of"),
        ({"image": "images/none.png"}, r"none\.png is missing or is no image"),
        ({"image": "mapping_file.json"}, "is missing or is no image"),
    ],
)
def test_a_bad_entry_is_named_by_its_key(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "secret.png")
    brushbench(tmp_path / "set", **changes)
    with pytest.raises(UserError, match=rf"mapping_file\.json: entry 'b'.*{named}") as caught:
        read_brushbench(tmp_path / "set", "inpainting")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (None, "does not exist: set data.root to BrushBench's folder"),
        (b"{", "cannot be read as JSON"),
        (b'{"a": "K\xe4tzchen"}', "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[1]", "is not an object with an entry per picture"),
        (b"{}", "is not an object with an entry per picture"),
        (b'{"a": 1}', "entry 'a' has no image"),
        (b'{"a": {}, "a": {}}', "the key 'a' is there twice"),
    ],
)
def test_a_bad_mapping_file_is_one_line(tmp_path: Path, text: bytes | None, named: str) -> None:
    if text is not None:
        (tmp_path / "mapping_file.json").write_bytes(text)
    with pytest.raises(UserError, match=re.escape(named)) as caught:
        read_brushbench(tmp_path, "inpainting")
    assert "\n" not in str(caught.value)


def test_odd_keys_have_ids_of_their_own(tmp_path: Path) -> None:
    brushbench(tmp_path)
    path = tmp_path / "mapping_file.json"
    row = json.loads(path.read_text())["a"]
    path.write_text(json.dumps({"x y": row, "x/y": row, "x_y": row}))
    names = [t.triplet_id for t in read_brushbench(tmp_path, "inpainting").triplets]
    assert len(set(names)) == 3
    assert all(re.fullmatch(r"[\w.-]{1,100}", name) for name in names)


COLUMNS = ["aos", "prompt_full", "prompt_mask-simple", "prompt_mask-rich", "note"]


def editbench(root: Path, rows: dict[str, list[list[str]]]) -> dict[str, np.ndarray]:
    """The halves with rows, two pictures a, b in each, and their masks of random pixels."""
    masks = {}
    for half, lines in rows.items():
        for stem in "ab":
            mask = RNG.random((HEIGHT, WIDTH)) > 0.6
            masks[f"{half}_{stem}"] = mask
            for kind, image in (
                ("references", Image.new("RGB", (WIDTH, HEIGHT), (10, 200, 3))),
                ("masks", Image.fromarray(mask)),
            ):
                (root / f"{kind}_{half}").mkdir(parents=True, exist_ok=True)
                image.save(root / f"{kind}_{half}" / f"{stem}.png")
        with (root / f"annotations_{half}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *lines])
    return masks


A = ["a", "a cat in a farm", "a cat", "a metal cat, small", ""]
B = ["b", "a dog", "dog", "red dog", "x"]


def test_editbench_has_three_prompts_and_two_halves(tmp_path: Path) -> None:
    masks = editbench(tmp_path, {"natural": [A, B], "generated": [B]})
    found = {k: read_editbench(tmp_path, k).triplets for k in ("full", "mask_simple", "mask_rich")}
    assert [t.prompt for t in found["full"]] == ["a cat in a farm", "a dog", "a dog"]
    assert [t.prompt for t in found["mask_simple"]] == ["a cat", "dog", "dog"]
    assert [t.prompt for t in found["mask_rich"]] == ["a metal cat, small", "red dog", "red dog"]
    names = [t.triplet_id for t in found["full"]]
    assert names == ["natural_a", "natural_b", "generated_b"]
    for triplet in found["full"]:
        np.testing.assert_array_equal(triplet_mask(triplet), masks[triplet.triplet_id])
        assert load_image(tmp_path, triplet).shape == (HEIGHT, WIDTH, 3)
    # One image, one number, whatever the prompt.
    assert len({t.image_id for kind in found.values() for t in kind}) == 3


def test_one_half_of_editbench_is_enough(tmp_path: Path) -> None:
    editbench(tmp_path, {"generated": [A]})
    assert [t.triplet_id for t in read_editbench(tmp_path, "full").triplets] == ["generated_a"]


@pytest.mark.parametrize(
    ("row", "named"),
    [
        (["../x", "a", "b", "c", ""], "leads out of .*references_natural"),
        (["none", "a", "b", "c", ""], r"none\.png does not exist"),
        (["a", "a", " ", "c", ""], "no prompt_mask-simple"),
        (["", "a", "b", "c", ""], "no aos"),
        (A, "aos 'a' is there twice"),
    ],
)
def test_a_bad_row_of_editbench_is_named(tmp_path: Path, row: list[str], named: str) -> None:
    editbench(tmp_path, {"natural": [A, row]})
    with pytest.raises(UserError, match=rf"annotations_natural\.csv line 3: .*{named}"):
        read_editbench(tmp_path, "mask_simple")


def test_a_folder_that_is_not_editbench_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"annotations_natural\.csv does not exist, nor .*root"):
        read_editbench(tmp_path, "full")
    (tmp_path / "annotations_natural.csv").write_bytes(b"aos,prompt_full\na,K\xe4tzchen\n")
    with pytest.raises(UserError, match="save it as UTF-8 CSV"):
        read_editbench(tmp_path, "full")


def test_the_settings_choose_them(tmp_path: Path) -> None:
    masks = brushbench(tmp_path / "brush")
    editbench(tmp_path / "edit", {"natural": [A]})
    data = DataConfig(
        source="brushbench",
        root=str(tmp_path / "brush"),
        annotations="",
        brushbench_mask="outpainting",
    )
    triplets, _ = load_triplets(data)
    assert image_root(data) == tmp_path / "brush"
    assert {t.triplet_id for t in triplets} == set(masks)
    for triplet in triplets:
        np.testing.assert_array_equal(triplet_mask(triplet), ~masks[triplet.triplet_id])
    data = DataConfig(source="editbench", root=str(tmp_path / "edit"), annotations="")
    assert [t.prompt for t in load_triplets(data)[0]] == ["a cat"]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"source": "brushbench", "root": "", "annotations": ""}, "mapping_file.json with data.ro"),
        ({"source": "editbench", "root": "x"}, "data.source=editbench uses none"),
        ({"brushbench_mask": "outpainting"}, "is for data=brushbench alone"),
        ({"editbench_prompt": "full"}, "is for data=editbench alone"),
        (
            {"source": "editbench", "root": "x", "annotations": "", "editbench_prompt": "rich"},
            "choose one of full, mask_simple, mask_rich",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=re.escape(named)):
        DataConfig(**values)
