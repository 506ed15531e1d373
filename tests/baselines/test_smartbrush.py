from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler
from row_laws import check_row
from torch import Tensor

from profi.baselines.baseline import Inputs, no_progress
from profi.baselines.smartbrush import SMARTBRUSH, SmartBrush, to_latents
from profi.models.backbone import Backbone
from profi.settings.method import Sampling
from profi.training.smartbrush_loss import from_text_to_image
from profi.types import UserError

STEPS = Sampling(num_inference_steps=4)
BATCH_TOLERANCE = 2e-5  # of pixels in [0, 1], float32
ORACLE_TOLERANCE = 1e-4


def made(new_backbone, new_unet, prediction_type: str) -> Backbone:  # type: ignore[no-untyped-def]
    """A SmartBrush model in which all that training starts at zero has an effect."""
    unet = from_text_to_image(new_unet(3, in_channels=4), 4)
    g = torch.Generator().manual_seed(0)
    for parameter in (unet.conv_in.weight, unet.conv_out.weight, unet.class_embedding.weight):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=g)
    plain = new_backbone(3, prediction_type)
    return Backbone.from_parts(unet, plain.vae, plain.text, plain.schedule, role=SMARTBRUSH)


@pytest.fixture(scope="module")
def model(new_backbone, new_unet) -> Backbone:  # type: ignore[no-untyped-def]
    return made(new_backbone, new_unet, "v_prediction")


def test_the_laws_of_a_row(model, batch) -> None:  # type: ignore[no-untyped-def]
    check_row(SmartBrush(model, STEPS), batch, 4, BATCH_TOLERANCE)


def test_up_to_a_scale_of_1_the_prompt_s_branch_alone_counts(model, batch) -> None:  # type: ignore[no-untyped-def]
    pictures = [
        SmartBrush(model, replace(STEPS, guidance_scale=scale))(*batch.args())
        for scale in (0.0, 1.0, 3.0)
    ]
    assert torch.equal(pictures[0], pictures[1])
    assert not torch.allclose(pictures[1], pictures[2])


def oracle(backbone, batch, level: int) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
    """x_0 and the last predicted mask, with diffusers' scheduler, sample by sample."""
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type=backbone.schedule.prediction_type,
        timestep_spacing="trailing",
        clip_sample=False,
    )
    scheduler.set_timesteps(4)
    out = []
    for image, mask, prompt, seed in zip(*batch.args(), strict=True):
        hole = mask.reshape(16, 4, 16, 4).any(3).any(1)[None, None]
        known = backbone.vae.encode(((2 * image - 1) * ~mask)[None]).latent_dist.mean
        known = known * backbone.vae.config.scaling_factor
        noise = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(seed))
        x, labels = torch.where(hole, noise, known), torch.tensor([level])
        for t in scheduler.timesteps:
            given = torch.cat([x, hole.float(), known], 1)
            answers = [
                backbone.unet(
                    given, t, backbone.text([text], (64, 64)).context, class_labels=labels
                ).sample
                for text in ("", prompt)
            ]
            uncond, cond = answers[0][:, :4], answers[1][:, :4]
            x = scheduler.step(uncond + 7.5 * (cond - uncond), t, x, eta=0.0).prev_sample
            x = torch.where(hole, x, known)
        out.append((x, answers[1][:, 4:].sigmoid()))
    return torch.cat([x for x, _ in out]), torch.cat([mask for _, mask in out])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@torch.no_grad()
def test_against_a_loop_over_diffusers_scheduler(  # type: ignore[no-untyped-def]
    new_backbone, new_unet, batch, prediction_type: str
) -> None:
    model = made(new_backbone, new_unet, prediction_type)
    x_0, predicted = SmartBrush(model, STEPS, level=3).latents(Inputs(*batch.args()), no_progress)
    expected, mask = oracle(model, batch, 3)
    # Relative to the largest: the latents that random weights give are large.
    scale = float(expected.abs().amax())
    torch.testing.assert_close(x_0, expected, rtol=0, atol=ORACLE_TOLERANCE * scale)
    torch.testing.assert_close(predicted, mask, rtol=0, atol=ORACLE_TOLERANCE)


def test_what_is_painted_does_not_depend_on_what_the_holes_hold(model, batch) -> None:  # type: ignore[no-untyped-def]
    row = SmartBrush(model, STEPS)
    other = replace(batch, images=torch.where(batch.masks[:, None], 0.9, batch.images))
    for a, b in zip(
        row.latents(Inputs(*batch.args()), no_progress),
        row.latents(Inputs(*other.args()), no_progress),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("composition", ["given_mask", "predicted_mask"])
def test_the_picture_is_the_composition_decoded(model, batch, composition) -> None:  # type: ignore[no-untyped-def]
    row = SmartBrush(model, STEPS, 2, composition)
    x_0, predicted = row.latents(Inputs(*batch.args()), no_progress)
    mask = to_latents(batch.masks, 4)
    painted = mask & (predicted > 0.5) if composition == "predicted_mask" else mask
    assert painted.any()
    assert (painted != mask).any() == (composition == "predicted_mask")
    known = model.encode_images((2 * batch.images - 1) * ~batch.masks[:, None])
    outside = ~mask.expand_as(known)
    assert torch.equal(x_0[outside], known[outside])
    given = model.encode_images(2 * batch.images - 1)
    expected = model.decode(torch.where(painted, x_0, given))
    torch.testing.assert_close(row(*batch.args()), expected, rtol=0, atol=1e-6)


def test_blended_keeps_the_known_pixels(model, batch) -> None:  # type: ignore[no-untyped-def]
    kept = SmartBrush(model, replace(STEPS, output="blended"))(*batch.args())
    outside = ~batch.masks[:, None].expand_as(kept)
    assert torch.equal(kept[outside], batch.images[outside])


def test_the_level_is_heard(model, batch) -> None:  # type: ignore[no-untyped-def]
    pictures = [SmartBrush(model, STEPS, level)(*batch.args()) for level in range(5)]
    for i, a in enumerate(pictures):
        for b in pictures[:i]:
            assert (a - b).abs().flatten(1).amax(1).min() > 10 * BATCH_TOLERANCE


def test_other_settings_are_another_identity(model) -> None:  # type: ignore[no-untyped-def]
    rows = [
        SmartBrush(model, STEPS),
        SmartBrush(model, STEPS, 3),
        SmartBrush(model, STEPS, 2, "predicted_mask"),
        SmartBrush(model),
    ]
    assert len({str(row.identity) for row in rows}) == 4


def test_what_does_not_fit_is_refused(model, new_backbone, new_unet) -> None:  # type: ignore[no-untyped-def]
    for level in (-1, 5):
        with pytest.raises(UserError, match=r"0 \(exact\) to 4 \(box\)"):
            SmartBrush(model, STEPS, level)
    with pytest.raises(UserError, match="given_mask or predicted_mask"):
        SmartBrush(model, STEPS, 2, "blended")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="SmartBrush UNet"):
        new_backbone(3, "epsilon", SMARTBRUSH)
