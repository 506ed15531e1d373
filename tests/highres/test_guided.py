"""The upscaler's sampling, against diffusers' pipeline and a naive loop of appendix E."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tiny_upscaler import SUFFIX
from torch import Tensor

from profi.highres import HIGHRES, HighRes, Upscaler, load_upscaler, upscale
from profi.highres.guided import GuidedDenoiser
from profi.highres.latent_masks import latent_mask
from profi.inpainter import NotFiniteError
from profi.types import UserError

RELEASED = replace(HIGHRES["released"], prompt_suffix=SUFFIX, num_inference_steps=4)
OURS = replace(HIGHRES["ours"], prompt_suffix=SUFFIX, num_inference_steps=4)


def pictures(h: int = 16, w: int = 24, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A low picture, a large one and a mask in it."""
    g = torch.Generator().manual_seed(seed)
    low, large = torch.rand(3, h, w, generator=g), torch.rand(3, 4 * h, 4 * w, generator=g)
    mask = torch.zeros(4 * h, 4 * w, dtype=torch.bool)
    mask[20:40, 30:60] = True
    return low, large, mask


def test_without_eq_16_it_is_diffusers_pipeline(pipeline: Any, upscaler: Upscaler) -> None:
    low, large, mask = pictures()
    settings = replace(RELEASED, known="free")
    ours = upscale(upscaler, low, large, mask, "a cat", 7, settings)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt=f"a cat, {SUFFIX}",
        image=low[None],
        num_inference_steps=4,
        guidance_scale=7.5,
        noise_level=20,
        generator=torch.Generator().manual_seed(7),
        output_type="pt",
    ).images[0]
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


def naive(pipeline: Any, low: Tensor, large: Tensor, mask: Tensor, settings: HighRes) -> Tensor:
    """Appendix E as PROTOCOL section 8 tells it, step by step, with OpenCV and plain numbers."""
    h, w = low.shape[1:]
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    grown = cv2.dilate(mask.numpy().astype(np.uint8) * 255, cross, iterations=19)
    from PIL import Image

    small = np.asarray(Image.fromarray(grown).resize((w, h), Image.Resampling.BICUBIC))
    soft = cv2.GaussianBlur(
        small.astype(np.float32) / 255, (19, 19), 3.2, borderType=cv2.BORDER_REFLECT_101
    )
    M = torch.from_numpy(soft)
    betas = np.linspace(0.0001**0.5, 0.02**0.5, 1000) ** 2
    alphas = np.cumprod(1 - betas)
    g = torch.Generator().manual_seed(3)
    first = torch.randn(1, 3, h, w, generator=g)
    x = torch.randn(1, 4, h, w, generator=g)
    a = alphas[20]
    seen = a**0.5 * (2 * low[None] - 1) + (1 - a) ** 0.5 * first
    vae, unet = pipeline.vae, pipeline.unet
    known = vae.encode(2 * large[None] - 1).latent_dist.mean * 0.08333

    def text(words: str) -> Tensor:
        tokenizer = pipeline.tokenizer
        ids = tokenizer(
            words, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt"
        ).input_ids
        return pipeline.text_encoder(ids).last_hidden_state

    cond, uncond = text(f"a cat, {SUFFIX}"), text("")
    level = torch.tensor([20])
    steps = [999, 749, 499, 249]
    for t, before in zip(steps, [*steps[1:], None], strict=True):
        both = torch.cat([x, seen], 1)
        v_cond = unet(both, t, cond, class_labels=level).sample
        v_uncond = unet(both, t, uncond, class_labels=level).sample
        v = v_uncond + 7.5 * (v_cond - v_uncond)
        a = alphas[t]
        eps = a**0.5 * v + (1 - a) ** 0.5 * x
        x0 = a**0.5 * x - (1 - a) ** 0.5 * v
        x0 = M * x0 + (1 - M) * known
        if settings.eps == "recomputed":
            eps = (x - a**0.5 * x0) / (1 - a) ** 0.5
        b = 1.0 if before is None else alphas[before]
        x = b**0.5 * x0 + (1 - b) ** 0.5 * eps
    return ((vae.decode(x / 0.08333).sample[0] + 1) / 2).clamp(0, 1)


