"""The embedded world at four times its size, and the upscaler trained on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from profi.highres import HIGHRES, Enlarging, Measures, compare, load_upscaler, measures
from profi.metrics.functional import bounding_box
from profi.mini import models
from profi.mini.fine_scenes import FACTOR, FineScenes, small, weave
from profi.mini.scenes import with_article
from profi.mini.training.upscaler_stage import crops, from_trained
from profi.mini.training.vae_stage import psnr
from profi.mini.world import SHIPPED, world
from profi.settings.evaluation import OURS

WORLD = world("cpu")


def scenes(n: int, seed: int = 0):
    return FineScenes.load(WORLD, "val").sample(n, torch.Generator().manual_seed(seed))


def test_fine_scenes_are_four_times_as_large_and_repeatable() -> None:
    one, again, other = scenes(2), scenes(2), scenes(2, 1)
    assert one.image.shape == (2, 3, 4 * WORLD.image_size, 4 * WORLD.image_size)
    assert 0 <= one.image.min() < one.image.max() <= 1
    assert torch.equal(one.image, again.image)
    assert not torch.equal(one.image, other.image)
    assert one.masks.any()


def test_the_small_picture_hardly_knows_the_weave() -> None:
    woven = weave(64, 128, torch.Generator().manual_seed(0))
    there = woven.flatten(1).std(1) > 0
    assert 0.6 < there.float().mean() < 1
    seen = functional.interpolate(
        woven[there], scale_factor=1 / FACTOR, mode="bicubic", antialias=True
    )
    assert seen.std() < 0.3 * woven[there].std()
    assert small(torch.rand(1, 3, 64, 64)).shape == (1, 3, 16, 16)


def test_pieces_are_of_the_images() -> None:
    images = torch.arange(3 * 2 * 20 * 20).view(3, 2, 20, 20)
    pieces, of = crops(images, 50, 6, torch.Generator().manual_seed(0))
    assert pieces.shape == (50, 2, 6, 6)
    assert set(of.tolist()) == {0, 1, 2}
    for piece, i in zip(pieces, of.tolist(), strict=True):
        top, left = divmod(int(piece[0, 0, 0] - images[i, 0, 0, 0]), 20)
        assert torch.equal(piece, images[i, :, top : top + 6, left : left + 6])


def test_the_vae_begins_with_the_layers_of_the_trained_one() -> None:
    folder = WORLD.folder / "inpaint" / "vae"
    trained = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32)
    fresh, begun = models.upscaler_vae(), from_trained(models.upscaler_vae(), trained)
    assert torch.equal(begun.encoder.conv_in.weight, trained.encoder.conv_in.weight)
    last = begun.decoder.up_blocks[-1].resnets[0].conv1.weight
    assert torch.equal(last, trained.decoder.up_blocks[-1].resnets[0].conv1.weight)
    assert last.shape == fresh.decoder.up_blocks[-1].resnets[0].conv1.weight.shape


def test_the_shipped_upscaler_is_small_and_has_no_pickles() -> None:
    files = [f for f in (SHIPPED / "upscaler").rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 4e6
    assert {f.suffix for f in files} == {".safetensors", ".json"}


def test_eq_16_keeps_the_known_region_and_its_seam() -> None:
    """The small picture is the true one, so that the ways to enlarge alone differ."""
    found, upscaler = scenes(1, 3), load_upscaler("mini", "cpu")
    with torch.no_grad():
        again = upscaler.decode(upscaler.encode(found.image * 2 - 1)) / 2 + 0.5
    ceiling = psnr(again.clamp(0, 1), found.image).item()
    assert ceiling > 22
    j = int((found.category[0] >= 0).nonzero()[0])
    box = bounding_box(found.masks[0, j].numpy())
    mask = torch.zeros(found.image.shape[2:], dtype=torch.bool)
    mask[box.top : box.bottom, box.left : box.right] = True
    settings = replace(HIGHRES["ours"], result="worked", num_inference_steps=5)
    work = Enlarging.of(
        found.image[0], mask, lambda *_: small(found.image)[0], WORLD.image_size, settings, OURS
    )
    prompt = with_article(WORLD.categories[int(found.category[0, j])])
    bicubic, free, eq16 = (measures(work, one) for one in compare(work, upscaler, prompt))
    assert isinstance(eq16, Measures)
    assert eq16.known_psnr > free.known_psnr + 2
    assert eq16.known_psnr > bicubic.known_psnr
    assert bicubic.faithful > eq16.faithful > 20
    assert eq16.texture > 2 * bicubic.texture
    assert np.isfinite(eq16.seam)
