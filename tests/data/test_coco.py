from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profi.data.coco import CROWD, NO_MASK, RUN_LENGTH, SMALL, read_coco
from profi.data.manifest import (
    manifest_digest,
    parts,
    read_manifest,
    sample_triplets,
    write_manifest,
)
from profi.data.masks import triplet_mask
from profi.types import Triplet, UserError

SQUARE = [[2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]]


def instances(count: int = 30) -> dict[str, Any]:
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": 20, "width": 30} for i in range(count // 2)
        ],
        "annotations": [
            {"id": 1000 + i, "image_id": i // 2, "category_id": 18, "segmentation": SQUARE}
            for i in range(count)
        ],
        "categories": [{"id": 18, "name": "dog"}],
    }


def write(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_a_triplet_holds_what_the_file_says(tmp_path: Path) -> None:
    found = read_coco(write(tmp_path / "a.json", instances(2)))
    first = found.triplets[0]
    assert first.triplet_id == "000000000000-1000"
    assert (first.prompt, first.category_id) == ("dog", 18)
    assert (first.file_name, first.height, first.width) == ("0.png", 20, 30)
    assert {*zip(first.hull[::2], first.hull[1::2], strict=True)} == {
        (2.0, 2.0),
        (12.0, 2.0),
        (12.0, 12.0),
        (2.0, 12.0),
    }


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    content = instances(10)
    a = content["annotations"]
    a[0]["segmentation"] = {"counts": [1, 2], "size": [20, 30]}
    a[1]["iscrowd"] = 1
    a[2]["segmentation"] = [[1, 1, 2, 2, 3, 3]]
    a[3]["segmentation"] = [[1, 1, 2, 1, 1, 2]]
    a[4]["segmentation"] = [[40, 1, 50, 1, 50, 9]]
    a[5]["segmentation"] = [[]]
    found = read_coco(write(tmp_path / "a.json", content), min_area=1.0)
    assert Counter(found.skipped) == {RUN_LENGTH: 1, CROWD: 1, NO_MASK: 2, SMALL: 2}
    assert [t.annotation_id for t in found.triplets] == [1006, 1007, 1008, 1009]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "not an instances JSON"),
        ("[1]", "not an instances JSON"),
        ("{}", "not an instances JSON"),
        ("[" * 100_000, "not an instances JSON"),
        (json.dumps({**instances(2)}).replace('"id": 0', '"id": Infinity', 1), "a.json"),
        (json.dumps({**instances(2), "images": []}), "image_id 0 is not in the file"),
        (json.dumps({**instances(2), "categories": []}), "category_id 18 is not"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: str, named: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(UserError, match=named) as caught:
        read_coco(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_names_its_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.annotations"):
        read_coco(tmp_path / "none.json")


def test_the_sample_is_the_documented_one_whatever_the_order(tmp_path: Path) -> None:
    content = instances()
    found = read_coco(write(tmp_path / "a.json", content)).triplets
    shuffled = {name: [*values] for name, values in content.items()}
    for values in shuffled.values():
        random.Random(0).shuffle(values)
    assert shuffled["annotations"] != content["annotations"]
    again = read_coco(write(tmp_path / "b.json", shuffled)).triplets
    drawn = sample_triplets(found, 7, seed=3)
    assert sample_triplets(again, 7, seed=3) == drawn
    # The rule by the tools of a shell: sort the SHA-256 of "<seed>:<annotation id>".
    ranks = sorted(
        (hashlib.sha256(f"3:{t.annotation_id}".encode()).hexdigest(), t.annotation_id)
        for t in found
    )
    assert [t.annotation_id for t in drawn] == [number for _, number in ranks[:7]]


def test_samples_nest_and_seeds_differ(tmp_path: Path) -> None:
    found = read_coco(write(tmp_path / "a.json", instances())).triplets
    everything = sample_triplets(found, None, 0)
    assert Counter(everything) == Counter(found)
    assert sample_triplets(found, 5, 0) == everything[:5]
    assert sample_triplets(found, 5, 1) != everything[:5]
    with pytest.raises(UserError, match=r"data\.limit=31.*only 30"):
        sample_triplets(found, 31, 0)


def test_manifest_survives_the_disk_and_its_digest_is_of_values(tmp_path: Path) -> None:
    triplets = sample_triplets(read_coco(write(tmp_path / "a.json", instances())).triplets, None, 0)
    write_manifest(tmp_path / "m.parquet", triplets)
    read = read_manifest(tmp_path / "m.parquet")
    assert read == triplets
    assert manifest_digest(read) == manifest_digest(triplets)
    assert manifest_digest(triplets[::-1]) != manifest_digest(triplets)
    moved = Triplet(**{**vars(triplets[0]), "hull": (2.0, 2.0, 12.0, 2.0, 12.0, 12.5)})
    assert manifest_digest((moved, *triplets[1:])) != manifest_digest(triplets)


def test_a_cut_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    write_manifest(path, read_coco(write(tmp_path / "a.json", instances())).triplets)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="stage=generate"):
        read_manifest(path)


def test_parts_keep_order_and_remainder(tmp_path: Path) -> None:
    found = read_coco(write(tmp_path / "a.json", instances())).triplets
    cut = parts(found, 8)
    assert [len(part) for part in cut] == [8, 8, 8, 6]
    assert tuple(t for part in cut for t in part) == found


def broken(**changes: Any) -> dict[str, Any]:
    """A file whose last annotation, or second image or category, has other values."""
    content = instances(4)
    content["categories"].append({"id": 19, "name": "cat"})
    last = {"images": -1, "categories": -1, "annotations": -1}
    for key, value in changes.items():
        kind, _, name = key.partition("__")
        entry = content[kind][last[kind]]
        if value is ...:
            del entry[name]
        else:
            entry[name] = value
    return content


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations__segmentation": ...}, "annotation 1003: no segmentation"),
        ({"annotations__segmentation": [1.0, 1, 5, 1, 5, 5]}, "annotation 1003: .* flat list"),
        ({"annotations__segmentation": [[1, 1, 5, 1, 5, 5, 9]]}, "annotation 1003: .* 7 numbers"),
        ({"annotations__segmentation": [[1, 1, 5, None]]}, "annotation 1003: .* not a number"),
        ({"annotations__image_id": 77}, "annotation 1003: image_id 77 is not in the file"),
        ({"annotations__image_id": "1"}, "annotation 1003: image_id '1' is not in the file"),
        ({"annotations__category_id": 77}, "annotation 1003: category_id 77 is not"),
        ({"annotations__id": 1002}, "annotation 1002: two share this annotation id"),
        ({"annotations__id": ...}, "annotation number 4: its id is None"),
        ({"images__id": 0}, "image 0: two share this image id"),
        ({"images__id": "1"}, "image number 2: its id is '1'"),
        ({"images__file_name": ...}, "image 1: no file_name"),
        ({"images__height": None}, "image 1: height is None"),
        ({"categories__name": None}, "category 19: its name is None"),
        ({"categories__name": " "}, "category 19: its name is ' '"),
        ({"categories__id": 18}, "category 18: two share this category id"),
    ],
)
def test_an_odd_entry_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "a.json", broken(**changes))
    with pytest.raises(UserError, match=rf"a\.json: .*{message}.*: mend or remove") as caught:
        read_coco(path)
    assert "\n" not in str(caught.value)


