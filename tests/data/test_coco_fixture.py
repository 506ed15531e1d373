"""Reading what MSCOCO's files really hold: crowds, several polygons, lines, points outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_fixture import INSTANCES, SAMPLED
from pycocotools.coco import COCO
from scipy.ndimage import binary_dilation

from profi.data.coco import CROWD, DEGENERATE, SMALL, read_coco, read_listed
from profi.data.hulls import hull_area
from profi.data.masks import triplet_mask
from profi.data.sample import sample_triplets
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
    # A crowd and a lone object given by run lengths; a line and two points; a quarter pixel.
    assert found.skipped == {CROWD: 2, DEGENERATE: 2, SMALL: 1}


def test_hulls_by_hand() -> None:
    found = by_number(read_coco(INSTANCES).triplets)
    # The notch at (25, 15) is no corner.
    assert corners(found[1768]) == {(10, 8), (40, 8), (40, 30), (10, 30)}
    # Over both polygons; (12, 4) is above the line from (4, 4) to (56, 30).
    assert corners(found[1770]) == {(4, 4), (12, 4), (56, 30), (56, 44), (40, 44), (8, 12)}
    # Cut to the image of 50 x 50.
    assert corners(found[2002]) == {(0, 10), (50, 10), (50, 50), (0, 50)}
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
        assert abs(int(mask.sum()) - hull_area(triplet.hull)) <= outline


def test_the_list_counts_polygon_annotations_of_sorted_images() -> None:
    found = read_listed(INSTANCES, ROWS, 4)
    # The order of the rows; the line of row (1, 0) has no hull, the quarter pixel is taken.
    assert [t.annotation_id for t in found.triplets] == [3003, 1770, 2002, 3002]
    assert set(by_number(found.triplets)) == SAMPLED
    assert found.skipped == {DEGENERATE: 1}
    both = by_number(read_coco(INSTANCES).triplets)
    assert all(both[n] == t for n, t in by_number(found.triplets).items() if n in both)


@pytest.mark.parametrize(
    ("rows", "n_images", "named"),
    [
        ([(0, 0)], 5000, "holds 4 images and not 5000"),
        ([(0, 0), (4, 0)], 4, "row 2 asks for image 4 of the 4"),
        ([(-1, 0)], 4, "row 1 asks for image -1"),
        ([(0, 2)], 4, "row 1 asks for polygon annotation 2 and image 139 has 2"),
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
    with pytest.raises(UserError, match="KeyError: 285"):
        read_coco(path)
