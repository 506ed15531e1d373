from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from tiny_pipelines import make_pipeline

from profi.method.inpainting import StableInpainting
from profi.method.methods import compose
from profi.models.backbone import Backbone, auto_vae_dtype, load_backbone
from profi.models.model_folder import weight_hashes, weights_digest
from profi.settings.method import PAPER, Sampling
from profi.types import UserError


@pytest.fixture(scope="module")
def saved(
    backbone: Backbone,
    scheduler_config: dict[str, object],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("model")
    backbone.unet.save_pretrained(folder / "unet")
    backbone.vae.save_pretrained(folder / "vae")
    backbone.text.first.encoder.save_pretrained(folder / "text_encoder")
    backbone.text.first.tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    text = json.dumps({**scheduler_config, "prediction_type": "v_prediction"})
    (folder / "scheduler/scheduler_config.json").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def test_a_saved_model_paints_what_the_first_did(
    saved: Path,
    new_backbone: Callable[..., Backbone],
    batch,  # type: ignore[no-untyped-def]
) -> None:
    original, loaded = new_backbone(0, "v_prediction"), load_backbone(saved)
    assert loaded.schedule.prediction_type == "v_prediction"
    assert loaded.latent_factor == 4
    assert loaded.pixel_multiple == 16
    assert loaded.text.token_limit == 24
    method, sampling = compose("profi", PAPER), Sampling(num_inference_steps=3)
    first, second = (
        StableInpainting(part, method, sampling)(*batch.args()) for part in (original, loaded)
    )
    assert torch.equal(first, second)


def test_dtype_is_the_unet_s_alone(saved: Path) -> None:
    loaded = load_backbone(saved, dtype="bfloat16", memory_format=torch.channels_last)
    assert loaded.unet.dtype == torch.bfloat16
    assert loaded.vae.dtype == loaded.text.first.encoder.dtype == torch.float32
    assert loaded.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(UserError, match="float32, bfloat16, float16"):
        load_backbone(saved, dtype="int8")
    with pytest.raises(UserError, match="vae_dtype 'int8' is unknown; choose auto, float32"):
        load_backbone(saved, vae_dtype="int8")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_half_precision_vae_paints_nearly_the_same(saved: Path, dtype: str, batch) -> None:  # type: ignore[no-untyped-def]
    method, sampling = compose("base", PAPER), Sampling(num_inference_steps=2)
    half, full = (load_backbone(saved, vae_dtype=d) for d in (dtype, "float32"))
    assert half.vae.dtype == getattr(torch, dtype)
    assert half.unet.dtype == torch.float32
    pictures = [StableInpainting(part, method, sampling)(*batch.args()) for part in (half, full)]
    assert pictures[0].dtype == torch.float32
    difference = (pictures[0] - pictures[1]).abs()
    assert 0 < float(difference.mean()) < 4 * torch.finfo(half.vae.dtype).eps


def test_the_vae_is_float16_where_that_is_safe_and_of_use() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 1)
    half = {
        (str(device), str(dtype), is_xl, force_upcast)
        for device in (cpu, gpu)
        for dtype in (torch.float32, torch.bfloat16, torch.float16)
        for is_xl in (False, True)
        for force_upcast in (False, True)
        if auto_vae_dtype(device, dtype, is_xl, force_upcast) != torch.float32
    }
    assert half == {
        ("cuda:1", "torch.float16", False, False),
        ("cuda:1", "torch.float16", False, True),
        ("cuda:1", "torch.float16", True, False),
    }
    assert auto_vae_dtype(gpu, torch.float16, False, True) == torch.float16


def test_structure_and_config_reach_the_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """diffusers takes a config without the key as `force_upcast: true`."""
    asked: list[tuple[object, ...]] = []

    def ask(*arguments: object) -> torch.dtype:
        asked.append(arguments)
        return torch.float32

    monkeypatch.setattr("profi.models.backbone.auto_vae_dtype", ask)
    for structure in ("sd1", "sdxl"):
        folder = tmp_path / structure
        make_pipeline(structure).save_pretrained(folder)
        path = folder / "vae/config.json"
        config = json.loads(path.read_text("utf-8"))
        for said in (None, False):
            kept = {k: v for k, v in config.items() if k != "force_upcast"}
            text = json.dumps(kept if said is None else {**kept, "force_upcast": said})
            path.write_text(text, encoding="utf-8")
            load_backbone(folder, dtype="float16")
            is_xl = structure == "sdxl"
            assert asked[-1] == (torch.device("cpu"), torch.float16, is_xl, said is None)


def test_weights_are_known_by_their_hashes(folder: Path) -> None:
    loaded, before = load_backbone(folder), weights_digest(folder)
    assert set(loaded.weights) == {
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }
    assert loaded.weights == weight_hashes(folder)
    assert loaded.digest == before
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert weights_digest(folder) != before


def test_an_unreachable_model_is_refused_at_once() -> None:
    start = time.monotonic()
    with pytest.raises(
        UserError, match=r"some/model-inpainting.*local folder.*model\.path="
    ) as caught:
        load_backbone("some/model-inpainting")
    assert time.monotonic() - start < 2.0
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no/such/folder"):
        load_backbone(Path("no/such/folder"))


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("unet/config.json", "unet/config.json is missing"),
        ("scheduler/scheduler_config.json", "scheduler_config.json is missing"),
        ("unet/diffusion_pytorch_model.safetensors", "unet/ cannot be loaded"),
        ("text_encoder/model.safetensors", "text_encoder/ cannot be loaded"),
    ],
)
def test_missing_files_are_named(folder: Path, path: str, named: str) -> None:
    (folder / path).unlink()
    with pytest.raises(UserError, match=named) as caught:
        load_backbone(folder)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_never_loaded(folder: Path) -> None:
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(UserError, match="vae/ cannot be loaded"):
        load_backbone(folder)


def test_a_truncated_weight_file_is_named(folder: Path) -> None:
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="unet/ cannot be loaded"):
        load_backbone(folder)


def test_a_tokenizer_without_its_files_is_refused(folder: Path) -> None:
    for path in (folder / "tokenizer").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="tokenizer"):
        load_backbone(folder)


def test_a_text_to_image_model_is_refused(
    folder: Path, new_unet: Callable[..., UNet2DConditionModel]
) -> None:
    new_unet(0, in_channels=4).save_pretrained(folder / "unet")
    with pytest.raises(UserError, match="4 input channels, not 9"):
        load_backbone(folder)
