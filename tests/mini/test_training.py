"""Training: an interrupted run equals an undisturbed one, and the pieces keep their laws."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from profi.mini import models
from profi.mini.scenes import SceneSampler, SpriteSheet
from profi.mini.training import inpaint
from profi.mini.training.crops import (
    boxes_of,
    crop_resize,
    graded,
    object_crops,
    recolour,
    view_resize,
)
from profi.mini.training.loop import Plan, make_generator, train
from profi.mini.training.masks import object_masks, random_masks
from profi.mini.world import world

CPU = torch.device("cpu")


def regression(tmp_path, minutes_of_steps):
    """Train a line; `minutes_of_steps` lists where each run stops."""
    for last in minutes_of_steps:
        torch.manual_seed(0)
        model = nn.Linear(4, 1)

        def loss_at(step, model=model, last=last):
            if step == last:
                raise KeyboardInterrupt
            g = make_generator(CPU, 5, step)
            x = torch.randn(16, 4, generator=g)
            return {"mse": (model(x) - x.sum(1, keepdim=True)).square().mean()}

        try:
            train(model, loss_at, Plan(steps=40, batch=16, rate=0.05, warmup=5), tmp_path)
        except KeyboardInterrupt:
            continue
    return model


def test_training_learns_and_goes_on_from_its_checkpoint_as_if_undisturbed(tmp_path, monkeypatch):
    monkeypatch.setattr("profi.mini.training.loop.SAVE_SECONDS", 0.0)  # save after every step
    whole = regression(tmp_path / "a", [None])
    parts = regression(tmp_path / "b", [7, 23, None])
    assert torch.equal(whole.weight, parts.weight)
    start = nn.Linear(4, 1)
    assert (whole.weight - 1).abs().max() < (start.weight - 1).abs().max()


def test_the_learning_rate_rises_stays_and_falls_to_nothing():
    plan = Plan(steps=100, batch=1, rate=2.0, warmup=10, decay=0.4)
    assert plan.rate_at(0) == pytest.approx(0.2)
    assert plan.rate_at(30) == plan.rate_at(60) == 2.0
    assert plan.rate_at(80) == pytest.approx(1.0)
    assert plan.rate_at(100) == 0.0


def test_the_widened_unet_computes_what_its_source_does():
    size = world("cpu")
    torch.manual_seed(0)
    source = models.unet(size, 4).eval()
    wide = inpaint.widen(source, size).eval()
    x, extra = torch.randn(2, 4, 16, 16), torch.randn(2, 5, 16, 16)
    t, context = torch.tensor([10, 700]), torch.randn(2, 8, size.text_width)
    with torch.no_grad():
        a = source(x, t, context).sample
        b = wide(torch.cat([x, extra], 1), t, context).sample
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_boxes_against_a_plain_loop():
    masks = torch.rand(5, 3, 12, 12, generator=torch.Generator().manual_seed(0)) > 0.95
    masks[0, 0] = False
    boxes = boxes_of(masks)
    for i in range(5):
        for j in range(3):
            rows, columns = np.nonzero(masks[i, j].numpy())
            expected = (
                [0.0] * 4
                if not len(rows)
                else [
                    columns.min() / 12,
                    rows.min() / 12,
                    (columns.max() + 1) / 12,
                    (rows.max() + 1) / 12,
                ]
            )
            assert boxes[i, j].tolist() == pytest.approx(expected)


def test_a_view_of_the_whole_image_is_the_image_and_crops_equal_pillow_s():
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    whole = view_resize(image, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), 32)
    torch.testing.assert_close(whole, image, atol=1e-5, rtol=0)
    box = torch.tensor([[0.25, 0.5, 0.5, 0.625]])  # 8 wide, 4 high, in pixels (8, 16, 16, 20)
    crop = crop_resize(image, box, 8)
    array = (image[0].permute(1, 2, 0).numpy() * 255).astype(np.float32)
    square = np.zeros((8, 8, 3), np.float32)
    square[2:6] = array[16:20, 8:16]
    channels = [np.asarray(Image.fromarray(square[..., c])) for c in range(3)]
    torch.testing.assert_close(crop[0] * 255, torch.tensor(np.stack(channels)), atol=0.01, rtol=0)


def test_masks_cover_their_object_and_differ_from_each_other():
    size = world("cpu")
    g = torch.Generator().manual_seed(0)
    scenes = SceneSampler(size, SpriteSheet.load(size, "train")).sample(48, g)
    over = object_masks(scenes.masks, g)
    covers_one = (scenes.masks & over[:, None]).flatten(2).sum(-1) == scenes.masks.flatten(2).sum(
        -1
    )
    assert (covers_one & (scenes.category >= 0)).any(1).all()
    anywhere = random_masks(64, 64, g)
    assert anywhere.flatten(1).any(1).all()
    assert len({m.numpy().tobytes() for m in anywhere}) > 48


def test_crops_show_their_category_and_corruption_grows_with_the_grade():
    size = world("cpu")
    g = torch.Generator().manual_seed(0)
    scenes = SceneSampler(size, SpriteSheet.load(size, "val")).sample(64, g)
    crops, kind = object_crops(scenes, 64, g, jitter=0.0)
    assert crops.shape[1:] == (3, 64, 64)
    assert ((scenes.category == kind[:, None]).any(1)).all()
    images, rating = graded(scenes.image, g)
    error = (images - scenes.image).square().flatten(1).mean(1)
    torch.testing.assert_close(images[rating == 10], scenes.image[rating == 10], atol=1e-4, rtol=0)
    assert error[rating < 3].mean() > 3 * error[rating > 7].mean()


def test_recolouring_turns_hues_and_keeps_greys_and_brightness():
    g = torch.Generator().manual_seed(0)
    grey = torch.full((16, 3, 4, 4), 0.4)
    torch.testing.assert_close(recolour(grey, g, 1.0), grey, atol=1e-4, rtol=0)
    red = torch.zeros(16, 3, 4, 4) + torch.tensor([0.6, 0.4, 0.4]).view(3, 1, 1)
    turned = recolour(red, g, 1.0)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    torch.testing.assert_close((turned * luma).sum(1), (red * luma).sum(1), atol=1e-4, rtol=0)
    assert (turned - red).abs().amax() > 0.05
    assert torch.equal(recolour(red, g, 0.0), red)
