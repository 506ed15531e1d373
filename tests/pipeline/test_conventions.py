"""What diffusers' own pipelines allow, on ours: the contracts of their arguments."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AsymmetricAutoencoderKL
from diffusers.callbacks import SDCFGCutoffCallback
from PIL import Image
from pipeline_calls import TOLERANCE, generators, painted, pipeline_of
from torch import Tensor

from profi import ProFIPainterPipeline
from profi.inputs import image_tensor, mask_tensor
from profi.models.backbone import Backbone
from profi.types import UserError

Call = dict[str, Any]
# Of latents of about 20, after two steps with RASG, which magnifies rounding.
LATENTS = 2e-3


@pytest.fixture
def own(new_backbone: Callable[..., Backbone]) -> ProFIPainterPipeline:
    """A pipeline of its own, to change."""
    return pipeline_of(new_backbone())


@pytest.fixture
def calls(pipe: ProFIPainterPipeline, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch sizes of the UNet's runs."""
    seen: list[int] = []
    run = pipe.unet.forward

    def counted(sample: Tensor, *rest: Any, **more: Any) -> Any:
        seen.append(len(sample))
        return run(sample, *rest, **more)

    monkeypatch.setattr(pipe.unet, "forward", counted)
    return seen


def latents_of(pipe: ProFIPainterPipeline, call: Call, **more: Any) -> Tensor:
    found: Tensor = painted(pipe, call, output_type="latent", **more)
    return found


def test_negative_prompts_are_none_one_or_a_list(pipe: ProFIPainterPipeline, one: Call) -> None:
    plain = latents_of(pipe, one)
    for same in (None, "", [""]):
        assert torch.equal(latents_of(pipe, one, negative_prompt=same), plain)
    assert not torch.equal(latents_of(pipe, one, negative_prompt="blurry"), plain)
    two = {**one, "prompt": ["cat", "dog"], "output_type": "latent"}
    got = pipe(**two, negative_prompt=["blurry", ""], generator=generators(0, 1)).images
    blurry = latents_of(pipe, one, negative_prompt="blurry")
    torch.testing.assert_close(got[:1], blurry, rtol=0, atol=LATENTS)
    dog = latents_of(pipe, {**one, "prompt": "dog"}, seed=1)
    torch.testing.assert_close(got[1:], dog, rtol=0, atol=LATENTS)


@pytest.mark.parametrize("ablation", ["base", "painta_only", "profi"])
def test_up_to_a_scale_of_1_the_prompt_s_branch_runs_alone(
    pipe: ProFIPainterPipeline, one: Call, calls: list[int], ablation: str
) -> None:
    one = {**one, "ablation": ablation}
    alone = latents_of(pipe, one, guidance_scale=1.0)
    assert set(calls) == {1}
    assert len(calls) == one["num_inference_steps"]
    for scale in (0.0, 0.5):
        assert torch.equal(latents_of(pipe, one, guidance_scale=scale), alone)
    # Just above 1 the formula gives nearly the same, from both branches.
    calls.clear()
    near = latents_of(pipe, one, guidance_scale=1.0 + 1e-6)
    assert sum(calls) == 2 * one["num_inference_steps"]
    torch.testing.assert_close(near, alone, rtol=0, atol=2e-3)


def test_a_callback_changes_the_guidance_scale(
    pipe: ProFIPainterPipeline, one: Call, calls: list[int]
) -> None:
    one = {**one, "num_inference_steps": 4, "ablation": "base"}
    cutoff = SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=1)
    pipe(**one, generator=generators(0), callback_on_step_end=cutoff)
    assert calls == [2, 2, 1, 1]
    assert pipe.guidance_scale == 0.0


def test_embeddings_are_the_prompt_s(pipe: ProFIPainterPipeline, one: Call) -> None:
    expected = latents_of(pipe, one)
    tower = pipe.text_encoder
    ids = pipe.tokenizer(["cat", ""], padding="max_length", max_length=24, return_tensors="pt")
    with torch.no_grad():
        embeds = tower(ids.input_ids).last_hidden_state
    given = {"prompt_embeds": embeds[:1], "negative_prompt_embeds": embeds[1:]}
    # ind(tau) from the prompt, or given: c, a, t and the end of the text.
    got = latents_of(pipe, one, **given)
    torch.testing.assert_close(got, expected, rtol=0, atol=TOLERANCE)
    words = torch.zeros(1, 24, dtype=torch.bool)
    words[0, 1:5] = True
    got = latents_of(pipe, {**one, "prompt": None}, **given, prompt_words=words)
    torch.testing.assert_close(got, expected, rtol=0, atol=TOLERANCE)
    with pytest.raises(UserError, match="is empty"):
        latents_of(pipe, {**one, "prompt": None}, **given)
    latents_of(pipe, {**one, "prompt": None, "ablation": "base"}, **given)


