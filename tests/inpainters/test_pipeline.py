from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline
from diffusers.callbacks import SDCFGCutoffCallback
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from tiny_pipelines import make_pipeline
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessor

import profi
from profi import ProFIPainterPipeline
from profi.inpainters.ablations import compose
from profi.inpainters.backbone import Backbone
from profi.inpainters.readings import READINGS
from profi.inpainters.stable_inpainting import Sampling, StableInpainting, start_noise
from profi.mini.world import SHIPPED
from profi.types import UserError

# A divisor of 1000: diffusers' t_prev is t - 1000 // STEPS, not the next timestep.
STEPS = 2
# Of pixels in [0, 1]: weights that lie elsewhere in memory are added up in another order.
TOLERANCE = 1e-4


def pipeline_of(backbone: Backbone, **extra: Any) -> ProFIPainterPipeline:
    tower = backbone.text.first
    pipe = ProFIPainterPipeline(
        vae=backbone.vae,
        text_encoder=tower.encoder,
        tokenizer=tower.tokenizer,
        unet=backbone.unet,
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            timestep_spacing="trailing",
            prediction_type=backbone.schedule.prediction_type,
            steps_offset=1,
        ),
        **extra,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture(scope="module")
def pipe(backbone: Backbone) -> ProFIPainterPipeline:
    return pipeline_of(backbone)


@pytest.fixture
def given(batch) -> dict[str, Any]:  # type: ignore[no-untyped-def]
    """A call for four pictures."""
    return {
        "prompt": batch.prompts,
        "image": batch.images,
        "mask_image": batch.masks,
        "num_inference_steps": STEPS,
        "output_type": "pt",
    }


@pytest.fixture
def one(batch) -> dict[str, Any]:  # type: ignore[no-untyped-def]
    """A call for one PIL picture, 64x64."""
    image, mask = batch.images[0], batch.masks[0]
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    return {
        "prompt": "cat",
        "image": Image.fromarray(pixels),
        "mask_image": Image.fromarray(mask.numpy()),
        "num_inference_steps": STEPS,
    }


def painted(pipe: ProFIPainterPipeline, call: dict[str, Any], seed: int = 0, **more: Any) -> Any:
    return pipe(**{**call, "generator": generators(seed), **more}).images


@pytest.mark.parametrize(
    ("prediction_type", "output_type"), [("epsilon", "latent"), ("v_prediction", "pt")]
)
def test_base_is_what_diffusers_paints_from_the_same_latents(
    new_backbone: Callable[..., Backbone],
    batch,  # type: ignore[no-untyped-def]
    given: dict[str, Any],
    prediction_type: str,
    output_type: str,
) -> None:
    pipe = pipeline_of(new_backbone(0, prediction_type))
    latents = start_noise(batch.seeds, (4, 16, 16))
    call = {**given, "latents": latents, "output_type": output_type}
    ours = pipe(**call, ablation="base", reading="paper", negative_prompt="blurry").images
    theirs = StableDiffusionInpaintPipeline(
        **pipe.components, requires_safety_checker=False, image_encoder=None
    )
    theirs.set_progress_bar_config(disable=True)
    masked = (2 * batch.images - 1) * ~batch.masks[:, None]
    factor = pipe.vae.config.scaling_factor
    with torch.no_grad():
        mean = pipe.vae.encode(masked).latent_dist.mean * factor
    call |= {"mask_image": batch.masks[:, None].float(), "masked_image_latents": mean}
    size = {"height": 64, "width": 64, "strength": 1.0}
    expected = theirs(**call, **size, negative_prompt=["blurry"] * 4).images
    torch.testing.assert_close(ours, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("ablation", "reading"),
    [
        ("painta_only", "paper"),
        ("rasg_only", "released"),
        ("profi", "paper"),
        ("profi", "released"),
    ],
)
def test_it_is_the_very_inpainter(
    pipe: ProFIPainterPipeline,
    backbone: Backbone,
    batch,  # type: ignore[no-untyped-def]
    given: dict[str, Any],
    ablation: str,
    reading: str,
) -> None:
    """A generator per picture starts from the noise of that seed; all else is one code."""
    paint = StableInpainting(backbone, compose(ablation, READINGS[reading]), Sampling(STEPS))
    expected = paint(*batch.args())
    call = {**given, "generator": generators(*batch.seeds)}
    assert torch.equal(pipe(**call, ablation=ablation, reading=reading).images, expected)
    latents = start_noise(batch.seeds, (4, 16, 16))
    got = pipe(**given, latents=latents, ablation=ablation, reading=READINGS[reading]).images
    assert torch.equal(got, expected)


