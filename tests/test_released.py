"""evaluation=released against the released stages, on hundreds of awkward instances."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from released_stages import Stages, clip_input, released_noise, released_row, write_instances

from profi.data.coco import NO_MASK, read_listed
from profi.data.masks import triplet_mask
from profi.fitting import Fitted, contents, fit_mask, unfit
from profi.harness.plan import Plan
from profi.inpainter import start_noise
from profi.method.level_masks import MaskPyramid, mask_pyramid
from profi.metrics import Sample
from profi.metrics.functional import crop, pad_to_square
from profi.metrics.preprocess import opencv_cubic, resize
from profi.settings.evaluation import OURS, RELEASED, Evaluation
from profi.types import Triplet

N_IMAGES = 60


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, int]]]:
    return write_instances(tmp_path_factory.mktemp("instances"), 20, N_IMAGES)


@pytest.fixture(scope="module")
def expected(instances: tuple[Path, list[tuple[int, int]]]) -> dict[str, Stages]:
    """The stages by name, in the list's order; of rows that have a mask."""
    path, rows = instances
    content = json.loads(path.read_text())
    found = [released_row(content, path.parent / "images", *row) for row in rows]
    assert len(found) > 180
    return {stages.name: stages for stages in found if stages.hull.any()}


def plan_of(path: Path, evaluation: Evaluation) -> Plan:
    return Plan(path.parent / "images", 0, 512, 64, 1, 1, evaluation)


def triplets_of(
    instances: tuple[Path, list[tuple[int, int]]], evaluation: Evaluation = RELEASED
) -> list[Triplet]:
    path, rows = instances
    return list(read_listed(path, rows, N_IMAGES, evaluation).triplets)


def pyramid_of(fitted: Fitted, evaluation: Evaluation = RELEASED) -> MaskPyramid:
    inside = contents([fitted], evaluation.dilation)
    return mask_pyramid(fitted.mask[None], 8, (2, 4), "pil_bicubic", contents=inside)


@pytest.fixture(scope="module")
def pairs(
    instances: tuple[Path, list[tuple[int, int]]], expected: dict[str, Stages]
) -> list[tuple[Triplet, Fitted, Stages]]:
    plan = plan_of(instances[0], RELEASED)
    return [(t, plan.fitted(t), expected[t.triplet_id]) for t in triplets_of(instances)]


def test_the_shapes_that_hurt_are_there(
    instances: tuple[Path, list[tuple[int, int]]], expected: dict[str, Stages]
) -> None:
    content = json.loads(instances[0].read_text())
    assert [i["id"] for i in content["images"]] != sorted(i["id"] for i in content["images"])
    crowds = [a for a in content["annotations"] if a["iscrowd"]]
    assert {type(a["segmentation"]) for a in crowds} == {list, dict}
    sizes = Counter(len(stages.hull.nonzero()[0]) for stages in expected.values())
    assert sizes[1] > 5
    reaching = [s for s in expected.values() if s.hull[-1].any() or s.hull[:, -1].any()]
    assert len(reaching) > 20
    assert len(expected) < len(instances[1])


def test_rows_order_names_prompts_and_hulls(
    instances: tuple[Path, list[tuple[int, int]]], expected: dict[str, Stages]
) -> None:
    found = read_listed(*instances, N_IMAGES, RELEASED)
    assert [t.triplet_id for t in found.triplets] == list(expected)
    # Of a hull outside the picture there is nothing to paint.
    assert found.skipped == {NO_MASK: len(instances[1]) - len(expected)}
    for triplet in found.triplets:
        stages = expected[triplet.triplet_id]
        assert triplet.prompt == stages.prompt
        np.testing.assert_array_equal(triplet_mask(triplet), stages.hull)


def test_size_picture_mask_and_padding(pairs: list[tuple[Triplet, Fitted, Stages]]) -> None:
    for _, fitted, stages in pairs:
        assert (fitted.height, fitted.width) == stages.mask.shape
        pixels = (fitted.image * 255).round().byte().permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(pixels, stages.padded_picture)
        np.testing.assert_array_equal(fitted.mask.numpy(), stages.padded_mask)