def test_many_faults_are_counted(tmp_path: Path) -> None:
    content = instances(20)
    for annotation in content["annotations"]:
        annotation["category_id"] = 5
    with pytest.raises(UserError, match=r"1000: .*1001: .*1002: .*\(and 17 more\)"):
        read_coco(write(tmp_path / "a.json", content))


def test_lvis_names_its_files_by_their_address(tmp_path: Path) -> None:
    changes = {"images__file_name": ..., "images__coco_url": "http://x/val2017/000000000009.jpg"}
    found = read_coco(write(tmp_path / "a.json", broken(**changes)))
    assert found.triplets[-1].file_name == "000000000009.jpg"


def test_every_polygon_may_have_a_hull_of_its_own(tmp_path: Path) -> None:
    content = instances(4)
    far = [20.0, 2.0, 28.0, 2.0, 28.0, 8.0, 20.0, 8.0]
    content["annotations"][0]["segmentation"] = [*SQUARE, far]
    path = write(tmp_path / "a.json", content)
    together, apart = read_coco(path), read_coco(path, holes_apart=True)
    assert together.triplets[1:] == apart.triplets[1:]
    one, two = triplet_mask(together.triplets[0]), triplet_mask(apart.triplets[0])
    expected = np.zeros((20, 30), bool)
    expected[2:12, 2:12] = expected[2:8, 20:28] = True
    assert np.array_equal(two, expected)
    assert one[4, 16]
    assert (one & two).sum() == two.sum()
    assert apart.triplets[0].triplet_id == together.triplets[0].triplet_id
