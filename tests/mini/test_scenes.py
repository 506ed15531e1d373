"""The scenes: exact masks, seeded, different splits, truthful captions and COCO polygons."""

import json
import random

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from profi.metrics.detectors import COCO_CATEGORIES
from profi.mini.scenes import (
    MIN_VISIBLE,
    CaptionNoise,
    SceneSampler,
    SpriteSheet,
    build_tokenizer,
    caption,
    noisy_caption,
)
from profi.mini.training.scene_files import polygons
from profi.mini.world import SPRITES, WORLDS, world
from profi.types import UserError


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def sampler(request):
    size = world(request.param)
    return SceneSampler(size, SpriteSheet.load(size, "train"))


def draw(sampler, seed, n=24):
    return sampler.sample(n, torch.Generator().manual_seed(seed))


def test_the_same_seed_gives_the_same_scenes_and_another_seed_others(sampler):
    a, b, c = draw(sampler, 1), draw(sampler, 1), draw(sampler, 2)
    assert torch.equal(a.image, b.image)
    assert torch.equal(a.masks, b.masks)
    assert not torch.equal(a.image, c.image)


def test_masks_are_disjoint_and_cover_just_what_was_drawn(sampler):
    scenes = draw(sampler, 3, 64)
    assert scenes.masks.sum(1).max() <= 1
    # Where no alpha at all was drawn the picture is its background; a mask lies where one was.
    changed = (scenes.image - scenes.clear).abs().amax(1) > 0
    assert (changed | ~scenes.masks.any(1)).float().mean() > 0.999
    assert torch.equal(scenes.masks.flatten(2).any(-1), scenes.category >= 0)


def test_an_object_that_is_mostly_hidden_is_not_annotated(sampler):
    assert 0 < MIN_VISIBLE < 1
    scenes = draw(sampler, 4, 128)
    counts = (scenes.category >= 0).sum(1)
    assert counts.min() >= 1
    assert counts.max() == sampler.world.max_objects


def test_the_shipped_categories_have_three_training_sprites_and_one_that_training_never_sees():
    index = json.loads((SPRITES / "sprites.json").read_text())["sprites"]
    by_category: dict[str, list[str]] = {}
    for sprite in index:
        by_category.setdefault(sprite["category"], []).append(sprite["split"])
    assert len({(sprite["category"], sprite["source"]) for sprite in index}) == len(index)
    for category, splits in by_category.items():
        assert category in COCO_CATEGORIES
        assert set(splits) in ({"train", "val"}, {"both"})
        if category in world("cpu").categories:
            assert splits.count("train") >= 3, category
            assert splits.count("val") >= 1, category


def test_objects_stand_mostly_free_and_often_in_groups(sampler):
    scenes = draw(sampler, 6, 256)
    several = (scenes.category >= 0).sum(1) > 1
    kinds = scenes.category[several]
    again = (kinds[:, 1:] == kinds[:, :1]) & (kinds[:, :1] >= 0) & (kinds[:, 1:] >= 0)
    there = (kinds[:, 1:] >= 0) & (kinds[:, :1] >= 0)
    chance = 1 / len(sampler.world.categories)
    expected = sampler.repeats + (1 - sampler.repeats) * chance
    assert (again.sum() / there.sum()).item() == pytest.approx(expected, abs=0.07)
    # Few are so hidden that they are not annotated: three in a hundred at most.
    crowded = SceneSampler(sampler.world, sampler.sheet, places=1)
    dropped = draw(crowded, 6, 256).category.lt(0).sum() - scenes.category.lt(0).sum()
    assert dropped > 0


def test_noisy_captions_leave_out_and_err_as_often_as_they_say():
    every, rng = ("apple", "bus", "car", "cup"), random.Random(0)
    texts = [noisy_caption(["bus", "car"], every, CaptionNoise(), rng) for _ in range(200)]
    assert all("bus" in text and "car" in text for text in texts)
    noise = CaptionNoise(left_out=0.4)
    texts = [noisy_caption(["bus", "car"], every, noise, rng) for _ in range(1000)]
    both = sum("bus" in text and "car" in text for text in texts) / 1000
    assert both == pytest.approx(0.6, abs=0.05)
    assert all("bus" in text or "car" in text for text in texts)
    noise = CaptionNoise(foreign=0.5)
    texts = [noisy_caption(["bus"], every, noise, rng) for _ in range(1000)]
    # Half are foreign; of those, one that names one object names the bus in a quarter of cases,
    # one that names two in half.
    right = sum("bus" in text for text in texts) / 1000
    assert right == pytest.approx(0.5 + 0.5 * (2 / 3 * 1 / 4 + 1 / 3 * 1 / 2), abs=0.05)


def test_every_category_of_both_sizes_has_sprites_in_both_splits():
    for size in WORLDS.values():
        for split in ("train", "val"):
            sheet = SpriteSheet.load(size, split)
            assert sorted(set(sheet.category.tolist())) == list(range(len(size.categories)))


def test_an_unknown_size_is_refused_by_name():
    with pytest.raises(UserError, match="size=huge"):
        world("huge")


def test_polygons_give_back_their_mask(sampler):
    scenes = draw(sampler, 5)
    side = sampler.world.image_size
    for mask in scenes.masks.flatten(0, 1).numpy():
        if mask.sum() < 40:
            continue
        rle = coco_mask.merge(coco_mask.frPyObjects(polygons(mask), side, side))
        again = coco_mask.decode(rle).astype(bool)
        # Holes are filled by COCO's polygons; apart from them and the rim both are the same.
        assert (mask & again).sum() >= 0.9 * mask.sum()
        assert np.count_nonzero(mask & ~again) <= np.count_nonzero(mask) * 0.1


def test_captions_name_each_category_once_and_tokenize_to_whole_words(tmp_path):
    tokenizer = build_tokenizer(tmp_path, 32)
    rng = random.Random(0)
    for names in (["bus"], ["apple", "teddy bear"], ["car", "car", "stop sign"], []):
        for _ in range(20):
            text = caption(names, rng)
            assert all(text.count(name) == 1 for name in set(names))
            pieces = tokenizer.tokenize(text)
            assert all(piece.endswith("</w>") for piece in pieces)


def test_the_tokenizer_is_that_of_clip_in_layout(tmp_path):
    tokenizer = build_tokenizer(tmp_path, 32)
    ids = tokenizer("a dog", padding="max_length", max_length=32).input_ids
    assert ids[0] == tokenizer.bos_token_id == len(tokenizer) - 2
    assert ids[3:] == [tokenizer.eos_token_id] * 29
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
