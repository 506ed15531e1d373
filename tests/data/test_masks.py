from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from profi.data.manifest import manifest_digest
from profi.data.masks import hull_mask, mask_rle, triplet_mask
from profi.types import Triplet

HULL = Triplet("t", 1, 1, 1, "cat", "a.png", 8, 12, (1.0, 1.0, 9.0, 1.0, 9.0, 6.0))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (300, 200)])
def test_run_lengths_give_the_mask_back(size: tuple[int, int], share: float) -> None:
    mask = np.random.default_rng(1).random(size) < share
    triplet = Triplet("t", 1, None, None, "x", "a.png", *size, hull=(), rle=mask_rle(mask))
    got = triplet_mask(triplet)
    assert got.dtype == np.bool_
    np.testing.assert_array_equal(got, mask)


def test_a_hull_is_filled() -> None:
    for rule in ("exact", "opencv"):
        expected = hull_mask(HULL.hull, 8, 12, rule)
        np.testing.assert_array_equal(triplet_mask(replace(HULL, filling=rule)), expected)
    assert triplet_mask(HULL).sum() < triplet_mask(replace(HULL, filling="opencv")).sum()


def test_a_digest_tells_masks_and_their_filling_apart() -> None:
    masks = [replace(HULL, hull=(), rle=mask_rle(np.eye(8, 12, k=k) > 0)) for k in (0, 1)]
    painted = replace(HULL, filling="opencv")
    assert len({manifest_digest([item]) for item in (*masks, HULL, painted)}) == 4
    # SHA-256 of the row's JSON by hand.
    text = (
        '[{"annotation_id":1,"category_id":1,"file_name":"a.png","filling":"exact","height":8,'
        '"hull":[1.0,1.0,9.0,1.0,9.0,6.0],"image_id":1,"prompt":"cat","rle":null,'
        '"triplet_id":"t","width":12}]'
    )
    assert manifest_digest([HULL]) == hashlib.sha256(text.encode()).hexdigest()[:16]