@pytest.mark.parametrize("eps", ["kept", "recomputed"])
@torch.no_grad()
def test_it_is_the_released_loop(pipeline: Any, upscaler: Upscaler, eps: Any) -> None:
    low, large, mask = pictures()
    settings = replace(RELEASED, eps=eps)
    ours = upscale(upscaler, low, large, mask, "a cat", 3, settings)
    theirs = naive(pipeline, low, large, mask, settings)
    torch.testing.assert_close(ours, theirs.float(), atol=5e-5, rtol=0)
    other = replace(settings, eps="kept" if eps == "recomputed" else "recomputed")
    assert not torch.allclose(ours, naive(pipeline, low, large, mask, other).float(), atol=1e-3)


def test_the_known_latents_remain_where_the_mask_is_zero(upscaler: Upscaler) -> None:
    M = torch.zeros(16, 24)
    M[4:8, 4:8] = 1.0
    known = torch.randn(1, 4, 16, 24)
    texts = torch.randn(2, 26, 16)
    denoise = GuidedDenoiser(upscaler, torch.randn(1, 3, 16, 24), 20, texts, known, M, 7.5)
    x_t = torch.randn(1, 4, 16, 24)
    found = denoise(x_t, 499, 0)
    free = GuidedDenoiser(upscaler, denoise.low, 20, texts, None, None, 7.5)(x_t, 499, 0)
    inside = M.bool()
    assert torch.equal(found.x0_pred[..., ~inside], known[..., ~inside])
    assert torch.equal(found.x0_pred[..., inside], free.x0_pred[..., inside])
    assert torch.equal(found.eps, free.eps)


def test_a_noise_level_of_the_seed_only(upscaler: Upscaler) -> None:
    low, large, mask = pictures()
    one, again, other = (
        upscale(upscaler, low, large, mask, "a cat", seed, RELEASED) for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.allclose(one, other, atol=1e-3)


def test_half_precision_noise_differs_little(upscaler: Upscaler) -> None:
    low, large, mask = pictures()
    one = upscale(upscaler, low, large, mask, "a cat", 1, RELEASED)
    two = upscale(upscaler, low, large, mask, "a cat", 1, RELEASED, noise="run")
    assert not torch.equal(one, two)
    torch.testing.assert_close(one, two, atol=0.05, rtol=0)


def test_every_step_is_reported_and_previewed(upscaler: Upscaler) -> None:
    low, large, mask = pictures()
    seen: list[tuple[int, Tensor]] = []
    last = upscale(
        upscaler,
        low,
        large,
        mask,
        "a cat",
        1,
        RELEASED,
        after_step=lambda i, p: seen.append((i, p())),
    )
    assert [i for i, _ in seen] == [1, 2, 3, 4]
    assert all(p.shape == large.shape for _, p in seen)
    assert torch.equal(seen[-1][1], last)  # the last x0_pred is the result


def test_wrong_inputs_are_one_line(upscaler: Upscaler) -> None:
    low, large, mask = pictures()

    def refused(settings: HighRes = RELEASED, prompt: str = "a cat", **other: Any) -> str:
        given = {"low": low, "image": large, "mask": mask} | other
        with pytest.raises(UserError) as caught:
            upscale(upscaler, **given, prompt=prompt, seed=0, settings=settings)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "noise_level=351" in refused(replace(RELEASED, noise_level=351))
    assert "4 times" in refused(low=low[:, :-1])
    assert "multiple of 16" in refused(low=low[:, :-1], image=large[:, :-4], mask=mask[:-4])
    assert "tokens" in refused(prompt="a" * 90)
    assert "tile=18" in refused(replace(OURS, tile=18, overlap=4))


def test_a_broken_model_is_not_a_picture(folder: Path) -> None:
    model = load_upscaler(folder, "cpu")
    torch.nn.init.constant_(model.unet.conv_out.bias, float("nan"))
    with pytest.raises(NotFiniteError):
        upscale(model, *pictures(), "a cat", 0, RELEASED)


def test_the_soft_mask_is_between_and_the_hard_one_touches() -> None:
    mask = torch.zeros(128, 192, dtype=torch.bool)
    mask[60:61, 90:91] = True
    soft = latent_mask(mask, (32, 48), "soft", 19, 19)
    hard = latent_mask(mask, (32, 48), "hard", 0, 19)
    assert 0 <= soft.min() < soft.max() <= 1
    assert len(soft.unique()) > 20
    assert hard.sum() == 1
    assert hard[15, 22] == 1
    assert not latent_mask(torch.zeros_like(mask), (32, 48), "soft", 19, 19).any()
    assert latent_mask(torch.ones_like(mask), (32, 48), "soft", 19, 19).min() > 1 - 1e-5
