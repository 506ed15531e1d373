from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline
from torch import Tensor

from profi.catalogue import catalogue
from profi.inpainter import Inpainter, start_noise
from profi.method.attention_objective import AttentionClue, bce_objective
from profi.method.ddim import sigma_schedule, trailing_timesteps
from profi.method.inpainting import StableInpainting
from profi.method.methods import MethodBatch, MethodParts, compose, together
from profi.method.painta import PAIntA
from profi.method.rasg import RASG
from profi.method.sites import attention_sites
from profi.models.backbone import Backbone
from profi.models.schedule import Schedule
from profi.settings.method import PAPER, READINGS, RELEASED, Reading, Sampling
from profi.types import UserError

STEPS = Sampling(num_inference_steps=4)
ROWS = ("base", "painta_only", "rasg_only", "profi")
BATCH_TOLERANCE = 2e-5  # of pixels in [0, 1], float32


def inpainter(
    backbone: Backbone, ablation: str, reading: Reading = PAPER, sampling: Sampling = STEPS
) -> Inpainter:
    return StableInpainting(backbone, compose(ablation, reading), sampling)


@pytest.fixture(scope="module")
def painted(backbone: Backbone, batch) -> dict[tuple[str, str], Tensor]:  # type: ignore[no-untyped-def]
    return {
        (row, reading.name): inpainter(backbone, row, reading)(*batch.args())
        for row in ROWS
        for reading in READINGS.values()
    }


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
def test_a_batch_of_four_equals_four_of_one(backbone, batch, painted, row, reading) -> None:  # type: ignore[no-untyped-def]
    paint = inpainter(backbone, row, reading)
    ones = torch.cat([paint(*batch.only(i).args()) for i in range(4)])
    torch.testing.assert_close(ones, painted[row, reading.name], rtol=0, atol=BATCH_TOLERANCE)


@pytest.mark.parametrize("reading", READINGS)
def test_every_module_changes_the_picture(painted, reading: str) -> None:  # type: ignore[no-untyped-def]
    pictures = [painted[row, reading] for row in ROWS]
    for i, a in enumerate(pictures):
        assert a.shape == (4, 3, 64, 64)
        assert a.dtype == torch.float32
        assert 0.0 <= float(a.min()) <= float(a.max()) <= 1.0
        for b in pictures[:i]:
            # Far above rounding. (A full mask, the last sample's, leaves PAIntA nothing to do.)
            assert bool(((a - b)[:3].abs().flatten(1).amax(1) > 50 * BATCH_TOLERANCE).all())


def test_a_run_is_repeatable_and_two_inpainters_do_not_see_each_other(
    backbone, new_backbone, batch, painted
) -> None:  # type: ignore[no-untyped-def]
    profi, base = inpainter(backbone, "profi"), inpainter(backbone, "base")
    inpainter(new_backbone(5), "profi", RELEASED)(*batch.args())
    for _ in range(2):
        assert torch.equal(base(*batch.args()), painted["base", "paper"])
        assert torch.equal(profi(*batch.args()), painted["profi", "paper"])


@pytest.mark.parametrize("ablation", ["base", "profi"])
def test_interleaved_runs_equal_separate_ones(backbone, batch, painted, ablation: str) -> None:  # type: ignore[no-untyped-def]
    """A whole other run, on the same UNet, inside a step of the first."""
    other = inpainter(backbone, "painta_only", RELEASED)

    def interrupt(done: int, total: int) -> None:
        if done == 1:
            other(*batch.only(1).args())

    got = inpainter(backbone, ablation)(*batch.args(), progress=interrupt)
    assert torch.equal(got, painted[ablation, "paper"])


