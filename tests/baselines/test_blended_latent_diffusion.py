from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial

import pytest
import torch
from diffusers import DDIMScheduler
from row_laws import check_row
from torch import Tensor

from profi.baselines.blended_latent_diffusion import (
    BackgroundReconstruction,
    BlendedLatentDiffusion,
    blend_latents,
)
from profi.inpainter import noise_of
from profi.method.ddim import noised, trailing_timesteps
from profi.method.sampling import Denoised, TextToImageDenoiser, sample
from profi.models.devices import exclusive
from profi.models.unet_role import TEXT_TO_IMAGE
from profi.settings.method import Sampling
from profi.types import UserError

STEPS = Sampling(num_inference_steps=8)
BATCH_TOLERANCE = 2e-5  # of pixels in [0, 1], float32
ORACLE_TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def text_to_image(new_backbone):  # type: ignore[no-untyped-def]
    return new_backbone(3, "v_prediction", TEXT_TO_IMAGE)


def test_the_laws_of_a_row(text_to_image, batch) -> None:  # type: ignore[no-untyped-def]
    # A quarter of 8 steps is left out.
    check_row(BlendedLatentDiffusion(text_to_image, STEPS), batch, 6, BATCH_TOLERANCE)


def test_it_waits_for_another_thread_with_the_same_unet(text_to_image, batch) -> None:  # type: ignore[no-untyped-def]
    row, done = BlendedLatentDiffusion(text_to_image, STEPS), threading.Event()

    def paint() -> None:
        row(*batch.args())
        done.set()

    thread = threading.Thread(target=paint)
    with exclusive(text_to_image.unet):
        thread.start()
        assert not done.wait(2.0)
    thread.join(60)
    assert done.is_set()


def oracle(
    backbone, batch, steps: int, first: int, guidance_scale: float, known_start: bool
) -> Tensor:  # type: ignore[no-untyped-def]
    """The same with diffusers' scheduler, sample by sample and branch by branch."""
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type=backbone.schedule.prediction_type,
        timestep_spacing="trailing",
        clip_sample=False,
    )
    scheduler.set_timesteps(steps)
    painted = []
    for image, mask, prompt, seed in zip(*batch.args(), strict=True):
        generator = torch.Generator().manual_seed(seed)
        known = backbone.vae.encode(2 * image[None] - 1).latent_dist.mean
        known = known * backbone.vae.config.scaling_factor
        # The masks are of whole cells.
        hole = mask[::4, ::4]
        cond = backbone.text([prompt], (64, 64)).context
        uncond = backbone.text([""], (64, 64)).context
        left = scheduler.timesteps[first:].tolist()
        z = torch.randn(known.shape, generator=generator)
        if known_start:
            z = scheduler.add_noise(known, z, torch.tensor([left[0]]))
        for i, t in enumerate(left):
            plain = backbone.unet(z, t, uncond).sample
            output = plain + guidance_scale * (backbone.unet(z, t, cond).sample - plain)
            z = scheduler.step(output, t, z).prev_sample
            background = torch.randn(known.shape, generator=generator)
            if i + 1 < len(left):
                background = scheduler.add_noise(known, background, torch.tensor([left[i + 1]]))
            else:
                background = known
            z = z * hole + background * ~hole
        decoded = backbone.vae.decode(z / backbone.vae.config.scaling_factor).sample
        painted.append((decoded[0] / 2 + 0.5).clamp(0, 1))
    return torch.stack(painted)


@pytest.mark.parametrize(
    ("prediction_type", "skip", "first", "start"),
    [
        ("epsilon", 0.25, 2, "known"),
        ("v_prediction", 0.25, 2, "noise"),
        ("epsilon", 0.0, 0, "noise"),
    ],
)
@torch.no_grad()
def test_it_equals_a_loop_over_diffusers_scheduler(
    new_backbone,
    batch,
    prediction_type,
    skip,
    first,
    start,
) -> None:  # type: ignore[no-untyped-def]
    model, batch = new_backbone(3, prediction_type, TEXT_TO_IMAGE), batch.in_cells(4)
    ours = BlendedLatentDiffusion(model, STEPS, skip, start)(*batch.args())
    theirs = oracle(model, batch, 8, first, STEPS.guidance_scale, start == "known")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=ORACLE_TOLERANCE)


def test_a_model_that_knows_its_picture_paints_it_inside_and_nothing_outside(backbone) -> None:  # type: ignore[no-untyped-def]
    """Closed form: of x0_pred = c in every step, z_0 is c in the mask and z_init outside."""
    schedule = backbone.schedule
    z_init, c = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    m = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)) > 0.5

    def denoise(x_t: Tensor, t: int, step_index: int) -> Denoised[None]:
        alpha_t = schedule.alpha(t)
        return Denoised(c, (x_t - alpha_t**0.5 * c) / (1 - alpha_t) ** 0.5, None)

    timesteps = trailing_timesteps(1000, 10)[2:]
    noise = partial(noise_of([1, 2]), (4, 8, 8))
    z_0 = blend_latents(denoise, noise(), z_init, m, noise, timesteps, schedule)
    torch.testing.assert_close(z_0, torch.where(m, c, z_init), rtol=0, atol=1e-5)


