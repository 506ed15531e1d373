"""The upscaler's folder: what it must hold, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionUpscalePipeline
from safetensors.torch import load_file, save_file

from profi.highres import Upscaler, load_upscaler
from profi.highres.upscaler import vae_dtype
from profi.types import UserError


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "x4"))


def change_config(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def refused(source: Path | str, **more: Any) -> str:
    with pytest.raises(UserError) as caught:
        load_upscaler(source, "cpu", **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_folder_of_diffusers_pipeline_is_loaded(folder: Path, upscaler: Upscaler) -> None:
    theirs = StableDiffusionUpscalePipeline.from_pretrained(folder)
    for name, value in theirs.unet.state_dict().items():
        assert torch.equal(upscaler.unet.state_dict()[name], value)
    assert upscaler.schedule.prediction_type == "v_prediction"
    alphas = theirs.low_res_scheduler.alphas_cumprod.double()
    torch.testing.assert_close(upscaler.low_schedule.alphas_cumprod, alphas, atol=1e-6, rtol=0)
    assert upscaler.noise_levels == 351
    assert upscaler.pixel_multiple == 16
    assert not any(p.requires_grad for p in upscaler.unet.parameters())
    assert sorted(name.split("/")[0] for name in upscaler.weights) == [
        "text_encoder",
        "unet",
        "vae",
    ]


def test_every_weight_and_setting_is_in_the_identity(copy: Path) -> None:
    before = load_upscaler(copy, "cpu").identity
    assert load_upscaler(copy, "cpu").identity == before
    changes = {
        "low_res_scheduler/scheduler_config.json": {"beta_end": 0.03},
        "scheduler/scheduler_config.json": {"prediction_type": "epsilon"},
        "vae/config.json": {"scaling_factor": 0.1},
    }
    for name, values in changes.items():
        kept = (copy / name).read_text()
        change_config(copy / name, **values)
        assert load_upscaler(copy, "cpu").identity != before, name
        (copy / name).write_text(kept)
    for part in ("unet", "vae", "text_encoder"):
        file = next((copy / part).glob("*.safetensors"))
        weights = load_file(file)
        first = min(weights)
        save_file({**weights, first: weights[first] + 1}, file, {"format": "pt"})
        assert load_upscaler(copy, "cpu").identity != before, part
        save_file(weights, file, {"format": "pt"})
    assert load_upscaler(copy, "cpu").identity == before
    assert replace(load_upscaler(copy, "cpu"), prompt_suffix="x").identity != before


def test_half_precision_leaves_a_vae_that_overflows(copy: Path) -> None:
    half = load_upscaler(copy, "cpu", "bfloat16")
    assert half.unet.dtype == torch.bfloat16
    assert half.vae.dtype == torch.float32  # on a CPU
    for force, dtype in ((True, torch.float32), (False, torch.float16)):
        half.vae.register_to_config(force_upcast=force)
        assert vae_dtype(half.vae, torch.float16, torch.device("cuda")) == dtype
        assert vae_dtype(half.vae, torch.bfloat16, torch.device("cuda")) == torch.bfloat16


@pytest.mark.parametrize(
    "part",
    ["unet/config.json", "vae/config.json", "tokenizer", "text_encoder/config.json",
     "scheduler/scheduler_config.json", "low_res_scheduler/scheduler_config.json"],
)  # fmt: skip
def test_a_missing_part_is_named(copy: Path, part: str) -> None:
    path = copy / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert part in refused(copy)


def test_missing_weights_and_pickles_are_refused(copy: Path) -> None:
    file = next((copy / "unet").glob("*.safetensors"))
    torch.save(load_file(file), copy / "unet" / "diffusion_pytorch_model.bin")
    file.unlink()
    assert "safetensors" in refused(copy)


def test_other_models_are_refused(copy: Path) -> None:
    change_config(copy / "unet/config.json", num_class_embeds=None)
    assert "num_class_embeds" in refused(copy) or "unet/" in refused(copy)


def test_a_vae_of_another_factor_is_refused(copy: Path) -> None:
    AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    ).save_pretrained(copy / "vae")
    assert "2 pixels per latent, not 4" in refused(copy)


def test_unknown_names_are_refused_without_a_network(tmp_path: Path) -> None:
    assert "upscaler 'x5' is unknown" in refused("x5")
    assert "owner/name" in refused(str(tmp_path / "nowhere"))
    assert "neither a local folder nor" in refused("nobody/no-such-upscaler")
    assert "dtype" in refused("mini", dtype="int8")