def test_the_unet_is_left_as_it_was(backbone, batch) -> None:  # type: ignore[no-untyped-def]
    before = dict(backbone.unet.attn_processors)
    inpainter(backbone, "profi")(*batch.args())
    assert backbone.unet.attn_processors == before
    assert not any(p.requires_grad or p.grad is not None for p in backbone.unet.parameters())


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_base_equals_diffusers_pipeline(
    new_backbone: Callable[..., Backbone],
    batch,  # type: ignore[no-untyped-def]
    scheduler_config: dict[str, object],
    prediction_type: str,
) -> None:
    backbone = new_backbone(0, prediction_type)
    # diffusers takes the first pixel of each cell.
    batch = batch.in_cells(backbone.latent_factor)
    sampling = Sampling(num_inference_steps=5, negative_prompt="blurry")
    ours = inpainter(backbone, "base", PAPER, sampling)(*batch.args())
    scheduler = DDIMScheduler.from_config(
        {
            **scheduler_config,
            "prediction_type": prediction_type,
            "timestep_spacing": "trailing",
            "set_alpha_to_one": True,
            "clip_sample": False,
        }
    )
    pipe = StableDiffusionInpaintPipeline(
        vae=backbone.vae,
        text_encoder=backbone.text.first.encoder,
        tokenizer=backbone.text.first.tokenizer,
        unet=backbone.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    masked = (2 * batch.images - 1) * ~batch.masks[:, None]
    latents = backbone.vae.encode(masked).latent_dist.mean * backbone.vae.config.scaling_factor
    theirs = pipe(
        prompt=batch.prompts,
        negative_prompt=["blurry"] * 4,
        image=2 * batch.images - 1,
        mask_image=batch.masks[:, None].float(),
        masked_image_latents=latents,
        height=64,
        width=64,
        latents=start_noise(batch.seeds, (4, 16, 16)),
        num_inference_steps=5,
        guidance_scale=7.5,
        strength=1.0,
        eta=0.0,
        output_type="pt",
    ).images
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_blended_output_is_the_given_image_outside_the_mask(backbone, batch, painted) -> None:  # type: ignore[no-untyped-def]
    for reading in READINGS.values():
        sampling = replace(STEPS, output="blended")
        got = inpainter(backbone, "base", reading, sampling)(*batch.args())
        outside = ~batch.masks[:, None].expand_as(got)
        assert torch.equal(got[outside], batch.images[outside])
        assert torch.equal(got[~outside], painted["base", reading.name][~outside])


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
@pytest.mark.filterwarnings("error::UserWarning")
def test_in_float16_every_module_does_what_it_does_in_float32(
    new_backbone, batch, painted, reading
) -> None:  # type: ignore[no-untyped-def]
    """Not only the pictures agree (rounding alone moves them): what a module changes does."""
    backbone = new_backbone()
    half = replace(backbone, unet=backbone.unet.to(torch.float16))
    got = {row: inpainter(half, row, reading)(*batch.args()) for row in ROWS}
    for row in ROWS[1:]:
        effect = painted[row, reading.name] - painted["base", reading.name]
        in_half = got[row] - got["base"]
        assert got[row].dtype == torch.float32
        assert float((in_half - effect).abs().mean()) < 0.3 * float(effect.abs().mean())


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
@pytest.mark.filterwarnings("error::UserWarning")
def test_bfloat16_agrees_to_its_own_precision(new_backbone, batch, painted, reading) -> None:  # type: ignore[no-untyped-def]
    """The base's error is the yardstick: the method must not add to it."""
    backbone = new_backbone()
    half = replace(backbone, unet=backbone.unet.to(torch.bfloat16))
    error = {
        row: float(
            (inpainter(half, row, reading)(*batch.args()) - painted[row, reading.name]).abs().mean()
        )
        for row in ROWS
    }
    assert max(error.values()) < 1.2 * error["base"] < 0.01


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
def test_masks_that_vanish_at_the_coarse_levels(backbone, batch, reading) -> None:  # type: ignore[no-untyped-def]
    dot = torch.zeros(1, 64, 64, dtype=torch.bool)
    dot[0, 5, 5] = True
    args = (batch.images[:1], dot, ["cat"], [0])
    got = inpainter(backbone, "profi", reading)(*args)
    assert bool(torch.isfinite(got).all())


def test_the_positive_suffix_and_negative_text_are_used(backbone, batch, painted) -> None:  # type: ignore[no-untyped-def]
    one = batch.only(0)
    for change in ({"positive_prompt": "sharp"}, {"negative_prompt": "blurry"}):
        got = inpainter(backbone, "profi", PAPER, replace(STEPS, **change))(*one.args())
        assert not torch.allclose(got, painted["profi", "paper"][:1], atol=1e-6)


def test_sizes_that_are_not_square(backbone, batch) -> None:  # type: ignore[no-untyped-def]
    for reading in READINGS.values():
        paint = inpainter(backbone, "profi", reading)
        got = paint(batch.images[:2, :, :48], batch.masks[:2, :48], batch.prompts[:2], [1, 2])
        assert got.shape == (2, 3, 48, 64)


def test_progress_is_told_every_step(backbone, batch) -> None:  # type: ignore[no-untyped-def]
    calls: list[tuple[int, int]] = []
    inpainter(backbone, "base")(
        *batch.only(0).args(), progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(i, 4) for i in (1, 2, 3, 4)]


def test_start_noise_belongs_to_the_seed() -> None:
    noise = start_noise([3, 4, 3], (4, 8, 8))
    assert torch.equal(noise[0], noise[2])
    assert torch.equal(noise[1:2], start_noise([4], (4, 8, 8)))


def _broken(batch, name: str):  # type: ignore[no-untyped-def]
    images, masks, prompts, seeds = batch.args()
    nan = images.clone()
    nan[1, 0, 0, 0] = torch.nan
    empty = masks.clone()
    empty[2] = False
    return {
        "is empty: nothing to paint": (images, empty, prompts, seeds),
        "is not bool": (images, masks.float(), prompts, seeds),
        "does not fit the images'": (images, masks[:, :32], prompts, seeds),
        r"is not \[B, 3, H, W\]": (images[:, :1], masks, prompts, seeds),
        "not a float": ((images * 255).byte(), masks, prompts, seeds),
        "outside \\[0, 1\\]": (nan, masks, prompts, seeds),
        "3 prompts": (images, masks, prompts[:3], seeds),
        "3 seeds": (images, masks, prompts, seeds[:3]),
        "multiple of 16": (images[..., :60], masks[..., :60], prompts, seeds),
        "seed 0 is -1": (images, masks, prompts, [-1, 1, 2, 3]),
        "prompt 3 is empty": (images, masks, [*prompts[:3], " "], seeds),
        "shorten it": (images, masks, [*prompts[:3], "x" * 30], seeds),
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "is empty: nothing to paint",
        "is not bool",
        "does not fit the images'",
        r"is not \[B, 3, H, W\]",
        "not a float",
        "outside \\[0, 1\\]",
        "3 prompts",
        "3 seeds",
        "multiple of 16",
        "seed 0 is -1",
        "prompt 3 is empty",
        "shorten it",
    ],
)
def test_bad_input_is_one_clear_line(backbone, batch, name: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=name) as caught:
        inpainter(backbone, "profi")(*_broken(batch, name))
    assert "\n" not in str(caught.value)


