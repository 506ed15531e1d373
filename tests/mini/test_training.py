"""Training: an interrupted run equals an undisturbed one, and the pieces keep their laws."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from profi.mini import models
from profi.mini.scenes import SceneSampler, SpriteSheet
from profi.mini.training.crops import (
    boxes_of,
    crop_resize,
    graded,
    object_crops,
    recolour,
    view_resize,
)
from profi.mini.training.diffusion_stages import Holes, Order, draw_holes, widen
from profi.mini.training.latents_stage import Latents, down, object_masks, random_masks
from profi.mini.training.stage import make_generator, train_stage
from profi.mini.world import world
from profi.training.loop import Plan, stratified_timesteps
from profi.training.muon import Muon, orthogonalised

CPU = torch.device("cpu")
FOREVER = float("inf")


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
            plan = Plan(steps=40, batch=16, rate=0.05, warmup=5)
            train_stage(model, loss_at, plan, tmp_path, FOREVER)
        except KeyboardInterrupt:
            continue
    return model


def test_training_learns_and_goes_on_from_its_checkpoint_as_if_undisturbed(tmp_path, monkeypatch):
    monkeypatch.setattr("profi.mini.training.stage.SAVE_SECONDS", 0.0)  # save after every step
    whole = regression(tmp_path / "a", [None])
    parts = regression(tmp_path / "b", [7, 23, None])
    assert torch.equal(whole.weight, parts.weight)
    start = nn.Linear(4, 1)
    assert (whole.weight - 1).abs().max() < (start.weight - 1).abs().max()


def test_the_average_is_of_all_steps_at_first_and_of_the_last_ones_later(tmp_path):
    torch.manual_seed(0)
    model, seen = nn.Linear(3, 1), []

    def loss_at(step):
        seen.append(model.weight.detach().clone())
        x = torch.randn(8, 3, generator=make_generator(CPU, 1, step))
        return {"mse": (model(x) - 1).square().mean()}

    plan = Plan(steps=60, batch=8, rate=0.1, warmup=1, ema=0.75)
    train_stage(model, loss_at, plan, tmp_path, FOREVER)
    final = load_file(tmp_path / "checkpoint-60" / "model.safetensors")["weight"]
    expected = seen[0].clone()
    for step, weight in enumerate([*seen[1:], final], start=1):
        decay = min(0.75, (step + 1) / (step + 10))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(model.weight.detach(), expected)


def test_muon_moves_every_direction_of_a_matrix_alike():
    g = torch.Generator().manual_seed(0)
    # Singular values from 0.01 to 1.
    u, v = (torch.linalg.qr(torch.randn(6, 6, generator=g)).Q for _ in range(2))
    gradient = u @ torch.diag(torch.logspace(-2, 0, 6)) @ v
    moved = orthogonalised(gradient)
    assert torch.linalg.svdvals(gradient)[-1] < 0.02
    assert ((torch.linalg.svdvals(moved) > 0.3) & (torch.linalg.svdvals(moved) < 1.3)).all()
    # Its directions stay: U^T moved V is diagonal.
    inner = u.T @ moved @ v.T
    assert (inner - inner.diag().diag()).abs().max() < 1e-4
    torch.testing.assert_close(orthogonalised(gradient.T), moved.T)


def test_a_step_of_muon_in_closed_form():
    matrix, vector = nn.Parameter(torch.zeros(4, 2)), nn.Parameter(torch.zeros(3))
    optimizer = Muon([matrix, vector], rate=0.5, vector_rate=0.1, weight_decay=0.0)
    gradient = torch.arange(8.0).view(4, 2)
    matrix.grad, vector.grad = gradient.clone(), torch.tensor([2.0, -3.0, 0.5])
    optimizer.step()
    # A tall matrix moves sqrt(4 / 2) times as far; AdamW's first step is the gradient's sign.
    torch.testing.assert_close(
        matrix.detach(), -0.5 * 2**0.5 * orthogonalised(gradient * (1 - 0.95 * 0.95))
    )
    torch.testing.assert_close(vector.detach(), -0.1 * vector.grad.sign())


def test_a_training_by_muon_goes_on_as_if_undisturbed(tmp_path, monkeypatch):
    monkeypatch.setattr("profi.mini.training.stage.SAVE_SECONDS", 0.0)

    def run(folder, stops):
        for last in stops:
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))

            def loss_at(step, model=model, last=last):
                if step == last:
                    raise KeyboardInterrupt
                x = torch.randn(16, 4, generator=make_generator(CPU, 5, step))
                return {"mse": (model(x) - x.sum(1, keepdim=True)).square().mean()}

            plan = Plan(steps=20, batch=16, rate=0.01, matrix_rate=0.05, warmup=5)
            try:
                train_stage(model, loss_at, plan, folder, FOREVER)
            except KeyboardInterrupt:
                continue
        return model

    whole, parts = run(tmp_path / "a", [None]), run(tmp_path / "b", [6, None])
    assert all(map(torch.equal, whole.parameters(), parts.parameters()))


@pytest.mark.parametrize("matrix_rate", [None, 0.05])
def test_a_checkpoint_in_the_older_layout_goes_on_as_if_undisturbed(tmp_path, matrix_rate):
    """model, ema, optimizer.pt, and a state.json of {step, seconds}; a log with DOS line ends."""
    plan = Plan(steps=6, batch=16, rate=0.01, matrix_rate=matrix_rate, warmup=2, ema=0.9)

    def new():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))

    def loss_of(model, step):
        x = torch.randn(16, 4, generator=make_generator(CPU, 5, step))
        return (model(x) - x.sum(1, keepdim=True)).square().mean()

    # Three updates by hand, as that version made them.
    model = new().train()
    trained = list(model.parameters())
    if matrix_rate is None:
        optimizer = torch.optim.AdamW(trained, lr=0.01, betas=(0.9, 0.99), weight_decay=0.01)
    else:
        optimizer = Muon(trained, matrix_rate, 0.01, 0.01)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    for step in range(3):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate_at(step) * group.get("share", 1.0)
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss_of(model, step).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        decay = min(0.9, (step + 2) / (step + 11))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value, 1 - decay)
            else:
                average[name].copy_(value)
    folder = tmp_path / "old" / "checkpoint-3"
    folder.mkdir(parents=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    save_file(average, folder / "ema.safetensors")
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    (folder / "state.json").write_text('{"step": 3, "seconds": 7.5}')
    (tmp_path / "old" / "loss.csv").write_text("3,7.5,mse=1.00000\r\n4,9.9,mse=0.90000\r\n")

    asked, ends = [], []
    for name in ("old", "whole"):
        model = new()

        def loss_at(step, model=model):
            asked.append(step)
            return {"mse": loss_of(model, step)}

        figures = train_stage(model, loss_at, plan, tmp_path / name, FOREVER)
        assert figures["steps"] == 6
        ends.append(model.state_dict())
    assert asked == [3, 4, 5, 0, 1, 2, 3, 4, 5]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[1])
    rows = (tmp_path / "old" / "loss.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["3", "6"]
    assert float(rows[1].split(",")[1]) >= 7.5


def test_an_order_shows_every_scene_once_before_any_again():
    order = Order(count=12, batch=4, seed=3)
    first, second = (torch.cat([order(step) for step in steps]) for steps in ((0, 1, 2), (3, 4, 5)))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(12))
    assert first.tolist() != second.tolist()
    assert torch.equal(Order(count=12, batch=4, seed=3)(4), order(4))


def test_timesteps_are_spread_evenly():
    t = stratified_timesteps(50, torch.Generator().manual_seed(0))
    assert ((t >= torch.arange(50) * 20) & (t < torch.arange(1, 51) * 20)).all()


def test_a_latent_that_a_mask_touches_is_masked():
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[0, 7, 8] = True  # the last row of the first latent, the first column of the second
    assert down(mask, 2)[0, 0].tolist() == [[0, 1], [0, 0]]


def test_holes_are_of_their_scene_and_over_objects_as_often_as_said():
    P, M = 400, 3
    marks = torch.arange(P * M).view(P, M)
    scenes = Latents(
        x0=torch.zeros(P, 1, 1, 1),
        masked=marks.view(P, M, 1, 1, 1).float(),
        mask=(marks % M).view(P, M, 1, 1).byte(),
        kinds=torch.zeros(P, 1, dtype=torch.int8),
    )
    rows = torch.randperm(P, generator=torch.Generator().manual_seed(1))
    g = torch.Generator().manual_seed(2)
    mask, masked = draw_holes(scenes, rows, Holes(over_objects=0.25), g)
    chosen = masked.flatten().long()
    assert torch.equal(chosen // M, rows)
    assert torch.equal(chosen % M, mask.flatten().long())
    shares = torch.bincount(chosen % M, minlength=M) / P
    assert shares.tolist() == pytest.approx([0.375, 0.375, 0.25], abs=0.06)
    mask, _ = draw_holes(scenes, rows, Holes(), g)
    assert int(mask.max()) == M - 2


def test_the_learning_rate_rises_stays_and_falls_to_nothing():
    plan = Plan(steps=100, batch=1, rate=2.0, warmup=10, decay=0.4)
    assert plan.rate_at(0) == pytest.approx(0.2)
    assert plan.rate_at(30) == plan.rate_at(60) == 2.0
    assert plan.rate_at(80) == pytest.approx(1.0)
    assert plan.rate_at(100) == 0.0


def test_the_widened_unet_computes_what_its_source_does():
    size = world("cpu")
    torch.manual_seed(0)
    C = size.latent_channels
    source = models.unet(size, C).eval()
    wide = widen(source, size).eval()
    x, extra = torch.randn(2, C, 16, 16), torch.randn(2, C + 1, 16, 16)
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
