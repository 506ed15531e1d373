"""The embedded world's scenes as a source of samples."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy.spatial import ConvexHull

from profi.mini.scenes import SceneSampler, SpriteSheet
from profi.mini.training.smartbrush_stage import MINI, SceneSource
from profi.mini.world import WORLDS, world
from profi.training.examples import Draw, TextToImage
from profi.training.recipe import Recipe
from profi.training.smartbrush_loss import Batch, at_precision

SIZE = WORLDS["cpu"]


@pytest.fixture(scope="module")
def shipped() -> TextToImage:
    return TextToImage.load(SIZE.folder / "t2i", SIZE.folder / "inpaint")


def one(source: SceneSource, expected: list[range]) -> Batch:
    return Batch.joined(list(source.batches(expected)))


def test_a_sample_is_the_same_in_any_batch_and_after_any_resume(shipped: TextToImage) -> None:
    source = SceneSource(world("cpu"), shipped, MINI, size=16, uses=2)
    # 0 to 47: two passes over the first pool, half a pass over the second.
    whole = one(source, [range(0, 48)])
    parts = one(source, [range(0, 5), range(5, 20), range(20, 48)])
    later = one(source, [range(30, 48)])
    for spec in fields(Batch):
        assert torch.equal(getattr(whole, spec.name), getattr(parts, spec.name))
        assert torch.equal(getattr(whole, spec.name)[30:], getattr(later, spec.name))
    first, second, third = whole.latents.split(16)
    for other, shared in ((second, 16), (third, 0)):
        distance = (first.flatten(1)[:, None] - other.flatten(1)).abs().amax(2)
        assert int((distance < 1e-6).any(1).sum()) == shared
    assert not torch.equal(first, second)  # in another order


def test_the_words_and_the_levels_are_those_drawn(shipped: TextToImage) -> None:
    recipe = Recipe(drop_text=0.0, captions=0.0, inpainting=1.0)
    batch = one(SceneSource(world("cpu"), shipped, recipe, size=32), [range(32)])
    order = SceneSource(world("cpu"), shipped, recipe, size=32)._order(0)
    for i, place in enumerate(order.tolist()):
        text = shipped.tokenizer.decode(batch.ids[i], skip_special_tokens=True).strip()
        if batch.inpainting[i]:
            assert text in SIZE.categories
            assert int(batch.levels[i]) == Draw.of(recipe, place).level
    assert batch.inpainting.sum() >= 30  # all but scenes without a visible object


def test_masks_cover_what_is_behind_the_grey(shipped: TextToImage) -> None:
    """Outside the mask the masked image's latents are nearly the image's own, inside not."""
    batch = one(SceneSource(world("cpu"), shipped, MINI, size=32), [range(32)])
    painted = batch.rows(batch.inpainting.nonzero()[:, 0])
    error = (painted.latents - painted.known).abs().mean(1, keepdim=True)
    assert error[painted.mask].mean() > 3 * error[~painted.mask].mean()
    assert bool((painted.exact <= painted.mask).all())


def test_levels_1_and_2_are_those_most_like_convex_hulls() -> None:
    """What docs/smartbrush.md says of the benchmark's masks."""
    sampler = SceneSampler(SIZE, SpriteSheet.load(SIZE, "train"))
    scenes = sampler.sample(384, torch.Generator().manual_seed(3))
    masks = scenes.masks[:, 0][scenes.category[:, 0] >= 0]
    hulls = []
    for mask in masks:
        points = np.argwhere(mask.numpy())[:, ::-1]
        corners = points[ConvexHull(points).vertices]
        canvas = Image.new("1", (SIZE.image_size, SIZE.image_size))
        ImageDraw.Draw(canvas).polygon([tuple(map(int, p)) for p in corners], fill=1, outline=1)
        hulls.append(torch.from_numpy(np.array(canvas)))
    hull = torch.stack(hulls)
    overlap = []
    for level in range(MINI.coarsest + 1):
        levels = torch.full((len(masks),), level)
        m = at_precision(masks, levels, MINI.blurs, MINI.threshold)
        both, either = (m & hull).flatten(1).sum(1), (m | hull).flatten(1).sum(1)
        overlap.append(float((both / either).mean()))
    assert set(sorted(range(5), key=overlap.__getitem__)[-2:]) == {1, 2}
    assert overlap == pytest.approx([0.83, 0.86, 0.84, 0.78, 0.74], abs=0.02)
