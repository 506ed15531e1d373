"""Reading what MSCOCO's files really hold: crowds, several polygons, lines, points outside."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_fixture import INSTANCES, SAMPLED
from pycocotools.coco import COCO
from scipy.ndimage import binary_dilation

from profi.data.coco import CROWD, RUN_LENGTH, SMALL, read_coco, read_listed
from profi.data.manifest import in_order, sample_triplets
from profi.data.masks import hull_area, triplet_mask
from profi.settings.evaluation import OURS, RELEASED
from profi.types import Triplet, UserError

ROWS = [(2, 2), (0, 1), (1, 1), (1, 0), (2, 1)]


def by_number(triplets: tuple[Triplet, ...]) -> dict[int | None, Triplet]:
    return {triplet.annotation_id: triplet for triplet in triplets}


def corners(triplet: Triplet) -> set[tuple[float, float]]:
    return set(zip(triplet.hull[::2], triplet.hull[1::2], strict=True))


def test_what_is_usable_and_what_is_not() -> None:
    found = read_coco(INSTANCES)
    assert {t.annotation_id: t.prompt for t in found.triplets} == {
        1768: "dog",
        1770: "potted plant",
        2002: "person",
        3003: "sports ball",
    }
    # A crowd and a lone object given by run lengths; a line, two points and a quarter pixel.
    assert found.skipped == {RUN_LENGTH: 2, SMALL: 3}


def test_hulls_by_hand() -> None:
    found = by_number(read_coco(INSTANCES).triplets)
    # The notch at (25, 15) is no corner.
    assert corners(found[1768]) == {(10, 8), (40, 8), (40, 30), (10, 30)}
    # Over both polygons; (12, 4) is above the line from (4, 4) to (56, 30).
    assert corners(found[1770]) == {(4, 4), (12, 4), (56, 30), (56, 44), (40, 44), (8, 12)}
    # As it is; the mask is what lies in the image of 50 x 50.
    assert corners(found[2002]) == {(-6, 10), (58, 10), (58, 55), (-6, 55)}
    assert triplet_mask(found[2002]).sum(axis=0).tolist() == [40] * 50
    assert found[1768].file_name == "000000000139.jpg"
    assert (found[2002].height, found[2002].width) == (50, 50)


def test_masks_cover_what_pycocotools_draws_and_little_more_than_the_hull() -> None:
    coco = COCO(str(INSTANCES))
    for triplet in read_coco(INSTANCES).triplets:
        mask = triplet_mask(triplet)
        assert mask.shape == (triplet.height, triplet.width)
        drawn = coco.annToMask(coco.anns[triplet.annotation_id]).astype(bool)
        assert drawn.any()
        # The two differ by a pixel where an outline passes.
        assert not (drawn & ~binary_dilation(mask)).any()
        sides = np.reshape(triplet.hull, (-1, 2))
        outline = np.hypot(*(sides - np.roll(sides, 1, axis=0)).T).sum()
        if triplet.annotation_id != 2002:  # which reaches out of the picture
            assert 0 <= int(mask.sum()) - hull_area(triplet.hull) <= outline


def test_the_list_counts_polygon_annotations_of_sorted_images() -> None:
    found = read_listed(INSTANCES, ROWS, 4)
    # The order of the rows; lines and quarter pixels are taken.
    assert [t.annotation_id for t in found.triplets] == SAMPLED
    assert found.skipped == {}
    assert all(triplet_mask(triplet).any() for triplet in found.triplets)
    released = read_listed(INSTANCES, ROWS, 4, RELEASED).triplets
    assert [t.annotation_id for t in released] == SAMPLED
    assert [t.triplet_id for t in released] == ["632_2", "139_1", "285_1", "285_0", "632_1"]
    both = by_number(read_coco(INSTANCES).triplets)
    assert all(both[n] == t for n, t in by_number(found.triplets).items() if n in both)


@pytest.mark.parametrize(
    ("rows", "n_images", "named"),
    [
        ([(0, 0)], 5000, "has 4 images, not 5000"),
        ([(0, 0), (4, 0)], 4, "row 2 names image 4, but .* has 4 images"),
        ([(-1, 0)], 4, "row 1 names image -1"),
        ([(0, 2)], 4, "row 1 names polygon annotation 2, but image 139 has 2"),
        ([(3, 0)], 4, "image 785 has 0"),
    ],
)
def test_a_list_of_other_annotations_is_refused(
    rows: list[tuple[int, int]], n_images: int, named: str
) -> None:
    with pytest.raises(UserError, match=named) as caught:
        read_listed(INSTANCES, rows, n_images)
    assert "\n" not in str(caught.value)
    for word in ("data.sample=released", "instances_val2017.json", "data.sample=seeded"):
        assert word in str(caught.value)


def test_the_seeded_sample_of_the_fixture_for_good() -> None:
    """By `printf 1:1768 | sha256sum` and so on: on any machine, with any version of anything."""
    order = [1770, 2002, 3003, 1768]
    drawn = sample_triplets(read_coco(INSTANCES).triplets, None, 1)
    assert [t.annotation_id for t in drawn] == order
    large = sample_triplets(read_coco(INSTANCES, min_area=500.0).triplets, 2, 1)
    assert [t.annotation_id for t in large] == [1770, 2002]


def test_a_file_without_the_annotated_image_is_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = json.loads(INSTANCES.read_text())
    content["images"] = content["images"][:-1]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="image_id 285 is not in the file"):
        read_coco(path)


def crowded(tmp_path: Path) -> Path:
    """The fixture with the first polygons of image 139 marked as crowd."""
    content: dict[str, Any] = json.loads(INSTANCES.read_text())
    content["annotations"][0]["iscrowd"] = 1
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    return path


def test_polygons_of_a_crowd_are_counted_by_the_list_and_taken_by_choice(tmp_path: Path) -> None:
    """Left out, they still count: the rows that follow mean the annotations that they mean."""
    path, rows = crowded(tmp_path), [(0, 1), (0, 0)]
    released = read_listed(path, rows, 4, RELEASED)
    assert [t.annotation_id for t in released.triplets] == [1770, 1768]
    ours = read_listed(path, rows, 4)
    assert [t.annotation_id for t in ours.triplets] == [1770]
    assert ours.skipped == {CROWD: 1}
    assert 1768 not in by_number(read_coco(path).triplets)
    counted = replace(OURS, crowds="counted")
    assert 1768 in by_number(read_coco(path, evaluation=counted).triplets)


def test_the_list_s_order_is_by_images_and_within_them_the_file_s() -> None:
    """Images 139, 285, 632, whatever their order in the file; names count polygons from 0."""
    found = read_coco(INSTANCES, 0.0, RELEASED).triplets
    assert [(t.triplet_id, t.annotation_id) for t in found] == [
        ("139_0", 1768),
        ("139_1", 1770),
        ("285_0", 2001),
        ("285_1", 2002),
        ("632_0", 3001),
        ("632_1", 3002),
        ("632_2", 3003),
    ]
    assert in_order(found, 3, 1) == tuple(t for t in found if t in sample_triplets(found, 3, 1))
