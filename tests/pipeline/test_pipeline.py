from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline
from PIL import Image
from pipeline_calls import STEPS, TOLERANCE, generators, painted, pipeline_of
from torch import Tensor

from profi import ProFIPainterPipeline
from profi.fitting import fit_mask, fit_picture
from profi.inpainter import start_noise
from profi.inputs import image_tensor, mask_tensor
from profi.method.inpainting import StableInpainting
from profi.method.methods import compose
from profi.models.backbone import Backbone
from profi.settings.evaluation import OURS, RELEASED
from profi.settings.method import READINGS, Sampling
from profi.types import UserError


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
    # diffusers takes the first pixel of each cell.
    batch = batch.in_cells(4)
    given = {**given, "mask_image": batch.masks}
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
    sampling = Sampling(STEPS, 5.0, "blended", "sharp", "blurry")
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


def test_every_form_of_a_batch_is_the_same(
    pipe: ProFIPainterPipeline, given: dict[str, Any]
) -> None:
    """What diffusers takes: tensors, arrays, lists, with the mask's channel or without."""
    images, masks = given["image"], given["mask_image"]
    call = {**given, "ablation": "base", "num_inference_steps": 1}
    latents = start_noise([1, 2, 3, 4], (4, 16, 16))
    expected = pipe(**call, latents=latents).images
    arrays = images.permute(0, 2, 3, 1).numpy()
    for image, mask in (
        (list(images), list(masks)),
        (arrays, masks.numpy()),
        (list(arrays), masks[..., None].numpy().astype(np.float32)),
        (images, masks[:, None].float()),
        (images.double(), [Image.fromarray(mask.numpy()) for mask in masks]),
    ):
        again = pipe(**{**call, "image": image, "mask_image": mask}, latents=latents).images
        assert torch.equal(again, expected)


def test_pictures_and_masks_are_resized_as_the_painter_does_it(
    pipe: ProFIPainterPipeline, one: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    paint = StableInpainting.latents

    def look(
        self: StableInpainting, images: Tensor, masks: Tensor, *rest: Any, **more: Any
    ) -> Tensor:
        seen.append((images[0], masks[0]))
        return paint(self, images, masks, *rest, **more)

    monkeypatch.setattr(StableInpainting, "latents", look)
    image, mask = one["image"].resize((150, 110)), one["mask_image"].resize((150, 110))
    large = {**one, "image": image, "mask_image": mask, "num_inference_steps": 1}
    for protocol in (OURS, RELEASED):
        painted(pipe, large, height=48, width=80, evaluation=protocol)
        got_image, got_mask = seen.pop()
        expected = fit_picture(image_tensor(image), (48, 80), protocol.picture)
        assert torch.equal(got_image, expected)
        assert torch.equal(got_mask, fit_mask(mask_tensor(mask), (48, 80), protocol.mask))


def test_the_released_evaluation_rounds_noise_and_truncates_bytes(
    pipe: ProFIPainterPipeline, one: dict[str, Any]
) -> None:
    half = torch.randn((1, 4, 16, 16), generator=generators(3)[0]).half().float()
    got, expected = (
        pipe(**one, evaluation="released", output_type="pt", **start).images
        for start in ({"generator": generators(3)}, {"latents": half})
    )
    assert torch.equal(got, expected)
    (pil,) = pipe(**one, evaluation="released", latents=half).images
    truncated = (expected[0] * 255).permute(1, 2, 0).numpy().astype(np.uint8)
    assert np.array_equal(np.asarray(pil), truncated)


def test_a_callback_sees_every_step_and_may_change_the_latents(
    pipe: ProFIPainterPipeline, one: dict[str, Any]
) -> None:
    calls: list[tuple[int, int]] = []
    seen: list[Tensor] = []

    def look(which: Any, step: int, t: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        assert which is pipe
        calls.append((step, t))
        seen.append(tensors["latents"])
        return tensors

    latents = painted(pipe, one, output_type="latent", callback_on_step_end=look)
    assert calls == [(0, 999), (1, 499)]
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output_type": "jpeg"}, "output_type=jpeg: choose one of pil"),
        ({"reading": "mine"}, "reading=mine is unknown"),
        ({"ablation": "best"}, "ablation=best: choose one of base"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "noise is not available"),
        ({"prompt": None}, "prompt is None"),
        ({"prompt": 3}, "prompt"),
        ({"image": None}, "image is of type NoneType"),
        ({"num_inference_steps": 2.0}, "num_inference_steps=2.0: must be a whole number"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt=0"),
        ({"generator": generators(0, 1)}, "2 generators for 1 paintings"),
        ({"generator": []}, "0 generators for 1 paintings"),
        ({"negative_prompt": ["a", "b"]}, "2 negative prompts for 1 prompts"),
        ({"prompt_embeds": torch.zeros(2, 24, 32)}, "1 prompts and 2 prompt_embeds"),
        ({"prompt_embeds": torch.zeros(24, 32)}, r"shape \(24, 32\)"),
        ({"masked_image_latents": torch.zeros(1, 4, 8, 8)}, "masked_image_latents have the shape"),
        ({"clip_skip": 9}, "clip_skip=9: the text encoder has 2 layers"),
        ({"cross_attention_kwargs": {"gate": 1}}, "only scale"),
        ({"padding_mask_crop": -1}, "padding_mask_crop=-1"),
        ({"padding_mask_crop": 4, "output_type": "pt"}, "output_type=pt: padding_mask_crop"),
        ({"height": 64.0}, r"height=64\.0: give a whole number"),
        ({"latents": torch.zeros(1, 4, 8, 8)}, r"shape \(1, 4, 8, 8\), not \(1, 4, 16, 16\)"),
        ({"image": torch.zeros(2, 3, 64, 64)}, "image: 2 given for 1 prompts and 1 paintings"),
        ({"mask_image": Image.new("L", (64, 64))}, "is empty"),
        ({"prompt": ""}, "is empty"),
        ({"num_inference_steps": 0}, "num_inference_steps=0"),
        ({"image": Image.new("RGB", (9, 9))}, "at least 16x16"),
        ({"image": "photo.png"}, "image: photo.png does not exist"),
        ({"evaluation": "mine"}, "evaluation=mine is unknown; choose ours or released"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_mistakes_are_refused(
    pipe: ProFIPainterPipeline, one: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        pipe(**{**one, **change})