def test_the_known_latents_stand_at_the_level_of_every_step(backbone) -> None:  # type: ignore[no-untyped-def]
    """Of z_init = 0 the background is noise alone: its variance is 1 - alpha of the next step."""
    schedule = backbone.schedule
    z_init = torch.zeros(1, 4, 64, 64)
    timesteps = trailing_timesteps(1000, 10)
    found = []

    def denoise(x_t: Tensor, t: int, step_index: int) -> Denoised[None]:
        found.append((t, float(x_t.var())))
        return Denoised(x_t, x_t, None)

    m = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    noise = partial(noise_of([5]), (4, 64, 64))
    z_0 = blend_latents(denoise, z_init, z_init, m, noise, timesteps, schedule)
    assert not z_0.any()
    # Where it starts is the caller's.
    for t, variance in found[1:]:
        # 16,384 numbers: the variance's own standard error is 1.1 %.
        assert variance == pytest.approx(1 - schedule.alpha(t), rel=0.05)


@torch.no_grad()
def test_where_all_is_masked_it_is_text_to_image(text_to_image, batch) -> None:  # type: ignore[no-untyped-def]
    everything = replace(batch, masks=torch.ones_like(batch.masks))
    painted = BlendedLatentDiffusion(text_to_image, STEPS, start="known")(*everything.args())
    backbone, timesteps = text_to_image, trailing_timesteps(1000, 8)[2:]
    z_init = backbone.encode_images(2 * batch.images - 1)
    start = noised(
        z_init,
        noise_of(batch.seeds)(tuple(z_init.shape[1:])),
        backbone.schedule.alpha(timesteps[0]),
    )
    denoise = TextToImageDenoiser(
        backbone,
        backbone.condition(batch.prompts, (64, 64)),
        backbone.unconditional("", (64, 64), 4),
        STEPS.guidance_scale,
    )
    plain = sample(denoise, start, timesteps, backbone.schedule, (0.0,) * 6)
    assert torch.equal(painted, backbone.decode(plain))


def test_known_pixels_are_the_decoder_s_or_where_blended_the_given_ones(
    text_to_image, batch
) -> None:  # type: ignore[no-untyped-def]
    sampling = replace(STEPS, output="blended")
    known = ~batch.masks[:, None].expand_as(batch.images)
    kept = BlendedLatentDiffusion(text_to_image, sampling)(*batch.args())
    assert torch.equal(kept[known], batch.images[known])
    bare = BlendedLatentDiffusion(text_to_image, STEPS)(*batch.args())
    assert torch.equal(kept[~known], bare[~known])
    assert not torch.equal(bare[known], batch.images[known])


def test_the_decoder_fitted_to_a_picture_gives_its_background_back(text_to_image, batch) -> None:  # type: ignore[no-untyped-def]
    """Of a random decoder and three flat pictures: a colour that the decoder does not give."""
    before = {name: value.clone() for name, value in text_to_image.vae.state_dict().items()}
    flat = batch.images.mean((2, 3), keepdim=True).expand_as(batch.images) * 0.5
    three = replace(
        batch,
        images=flat[:3],
        masks=batch.masks[:3],
        prompts=batch.prompts[:3],
        seeds=batch.seeds[:3],
    )
    known = ~three.masks[:, None].expand_as(three.images)
    bare = BlendedLatentDiffusion(text_to_image, STEPS)
    fitting = replace(bare, background=BackgroundReconstruction(steps=20, lr=1e-2))
    plain, fitted = bare(*three.args()), fitting(*three.args())
    even = replace(fitting.background, weight=1.0)
    balanced = replace(fitting, background=even)(*three.args())

    def errors(painted: Tensor, expected: Tensor, where: Tensor) -> Tensor:
        return ((painted - expected) ** 2 * where).flatten(1).sum(1)

    background = errors(plain, three.images, known)
    assert bool((errors(fitted, three.images, known) < 0.3 * background).all())
    # Both terms together, at equal weights: what is painted is not given up for it.
    both = errors(balanced, three.images, known) + errors(balanced, plain, ~known)
    assert bool((both < 0.4 * background).all())
    one = fitting(*three.only(1).args())
    torch.testing.assert_close(one, fitted[1:2], rtol=0, atol=2e-3)
    after = text_to_image.vae.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(p.requires_grad for p in text_to_image.vae.parameters())


def test_every_setting_is_in_the_identity(text_to_image) -> None:  # type: ignore[no-untyped-def]
    row = BlendedLatentDiffusion(text_to_image, STEPS)
    others = [
        replace(row, skip=0.5),
        replace(row, start="known"),
        replace(row, background=BackgroundReconstruction(steps=1)),
        replace(row, sampling=replace(STEPS, negative_prompt="blurry")),
        replace(row, backbone=replace(text_to_image, weights={"unet/x.safetensors": "1"})),
    ]
    assert all(other.identity != row.identity for other in others)


def test_what_it_cannot_be_is_said(backbone, text_to_image, batch) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=r"skip=1\.0"):
        BlendedLatentDiffusion(text_to_image, STEPS, skip=1.0)
    with pytest.raises(UserError, match=r"start=nothing: choose noise or known"):
        BlendedLatentDiffusion(text_to_image, STEPS, start="nothing")
    with pytest.raises(UserError, match=r"4 input channels, not 9 .*use an inpainting model"):
        type(text_to_image).from_parts(
            text_to_image.unet, text_to_image.vae, text_to_image.text, text_to_image.schedule
        )
    with pytest.raises(UserError, match=r"9 input channels, not 4 .*use a text-to-image model"):
        TEXT_TO_IMAGE.check(backbone.unet, backbone.vae)