def test_dilated_mask_latent_mask_and_levels(pairs: list[tuple[Triplet, Fitted, Stages]]) -> None:
    for _, fitted, stages in pairs:
        pyramid = pyramid_of(fitted)
        np.testing.assert_array_equal(pyramid.image[0].numpy(), stages.dilated)
        np.testing.assert_array_equal(pyramid.latent[0].numpy(), stages.latent)
        np.testing.assert_array_equal(pyramid.levels[2][0].numpy(), stages.h16)
        np.testing.assert_array_equal(pyramid.levels[4][0].numpy(), stages.h32)


def sample_of(triplet: Triplet, fitted: Fitted, picture: np.ndarray) -> Sample:
    given = torch.from_numpy(triplet_mask(triplet))
    bicubic = fit_mask(given, (fitted.height, fitted.width), "pil_bicubic").numpy()
    mask = unfit(fitted.mask, fitted).numpy()
    return Sample(picture, mask, triplet.prompt, bicubic_mask=bicubic)


def test_box_and_clip_s_input(pairs: list[tuple[Triplet, Fitted, Stages]]) -> None:
    """The crop's box exactly; what CLIP sees to a level in fewer than one byte of 10,000.

    But for crops of less than four pixels, where OpenCV computes in integers of 11 binary places.
    """
    n_bytes = n_off = n_shrunk = 0
    for triplet, fitted, stages in pairs:
        sample = sample_of(triplet, fitted, stages.picture)
        box = sample.box("bicubic_mask")
        assert (box.left, box.top, box.right, box.bottom) == stages.box
        got = opencv_cubic(pad_to_square(crop(stages.picture, box)), (224, 224))
        peer = clip_input(stages.picture, stages.box)
        off = np.abs(got.astype(int) - peer)
        assert off.max() <= 1
        if max(box.bottom - box.top, box.right - box.left) >= 4:
            n_bytes, n_off = n_bytes + off.size, n_off + int(off.sum())
        antialiased = resize(pad_to_square(crop(stages.picture, box)), (224, 224), 3)
        n_shrunk += int(np.abs(antialiased.astype(int) - peer).max() > 1)
    assert n_off < n_bytes / 10_000
    # What antialiases is another picture wherever it shrinks one.
    assert n_shrunk > 20


def test_noise() -> None:
    for seed, h, w in ((0, 64, 64), (3, 48, 64), (2**40, 8, 8)):
        drawn = start_noise([seed, seed], (4, h, w), "run")
        peer = released_noise(seed, h, w)[0].float()
        assert torch.equal(drawn, torch.stack([peer, peer]))


#: Of these each value is seen in what becomes of a row; `box` is not, for PIL's mask is its own.
CHOICES = ["hull", "crowds", "order", "size", "picture", "mask", "dilation"]


@pytest.mark.parametrize("choice", CHOICES)
def test_each_choice_is_seen_by_these_tests(
    instances: tuple[Path, list[tuple[int, int]]], expected: dict[str, Stages], choice: str
) -> None:
    """One choice of `released` turned to its other value: some rows are no longer theirs."""
    other = "after_padding" if choice == "dilation" else getattr(OURS, choice)
    turned = replace(RELEASED, **{choice: other})
    path, rows = instances
    plan = plan_of(path, turned)
    found = {t.triplet_id: t for t in triplets_of((path, rows[:70]), turned)}
    required = [t.triplet_id for t in triplets_of((path, rows[:70]))]
    n_other = 0
    for name in required:
        if name not in found:
            n_other += 1
            continue
        triplet, stages = found[name], expected[name]
        fitted = plan.fitted(triplet)
        pixels = (fitted.image * 255).permute(1, 2, 0).numpy()
        n_other += not (
            np.array_equal(triplet_mask(triplet), stages.hull)
            and np.array_equal(fitted.mask.numpy(), stages.padded_mask)
            and np.array_equal(pixels, stages.padded_picture)
            and np.array_equal(pyramid_of(fitted, turned).image[0].numpy(), stages.dilated)
        )
    assert n_other > 3
