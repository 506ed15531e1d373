"""The stages `controlnet` and `smartbrush`: what they begin with and what they leave."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import ControlNetModel, UNet2DConditionModel

from profi.mini import models
from profi.mini.training import clip_stage, controlnet_stage, smartbrush_stage
from profi.mini.world import World, world
from profi.training.loop import Plan
from profi.types import UserError

CPU = torch.device("cpu")


@pytest.fixture
def size() -> World:
    return world("cpu")


@pytest.fixture
def work(size: World, tmp_path: Path) -> Path:
    """What the stages before left, taken from what ships."""
    for part in ("vae", "text_encoder", "tokenizer"):
        shutil.copytree(size.folder / "inpaint" / part, tmp_path / "models" / part)
    shutil.copytree(size.folder / "t2i", tmp_path / "models" / "t2i")
    return tmp_path


def test_the_condition_is_the_picture_with_minus_one_in_the_hole() -> None:
    images = torch.rand(2, 3, 4, 4)
    holes = torch.zeros(2, 4, 4, dtype=torch.bool)
    holes[0, 1, 2] = True
    condition = controlnet_stage.condition(images, holes)
    assert (condition[0, :, 1, 2] == -1).all()
    kept = ~holes[:, None].expand_as(images)
    assert torch.equal(condition[kept], images[kept])


def test_a_new_controlnet_fits_the_latents_and_says_nothing(size: World) -> None:
    torch.manual_seed(0)
    unet = models.unet(size, in_channels=4).eval()
    widths = controlnet_stage.WIDTHS[: len(size.vae_channels)]
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=widths).eval()
    x, t, context = torch.randn(1, 4, 16, 16), torch.tensor([300]), torch.randn(1, 8, 128)
    condition = torch.rand(1, 3, size.image_size, size.image_size)
    with torch.no_grad():
        down, mid = control(x, t, context, controlnet_cond=condition, return_dict=False)
    assert not mid.any()
    assert not any(one.any() for one in down)


def test_the_controlnet_s_stage_starts_at_the_unet_s_encoder_and_trains(
    size: World, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = json.loads((work / "models" / "vae" / "config.json").read_text())
    if len(vae["block_out_channels"]) != len(size.vae_channels):
        pytest.skip("the shipped autoencoder is of an earlier version of the world")
    plan = Plan(steps=2, batch=4, rate=1e-3, warmup=1)
    monkeypatch.setattr(controlnet_stage, "PLANS", {"cpu": plan})
    monkeypatch.setattr(controlnet_stage, "POOL", 64)
    figures = controlnet_stage.run(size, CPU, work, 0, float("inf"))
    assert (figures["steps"], figures["samples"]) == (2, 8)
    trained = ControlNetModel.from_pretrained(work / "models" / "controlnet")
    source = UNet2DConditionModel.from_pretrained(work / "models" / "t2i" / "unet")
    assert trained.controlnet_mid_block.weight.abs().amax() > 0
    mine, theirs = trained.conv_in.weight.float(), source.conv_in.weight.float()
    assert 0 < (mine - theirs).abs().amax() < 0.1


def test_smartbrush_s_stage_leaves_a_model_and_its_figures(
    size: World, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    recipe = replace(smartbrush_stage.MINI, steps=2, batch=4)
    monkeypatch.setattr(smartbrush_stage, "RECIPES", {"cpu": recipe})
    monkeypatch.setattr(smartbrush_stage, "POOLS", {"cpu": 8})
    folder = work / "models" / "smartbrush"
    # Stopped early, it leaves nothing that could be taken for the model.
    assert smartbrush_stage.run(size, CPU, work, 0, 0.0)["steps"] == 1
    assert not folder.exists()
    AcceleratorState._reset_state(reset_partial_state=True)
    figures = smartbrush_stage.run(size, CPU, work, 0, float("inf"))
    assert (figures["steps"], figures["samples"]) == (2, 8)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    assert figures["parameters"] == unet.num_parameters()
    assert unet.config.num_class_embeds == recipe.coarsest + 1
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["prediction_type"] == "v_prediction"


def test_a_resumed_clip_keeps_the_tokenizer_that_it_began_with(
    size: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one would number the words otherwise: its trainer breaks ties at random."""
    monkeypatch.setattr(clip_stage, "PLANS", {"cpu": Plan(steps=2, batch=8, warmup=1)})
    monkeypatch.setattr(clip_stage, "POOL", 512)
    tokenizer = tmp_path / "models" / "tokenizer"
    assert clip_stage.run(size, CPU, tmp_path, 0, 0.0)["steps"] == 1
    first = {path.name: path.read_bytes() for path in tokenizer.iterdir()}
    monkeypatch.setattr(clip_stage, "build_tokenizer", lambda *_: pytest.fail("it was made anew"))
    assert clip_stage.run(size, CPU, tmp_path, 0, float("inf"))["steps"] == 2
    assert {path.name: path.read_bytes() for path in tokenizer.iterdir()} == first


@pytest.mark.parametrize("device", ["foo", "cuda:x", "cuda:99"])
def test_a_device_that_is_none_is_refused(
    load_script: Callable[[str], ModuleType], tmp_path: Path, device: str
) -> None:
    with pytest.raises(UserError, match=f"device={device}"):
        load_script("train_mini").main(["stage=vae", f"device={device}", f"work={tmp_path}"])