def test_base_takes_an_empty_prompt(backbone, batch) -> None:  # type: ignore[no-untyped-def]
    got = inpainter(backbone, "base")(batch.images[:1], batch.masks[:1], [""], [0])
    assert got.shape == (1, 3, 64, 64)


def test_configuration_mistakes_show_at_once(backbone) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match="base, painta_only, rasg_only, profi, vanilla_only"):
        compose("prof", PAPER)
    with pytest.raises(UserError, match=r"reading\.query=x: choose one of"):
        replace(PAPER, query="x")
    with pytest.raises(UserError, match="eta"):
        replace(PAPER, eta=-1.0)
    with pytest.raises(UserError, match="eta"):
        inpainter(backbone, "profi", replace(PAPER, eta=3.0))

    def too_deep(batch: MethodBatch) -> MethodParts:
        return MethodParts(self_attention=PAIntA(PAPER, {8: batch.level(8, "self")}, batch.words))

    registered = replace(compose(too_deep, PAPER), identity={})
    with pytest.raises(UserError, match="down-factor 8"):
        StableInpainting(backbone, registered)
    with pytest.raises(UserError, match="num_inference_steps=0"):
        inpainter(backbone, "base", PAPER, Sampling(num_inference_steps=0))
    with pytest.raises(UserError, match="output"):
        Sampling(output="mixed")  # type: ignore[arg-type]