def test_texts_and_blending_reach_the_inpainter(
    pipe: ProFIPainterPipeline,
    backbone: Backbone,
    batch,  # type: ignore[no-untyped-def]
    given: dict[str, Any],
) -> None:
    sampling = Sampling(STEPS, 5.0, "sharp", "blurry", "blended")
    expected = StableInpainting(backbone, compose("profi", READINGS["released"]), sampling)
    got = pipe(
        **given,
        guidance_scale=5.0,
        positive_prompt="sharp",
        negative_prompt="blurry",
        blended=True,
        generator=generators(*batch.seeds),
    ).images
    assert torch.equal(got, expected(*batch.args()))
    assert (pipe.guidance_scale, pipe.num_timesteps) == (5.0, STEPS)


def test_every_output_type_is_the_same_picture(
    pipe: ProFIPainterPipeline, one: dict[str, Any]
) -> None:
    pt = painted(pipe, one, output_type="pt")
    assert pt.shape == (1, 3, 64, 64)
    as_numpy = painted(pipe, one, output_type="np")
    assert np.array_equal(as_numpy[0], pt[0].permute(1, 2, 0).numpy())
    (pil,) = painted(pipe, one)
    assert np.array_equal(np.asarray(pil), (as_numpy[0] * 255).round().astype(np.uint8))
    latents = painted(pipe, one, output_type="latent")
    assert latents.shape == (1, 4, 16, 16)
    images, flagged = pipe(**one, generator=generators(0), return_dict=False)
    assert np.array_equal(np.asarray(images[0]), np.asarray(pil))
    assert flagged is None


def test_sizes_and_counts(pipe: ProFIPainterPipeline, one: dict[str, Any]) -> None:
    """The image's own size, rounded down to a multiple of 16; or the size that is asked for."""
    wide = {**one, "image": one["image"].resize((90, 70)), "mask_image": one["mask_image"]}
    assert painted(pipe, wide)[0].size == (80, 64)
    assert painted(pipe, one, height=32, width=48)[0].size == (48, 32)
    several = pipe(
        **{**one, "prompt": ["cat", "dog"]},
        num_images_per_prompt=2,
        generator=generators(5, 6, 7, 5),
        output_type="pt",
    ).images
    assert len(several) == 4
    alone = painted(pipe, one, seed=6, output_type="pt")
    torch.testing.assert_close(several[1:2], alone, rtol=0, atol=2e-5)


def test_a_callback_sees_every_step_and_may_change_the_latents(
    pipe: ProFIPainterPipeline, one: dict[str, Any]
) -> None:
    told: list[tuple[int, int]] = []
    seen: list[Tensor] = []

    def look(which: Any, step: int, t: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        assert which is pipe
        told.append((step, t))
        seen.append(tensors["latents"])
        return tensors

    latents = painted(pipe, one, output_type="latent", callback_on_step_end=look)
    assert told == [(0, 999), (1, 499)]
    assert torch.equal(seen[-1], latents)
    assert torch.equal(latents, painted(pipe, one, output_type="latent"))

    def change(which: Any, step: int, t: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"latents": tensors["latents"] * 0} if step == STEPS - 1 else {}

    zeros = painted(pipe, one, output_type="latent", callback_on_step_end=change)
    assert not bool(zeros.any())

    def blind(which: Any, step: int, t: int, tensors: dict[str, Tensor]) -> None:
        assert tensors == {}

    painted(pipe, one, callback_on_step_end=blind, callback_on_step_end_tensor_inputs=[])


def test_it_can_be_interrupted_and_goes_on_as_before(
    pipe: ProFIPainterPipeline, one: dict[str, Any]
) -> None:
    before = painted(pipe, one, output_type="latent")
    seen: list[Tensor] = []

    def stop(which: Any, step: int, t: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(tensors["latents"])
        which._interrupt = step == 0
        return {}

    got = painted(pipe, one, output_type="latent", callback_on_step_end=stop)
    assert len(seen) == 1
    assert torch.equal(got, seen[-1])
    assert pipe.interrupt
    assert torch.equal(painted(pipe, one, output_type="latent"), before)
    assert not pipe.interrupt


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


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"output_type": "jpeg"}, "output_type=jpeg: choose one of pil"),
        ({"reading": "mine"}, "reading=mine is unknown"),
        ({"ablation": "best"}, "ablation 'best' is unknown"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "noise cannot be had"),
        ({"callback_on_step_end": SDCFGCutoffCallback(0.4)}, "prompt_embeds cannot be had"),
        ({"latents": torch.zeros(1, 4, 8, 8)}, r"shape \(1, 4, 8, 8\), not \(1, 4, 16, 16\)"),
        ({"image": torch.zeros(2, 3, 64, 64)}, "2 of image for 1 paintings"),
        ({"mask_image": Image.new("L", (64, 64))}, "is empty"),
        ({"prompt": ""}, "is empty"),
        ({"num_inference_steps": 0}, "num_inference_steps=0"),
        ({"image": Image.new("RGB", (9, 9))}, "at least 16x16"),
        ({"image": "photo.png"}, "cannot be used"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_mistakes_are_refused(
    pipe: ProFIPainterPipeline, one: dict[str, Any], change: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        pipe(**{**one, **change})


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