def test_words_guide_also_where_the_prompt_is_a_text(pipe: ProFIPainterPipeline, one: Call) -> None:
    words = torch.zeros(1, 24, dtype=torch.bool)
    words[0, 1:5] = True  # as of the prompt
    assert torch.equal(latents_of(pipe, one, prompt_words=words), latents_of(pipe, one))
    words[0, 2:] = False
    assert not torch.allclose(latents_of(pipe, one, prompt_words=words), latents_of(pipe, one))
    with pytest.raises(UserError, match=r"prompt_words have the shape \(1, 77\)"):
        latents_of(pipe, one, prompt_words=torch.ones(1, 77))


def test_images_are_one_or_one_per_prompt_or_painting(
    pipe: ProFIPainterPipeline, one: Call
) -> None:
    image, mask = one["image"], one["mask_image"]
    call = {**one, "prompt": ["cat", "cat"], "num_images_per_prompt": 2}
    for number in (1, 2, 4):
        more = {"image": [image] * number, "mask_image": [mask] * number}
        assert len(pipe(**{**call, **more}, output_type="latent").images) == 4
    four = {**one, "prompt": ["cat"] * 4, "image": [image] * 2}
    with pytest.raises(UserError, match="2 given for 4 prompts and 4 paintings"):
        pipe(**four)


def test_nothing_stands_for_the_usual(pipe: ProFIPainterPipeline, one: Call) -> None:
    usual = latents_of(pipe, one)
    more = {"positive_prompt": None, "callback_on_step_end_tensor_inputs": None}
    assert torch.equal(latents_of(pipe, one, **more), usual)


def test_clip_skip_takes_earlier_states(pipe: ProFIPainterPipeline, one: Call) -> None:
    one = {**one, "ablation": "base"}
    ids = pipe.tokenizer(["cat", ""], padding="max_length", max_length=24, return_tensors="pt")
    with torch.no_grad():
        states = pipe.text_encoder(ids.input_ids, output_hidden_states=True).hidden_states
        tower = getattr(pipe.text_encoder, "text_model", pipe.text_encoder)
        skipped = tower.final_layer_norm(states[-2])
    expected = latents_of(pipe, one, prompt_embeds=skipped[:1], negative_prompt_embeds=skipped[1:])
    torch.testing.assert_close(latents_of(pipe, one, clip_skip=1), expected, rtol=0, atol=TOLERANCE)
    assert not torch.allclose(latents_of(pipe, one), expected, atol=1e-3)


def test_masked_latents_are_taken_as_given(pipe: ProFIPainterPipeline, one: Call) -> None:
    one = {**one, "reading": "paper"}  # whose mask does not grow
    image = image_tensor(one["image"])[None]
    hole = mask_tensor(one["mask_image"])[None, None]
    with torch.no_grad():
        mean = pipe.vae.encode((2 * image - 1) * ~hole).latent_dist.mean
    masked = mean * pipe.vae.config.scaling_factor
    assert torch.equal(latents_of(pipe, one, masked_image_latents=masked), latents_of(pipe, one))
    other = latents_of(pipe, one, masked_image_latents=masked + 1)
    assert not torch.allclose(other, latents_of(pipe, one))


def test_the_surroundings_of_the_mask_are_painted_and_pasted(
    pipe: ProFIPainterPipeline, one: Call
) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 160, 3), np.uint8))
    mask = Image.new("L", image.size)
    mask.paste(255, (70, 90, 100, 120))
    call = {**one, "image": image, "mask_image": mask, "height": 64, "width": 64}
    (got,) = painted(pipe, call, padding_mask_crop=8)
    assert got.size == image.size
    outside = np.asarray(mask) == 0
    assert np.array_equal(np.asarray(got)[outside], np.asarray(image)[outside])
    # The box around the mask, 8 pixels wider on each side, painted at 64x64.
    box = (62, 82, 108, 128)
    part = {**call, "image": image.crop(box), "mask_image": mask.crop(box)}
    (direct,) = painted(pipe, part)
    expected = np.asarray(direct.resize((46, 46), Image.Resampling.LANCZOS))
    inside = np.asarray(mask.crop(box)) > 0
    assert np.array_equal(np.asarray(got.crop(box))[inside], expected[inside])


