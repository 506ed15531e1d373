"""What a checkpoint belongs to, and what is done about a damaged or a stray one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tiny_model import RECIPE
from tiny_training import equal, new_accelerator, run, trained

from profi.training.checkpoints import Checkpoints, MovingAverage, Progress
from profi.training.examples import TextToImage
from profi.training.metrics_log import cut_log
from profi.training.smartbrush_loss import from_text_to_image
from profi.types import UserError

FINGERPRINT = {"model": "0123abcd", "side": 64, "crop_captions": None}


def stopped(model: TextToImage, folder: Path) -> None:
    run(model, folder, fingerprint=FINGERPRINT, stop=lambda step, _: step == 2, save_every=1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"side": 32}, "trained with side=64, not 32: give the same again, or another work="),
        ({"model": "ffff0000"}, "model=0123abcd, not ffff0000"),
        ({"crop_captions": "77"}, "crop_captions=unknown, not 77"),
        ({"side": 32, "min_share": 0.5}, "side=64, not 32; min_share=unknown, not 0.5"),
    ],
)
def test_a_checkpoint_of_another_model_or_data_is_named_and_left(
    model: TextToImage, tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    stopped(model, tmp_path)
    with pytest.raises(UserError, match=message):
        run(model, tmp_path, fingerprint=FINGERPRINT | changed)


def test_nor_is_one_of_another_recipe_precision_or_number_of_processes(
    model: TextToImage, tmp_path: Path
) -> None:
    stopped(model, tmp_path)
    recipe = replace(RECIPE, rate=1e-4, blurs=(0.1, 0.2, 0.3))
    message = r"rate=0.001, not 0.0001|blurs=0.02,0.06,0.15, not 0.1,0.2,0.3"
    with pytest.raises(UserError, match=message):
        run(model, tmp_path, recipe, fingerprint=FINGERPRINT)
    with pytest.raises(UserError, match="precision=no, not bf16"):
        run(model, tmp_path, RECIPE, new_accelerator(precision="bf16"), fingerprint=FINGERPRINT)
    state = tmp_path / "checkpoint-2" / "state.json"
    state.write_text(state.read_text().replace('"processes": 1', '"processes": 2'))
    with pytest.raises(UserError, match="processes=2, not 1"):
        run(model, tmp_path, fingerprint=FINGERPRINT)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"progress": {"step": 2}, "belongs": 3}', "\0"])
@pytest.mark.parametrize("file", ["state.json", "ema.safetensors", "model.safetensors"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_takes_over(
    model: TextToImage, tmp_path: Path, file: str, text: str
) -> None:
    stopped(model, tmp_path)
    (tmp_path / "checkpoint-2" / file).write_text(text)
    with pytest.raises(UserError, match=r"checkpoint-2 is damaged .*: delete that folder"):
        run(model, tmp_path, fingerprint=FINGERPRINT)
    if (file, text) == ("state.json", ""):
        for path in (tmp_path / "checkpoint-2").iterdir():
            path.unlink()
        (tmp_path / "checkpoint-2").rmdir()
        again, _, asked = run(model, tmp_path, fingerprint=FINGERPRINT)
        whole, _, _ = run(model, tmp_path / "whole")
        assert asked[0] == [2, 3]
        assert equal(again, whole)


def test_what_is_only_named_like_a_checkpoint_is_left_alone(
    model: TextToImage, tmp_path: Path
) -> None:
    for name in ("checkpoint-best", "checkpoint-9.tmp", "checkpoint-"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-8").write_text("a note")
    _, figures, asked = trained(model, tmp_path)
    assert (figures["steps"], len(asked)) == (4, 4)
    assert (tmp_path / "checkpoint-best").is_dir()


def test_the_last_two_are_kept(model: TextToImage, tmp_path: Path) -> None:
    run(model, tmp_path, save_every=1)
    kept = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert kept == ["checkpoint-3", "checkpoint-4"]
    states = [json.loads((tmp_path / name / "state.json").read_text()) for name in kept]
    assert [state["progress"]["step"] for state in states] == [3, 4]


@pytest.mark.parametrize("part", ["weight", "average", "moment"])
def test_what_is_not_finite_is_not_saved(new_unet, tmp_path: Path, part: str) -> None:  # type: ignore[no-untyped-def]
    unet: UNet2DConditionModel = new_unet(0)
    accelerator = new_accelerator()
    _, optimizer = accelerator.prepare(unet, torch.optim.AdamW(unet.parameters(), lr=0.0))
    for parameter in unet.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    average = MovingAverage(unet, 0.9, 0)
    checkpoints = Checkpoints(tmp_path, accelerator, unet, optimizer, average, {})
    checkpoints.save(Progress(1))
    parameter = next(unet.parameters())
    victims = {
        "weight": parameter,
        "average": next(iter(average.weights.values())),
        "moment": optimizer.state[parameter]["exp_avg_sq"],
    }
    victims[part].data.view(-1)[0] = torch.inf
    with pytest.raises(UserError, match=r"update 2: .*not finite.*checkpoint-1 is the last"):
        checkpoints.save(Progress(2))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_the_log_is_cut_where_the_checkpoint_is(tmp_path: Path) -> None:
    """Later lines go, and one that a kill broke off; notes and blank lines stay."""
    path = tmp_path / "loss.csv"
    path.write_text("step,seconds\n5,1.0,dice=1\n\n# a note\n10,2.0,dice=2\n15,3.0,dice=3\n1")
    cut_log(path, 10)
    assert path.read_text() == "step,seconds\n5,1.0,dice=1\n\n# a note\n10,2.0,dice=2\n"
    cut_log(tmp_path / "none.csv", 10)
    assert not (tmp_path / "none.csv").exists()


def test_the_layout_of_accelerate_s_own_checkpoints_is_read(
    model: TextToImage, tmp_path: Path
) -> None:
    """As earlier versions wrote it: optimizer.bin, and an average by the parameters' places."""
    whole, _, _ = run(model, tmp_path / "whole", fingerprint=FINGERPRINT)
    stopped(model, tmp_path / "old")
    shutil.rmtree(tmp_path / "old" / "checkpoint-1")
    folder = tmp_path / "old" / "checkpoint-2"
    (folder / "optimizer.pt").rename(folder / "optimizer.bin")
    average = load_file(folder / "ema.safetensors")
    names = [name for name, _ in from_text_to_image(model.unet, 4).named_parameters()]
    assert sorted(names) == sorted(average)
    places = {str(i): average[name] for i, name in enumerate(names)}
    save_file(places, folder / "ema.safetensors")
    again, _, asked = run(model, tmp_path / "old", fingerprint=FINGERPRINT)
    assert asked[0] == [4, 5]
    assert equal(again, whole)
