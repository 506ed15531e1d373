"""The model and its loss: laws, closed forms and a plain loop."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from tiny_model import RECIPE, Recorder, batch_of, examples

from profi.baselines.smartbrush import to_latents
from profi.training.smartbrush_loss import Batch, dice, from_text_to_image, losses
from profi.types import UserError


def noise_for(batch: Batch) -> torch.Tensor:
    return torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(3))


def test_at_first_it_computes_what_the_text_to_image_unet_does(new_unet) -> None:  # type: ignore[no-untyped-def]
    source = new_unet(0, in_channels=4).eval()
    unet = from_text_to_image(source, 4).eval()
    g = torch.Generator().manual_seed(0)
    x, extra = torch.randn(2, 4, 16, 16, generator=g), torch.randn(2, 5, 16, 16, generator=g)
    t, context = torch.tensor([10, 700]), torch.randn(2, 8, 32, generator=g)
    with torch.no_grad():
        a = source(x, t, context).sample
        for level in range(5):
            labels = torch.full((2,), level)
            b = unet(torch.cat([x, extra], 1), t, context, class_labels=labels).sample
            torch.testing.assert_close(b[:, :4], a, rtol=1e-4, atol=1e-5)
            assert not b[:, 4].any()
    assert (unet.config.in_channels, unet.config.out_channels) == (9, 5)
    assert unet.config.num_class_embeds == 5


def test_what_is_new_learns_from_the_first_step_on(model) -> None:  # type: ignore[no-untyped-def]
    unet = from_text_to_image(model.unet, RECIPE.coarsest)
    batch = batch_of(model)
    terms = losses(
        unet, batch, model.context(batch.ids), model.scheduler, noise_for(batch),
        torch.tensor([50, 300, 600, 900]), 0.01,
    )  # fmt: skip
    sum(terms.values()).backward()
    assert unet.conv_in.weight.grad[:, 4:].abs().amax() > 0
    assert unet.conv_out.weight.grad[4].abs().amax() > 0
    assert unet.class_embedding.weight.grad.abs().amax() > 0


def test_an_inpainting_unet_is_refused(new_unet) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match="text-to-image"):
        from_text_to_image(new_unet(0), 4)
    config = {k: v for k, v in new_unet(0, 4).config.items() if not k.startswith("_")}
    classes = UNet2DConditionModel.from_config({**config, "num_class_embeds": 3})
    with pytest.raises(UserError, match="classes"):
        from_text_to_image(classes, 4)


def test_noise_is_inside_the_mask_only_and_what_is_known_is_clean(model) -> None:  # type: ignore[no-untyped-def]
    batch, unet = batch_of(model), Recorder()
    t = torch.tensor([50, 300, 600, 900])
    noise = noise_for(batch)
    losses(unet, batch, torch.zeros(4, 8, 32), model.scheduler, noise, t, 0.01)
    x_t, mask, known = unet.given[:, :4], unet.given[:, 4:5], unet.given[:, 5:]
    hole = batch.mask.expand_as(x_t)
    assert torch.equal(x_t[~hole], batch.known[~hole])
    noised = model.scheduler.add_noise(batch.latents, noise, t)
    assert torch.equal(x_t[hole], noised[hole])
    assert torch.equal(mask.bool(), batch.mask)
    assert torch.equal(known, batch.known)
    assert torch.equal(unet.levels, batch.levels)


def test_what_the_unet_is_given_of_a_hole_does_not_depend_on_the_picture_there(model) -> None:  # type: ignore[no-untyped-def]
    from dataclasses import replace

    given = examples()
    other = replace(given, images=torch.where(given.objects[:, None], 0.9, given.images))
    a, b = model.batch(given, RECIPE), model.batch(other, RECIPE)
    assert torch.equal(a.known[:3], b.known[:3])
    assert (a.latents[:3] - b.latents[:3]).abs().amax() > 1e-3


def test_a_text_to_image_sample_is_all_hole_at_the_level_of_the_box(model) -> None:  # type: ignore[no-untyped-def]
    batch = batch_of(model)
    assert batch.inpainting.tolist() == [True, True, True, False]
    assert batch.mask[3].all()
    assert batch.levels.tolist() == [0, 1, 2, RECIPE.coarsest]
    assert not batch.mask[:3].flatten(1).all(1).any()
    assert bool((batch.exact[:3] <= batch.mask[:3]).all())


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_loss_against_a_plain_loop(new_model, prediction_type: str) -> None:  # type: ignore[no-untyped-def]
    model = new_model(prediction_type)
    batch, t = batch_of(model), torch.tensor([50, 300, 600, 900])
    noise, unet = noise_for(batch), from_text_to_image(model.unet, RECIPE.coarsest).eval()
    torch.nn.init.normal_(unet.conv_out.weight[4:], std=0.1)
    context = model.context(batch.ids)
    with torch.no_grad():
        got = losses(unet, batch, context, model.scheduler, noise, t, 0.25)
        alphas = model.scheduler.alphas_cumprod
        diffusion, dices = [], []
        for i in range(4):
            a, b = alphas[t[i]].sqrt(), (1 - alphas[t[i]]).sqrt()
            x_t = torch.where(batch.mask[i], a * batch.latents[i] + b * noise[i], batch.known[i])
            x = torch.cat([x_t, batch.mask[i].float(), batch.known[i]])[None]
            out = unet(x, t[i], context[i : i + 1], class_labels=batch.levels[i : i + 1]).sample[0]
            v = a * noise[i] - b * batch.latents[i]
            target = noise[i] if prediction_type == "epsilon" else v
            hole = batch.mask[i].expand(4, -1, -1)
            diffusion.append((out[:4] - target)[hole].square().mean())
            if batch.inpainting[i]:
                p, m = out[4].sigmoid(), batch.exact[i, 0].float()
                dices.append(1 - 2 * (p * m).sum() / (p.sum() + m.sum()))
    torch.testing.assert_close(got["diffusion"], torch.stack(diffusion).mean())
    torch.testing.assert_close(got["dice"], 0.25 * torch.stack(dices).mean())


def test_dice_in_closed_form() -> None:
    m = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    m[..., :4] = True
    assert float(dice(m.float(), m)) == 0.0
    assert float(dice((~m).float(), m)) == 1.0
    # p = 1/2 everywhere, a share f of it mask: 1 - 2 (f/2) / (1/2 + f), with f = 1/2.
    assert float(dice(torch.full((1, 1, 8, 8), 0.5), m)) == pytest.approx(0.5)
    p = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    both = torch.cat([dice(p[i : i + 1], m) for i in range(3)])
    torch.testing.assert_close(dice(p, m.expand(3, -1, -1, -1)), both)


def test_a_cell_with_any_masked_pixel_is_mask() -> None:
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[0, 5, 9] = True
    cells = to_latents(masks, 4)
    assert cells.shape == (2, 1, 4, 4)
    assert cells.nonzero().tolist() == [[0, 0, 1, 2]]