def test_it_works_inside_inference_mode_and_after_it(own: ProFIPainterPipeline, one: Call) -> None:
    expected = latents_of(own, one)
    with torch.inference_mode():
        image = image_tensor(one["image"])[None].clone()
        assert image.is_inference()
        got = latents_of(own, {**one, "image": image})
    assert torch.equal(got, expected)
    assert torch.equal(latents_of(own, one), expected)


def test_the_models_come_back_as_they_were(own: ProFIPainterPipeline, one: Call) -> None:
    own.unet.train().requires_grad_(True)
    own.unet.enable_gradient_checkpointing()
    own.vae.decoder.train()
    own.text_encoder.eval().requires_grad_(False)
    first = own.unet.conv_in.weight
    first.requires_grad_(False)
    modes = {name: module.training for name, module in own.unet.named_modules()}
    trained = latents_of(own, one)
    assert {name: module.training for name, module in own.unet.named_modules()} == modes
    assert own.vae.decoder.training
    assert not first.requires_grad
    assert all(p.requires_grad for p in own.unet.parameters() if p is not first)
    assert own.unet.is_gradient_checkpointing
    own.unet.disable_gradient_checkpointing()
    own.unet.eval()
    assert torch.equal(latents_of(own, one), trained)
    with pytest.raises(UserError, match="clip_skip"):
        latents_of(own, one, clip_skip=99)
    assert own.unet.conv_out.weight.requires_grad


def test_threads_wait_for_each_other(pipe: ProFIPainterPipeline, one: Call) -> None:
    expected = [latents_of(pipe, one, seed=seed) for seed in range(3)]
    got: dict[int, Tensor] = {}

    def paint(seed: int) -> None:
        got[seed] = latents_of(pipe, one, seed=seed)

    threads = [threading.Thread(target=paint, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, latents in enumerate(expected):
        torch.testing.assert_close(got[seed], latents, rtol=0, atol=TOLERANCE)


def test_a_compiled_unet_is_painted_with_inside_of_its_wrapping(
    own: ProFIPainterPipeline, one: Call
) -> None:
    expected = latents_of(own, one)
    own.unet = torch.compile(own.unet, backend="eager")
    assert torch.equal(latents_of(own, one), expected)


def test_the_decoder_may_work_in_tiles_and_slices(own: ProFIPainterPipeline, one: Call) -> None:
    expected = painted(own, one, output_type="pt")
    own.vae.enable_slicing()
    own.vae.enable_tiling()
    torch.testing.assert_close(
        painted(own, one, output_type="pt"), expected, rtol=0, atol=TOLERANCE
    )


def test_another_kind_of_decoder_is_refused(own: ProFIPainterPipeline, one: Call) -> None:
    own.vae = AsymmetricAutoencoderKL()
    with pytest.raises(UserError, match="class AsymmetricAutoencoderKL"):
        painted(own, one)


def test_a_learned_word_of_several_vectors_counts_with_all_of_them(
    own: ProFIPainterPipeline, one: Call
) -> None:
    """The file of a textual inversion with three vectors, loaded by diffusers' own loader."""
    vectors = torch.randn(3, 32, generator=generators(1)[0])
    before = {**one, "prompt": "cat"}
    plain = latents_of(own, before)
    own.load_textual_inversion({"<toy>": vectors}, token="<toy>")
    assert torch.equal(latents_of(own, before), plain)
    seen: list[list[int]] = []
    forward = own.text_encoder.forward

    def look(input_ids: Tensor, *rest: Any, **more: Any) -> Any:
        seen.append(input_ids[0].tolist())
        return forward(input_ids, *rest, **more)

    own.text_encoder.forward = look
    latents_of(own, {**one, "prompt": "<toy>"})
    first = own.tokenizer.convert_tokens_to_ids("<toy>")
    assert seen[0][1:4] == [first, first + 1, first + 2]
