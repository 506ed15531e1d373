"""What the pipeline is made of: folders, offloading, half precision, the safety checker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from pipeline_calls import STEPS, TOLERANCE, generators, painted, pipeline_of
from tiny_pipelines import make_pipeline
from transformers import CLIPConfig, CLIPImageProcessor

import profi
from profi import ProFIPainterPipeline
from profi.method.inpainting import StableInpainting
from profi.method.methods import compose
from profi.mini.world import SHIPPED
from profi.models.backbone import Backbone
from profi.settings.method import READINGS, Sampling
from profi.types import UserError


def test_a_folder_of_diffusers_inpainting_pipeline_is_read(one: dict[str, Any]) -> None:
    folder = SHIPPED / "cpu/inpaint"
    pipe = ProFIPainterPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    theirs = StableDiffusionInpaintPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    shared = ProFIPainterPipeline.from_pipe(theirs)
    assert shared.unet is theirs.unet
    for some in (pipe, shared):
        some.set_progress_bar_config(disable=True)
    call = {**one, "prompt": "a bus"}
    got, expected = (painted(some, call, output_type="pt") for some in (pipe, shared))
    torch.testing.assert_close(got, expected, rtol=0, atol=TOLERANCE)


def test_what_is_saved_is_loaded(
    pipe: ProFIPainterPipeline, one: dict[str, Any], tmp_path: Path
) -> None:
    pipe.save_pretrained(tmp_path)
    again = ProFIPainterPipeline.from_pretrained(tmp_path, torch_dtype=torch.float32)
    again.set_progress_bar_config(disable=True)
    assert again.unet is not pipe.unet
    got, expected = (painted(some, one, output_type="pt") for some in (again, pipe))
    torch.testing.assert_close(got, expected, rtol=0, atol=TOLERANCE)
    StableDiffusionInpaintPipeline.from_pretrained(tmp_path, safety_checker=None)


@pytest.mark.parametrize("how", ["model", "group"])
def test_offloaded_it_paints_the_same(
    new_backbone: Callable[..., Backbone], one: dict[str, Any], how: str
) -> None:
    """The real hooks, with the CPU as the device that they load onto."""
    pipe = pipeline_of(new_backbone())
    expected = painted(pipe, one, output_type="pt")
    if how == "model":
        pipe.enable_model_cpu_offload(device="cpu")
        loaded: list[str] = []
        for name in ("text_encoder", "unet", "vae"):
            hook = getattr(pipe, name)._hf_hook
            assert hook.execution_device == torch.device("cpu:0")
            _note(hook, name, loaded)
    else:
        pipe.enable_group_offload(torch.device("cpu"), offload_type="leaf_level")
    assert torch.equal(painted(pipe, one, output_type="pt"), expected)
    if how == "model":
        assert set(loaded) == {"text_encoder", "unet", "vae"}
        # Ready for the next call: hooked anew.
        assert pipe.unet._hf_hook is not None
        assert torch.equal(painted(pipe, one, output_type="pt"), expected)


def _note(hook: Any, name: str, loaded: list[str]) -> None:
    before = hook.pre_forward

    def pre_forward(*args: Any, **kwargs: Any) -> Any:
        loaded.append(name)
        return before(*args, **kwargs)

    hook.pre_forward = pre_forward


def test_the_models_run_where_the_hooks_say_and_not_where_weights_lie(
    new_backbone: Callable[..., Backbone],
) -> None:
    pipe = pipeline_of(new_backbone())
    pipe.enable_sequential_cpu_offload(device="cpu")
    assert pipe.unet.device == pipe.text_encoder.device == torch.device("meta")
    made = pipe._backbone()
    assert made.device == made.text.first.execution_device == torch.device("cpu:0")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_moved_to_half_precision_it_paints_nearly_the_same(
    new_backbone: Callable[..., Backbone], one: dict[str, Any], dtype: torch.dtype
) -> None:
    """All parts, the VAE too, which the inpainters keep in float32."""
    pipe = pipeline_of(new_backbone())
    expected = painted(pipe, one, output_type="pt")
    pipe.to(dtype)
    assert pipe.vae.dtype == dtype
    got = painted(pipe, one, output_type="pt")
    assert got.dtype == torch.float32
    assert float((got - expected).abs().mean()) < 0.02


@pytest.mark.parametrize("flagged", [True, False])
def test_a_safety_checker_is_run(
    backbone: Backbone, pipe: ProFIPainterPipeline, one: dict[str, Any], flagged: bool
) -> None:
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 37, "num_attention_heads": 4}
    config = CLIPConfig(
        vision_config={**small, "num_hidden_layers": 1, "image_size": 32, "patch_size": 8},
        text_config={**small, "num_hidden_layers": 1},
        projection_dim=16,
    )
    checker = StableDiffusionSafetyChecker(config).eval()
    # The thresholds of its cosine similarities.
    checker.concept_embeds_weights.data.fill_(-2.0 if flagged else 2.0)
    checker.special_care_embeds_weights.data.fill_(2.0)
    extractor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    checked = pipeline_of(backbone, safety_checker=checker, feature_extractor=extractor)
    result = checked(**one, generator=generators(0), output_type="pt")
    assert result.nsfw_content_detected == [flagged]
    expected = painted(pipe, one, output_type="pt")
    assert torch.equal(result.images, expected * 0 if flagged else expected)
    with pytest.raises(UserError, match="feature_extractor"):
        pipeline_of(backbone, safety_checker=checker)


def test_a_unet_that_does_not_inpaint_is_refused(
    backbone: Backbone, new_unet: Callable[..., Any], one: dict[str, Any]
) -> None:
    pipe = pipeline_of(backbone)
    pipe.unet = new_unet(0, in_channels=4)
    with pytest.raises(UserError, match="use an inpainting model"):
        pipe(**one)


@pytest.mark.parametrize("structure", ["sd1", "sd2", "sdxl"])
def test_every_structure_is_painted(structure: str, one: dict[str, Any], tmp_path: Path) -> None:
    """By `profi.load` from a folder, and by the pipeline with the models of another one."""
    theirs = make_pipeline(structure)
    theirs.save_pretrained(tmp_path)
    painter = profi.load(tmp_path, device="cpu")
    # sample_size 16, 4 pixels per latent.
    assert painter.long_side == 64
    image, mask = one["image"].resize((91, 37)), one["mask_image"].resize((91, 37))
    painted_by_load = painter(image, mask, "cat", steps=1)
    assert painted_by_load.size == (91, 37)
    pipe = ProFIPainterPipeline.from_pipe(theirs)
    pipe.set_progress_bar_config(disable=True)
    if structure == "sdxl":
        with pytest.raises(UserError, match="conditioned on two text encoders"):
            pipe(**one)
        return
    paint = StableInpainting(
        painter.backbone, compose("profi", READINGS["released"]), Sampling(STEPS)
    )
    pixels = np.asarray(one["image"]) / np.float32(255)
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    masks = torch.from_numpy(np.asarray(one["mask_image"]).copy())[None]
    got = painted(pipe, one, seed=4, output_type="pt")
    torch.testing.assert_close(got, paint(images, masks, ["cat"], [4]), rtol=0, atol=TOLERANCE)