def test_ablations_are_compositions(backbone: Backbone) -> None:
    schedule = Schedule.from_config({"beta_schedule": "scaled_linear"})
    masks = {factor: torch.ones(1, 2, 2, dtype=torch.bool) for factor in (1, 2, 4)}
    timesteps, sites = trailing_timesteps(1000, 4), attention_sites(backbone.unet)
    batch = MethodBatch(masks, timesteps, schedule, lambda: torch.ones(1, 3) > 0, sites)
    found = {}
    for name in catalogue.methods.names():
        parts = compose(name, RELEASED).parts(batch)
        found[name] = (
            isinstance(parts.self_attention, PAIntA),
            isinstance(parts.step_noise, RASG),
            parts.wrap is not None,
        )
        assert any(parts.sigmas) is found[name][1]
    assert found == {
        "base": (False, False, False),
        "painta_only": (True, False, False),
        "rasg_only": (False, True, False),
        "profi": (True, True, False),
        "vanilla_only": (False, False, True),
    }
    assert compose("paintan_only", RELEASED).name == "painta_only"


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
def test_the_full_method_follows_its_reading(backbone: Backbone, reading: Reading) -> None:
    schedule = Schedule.from_config({"beta_schedule": "scaled_linear"})
    mask = torch.eye(2, dtype=torch.bool)[None]
    masks = dict.fromkeys((1, 2, 4), mask)
    timesteps, sites = trailing_timesteps(1000, 4), attention_sites(backbone.unet)
    words = torch.tensor([[False, True, True]])
    method = compose("profi", reading)
    parts = method.parts(MethodBatch(masks, timesteps, schedule, lambda: words, sites))
    formula, eta = {"paper": ("cumulative", 0.15), "released": ("per_step", 0.25)}[reading.name]
    assert parts.sigmas == sigma_schedule(schedule, timesteps, formula, eta)
    assert isinstance(parts.step_noise, RASG)
    A_bar = torch.linspace(-2.0, 2.0, 12).view(1, 4, 3)
    clue = AttentionClue(A_bar, (A_bar[:, None],))
    printed = {"paper": (0.0, "sum"), "released": (1.0, "mean")}[reading.name]
    S = bce_objective(A_bar, mask.flatten(1), words, *printed)
    torch.testing.assert_close(parts.step_noise.objective(clue), S)
    resizing = {"paper": "nearest", "released": "pil_bicubic"}[reading.name]
    assert method.reading.mask_resizing == resizing


def test_a_method_s_identity_has_what_it_reads_alone() -> None:
    changed = replace(RELEASED, eta=0.3)
    assert compose("base", changed).identity == compose("base", RELEASED).identity
    assert compose("painta_only", changed).identity == compose("painta_only", RELEASED).identity
    assert compose("rasg_only", changed).identity != compose("rasg_only", RELEASED).identity
    assert compose("base", PAPER).identity != compose("base", RELEASED).identity


def test_two_methods_that_want_the_same_part_are_refused() -> None:
    def one(batch: MethodBatch) -> MethodParts:
        return MethodParts(sigmas=(0.1,))

    with pytest.raises(UserError, match="two methods have a sigmas"):
        together(one, one)(None)  # type: ignore[arg-type]
