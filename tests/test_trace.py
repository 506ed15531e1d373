"""`trace=` and a method of one's own, of a painter: neither changes what it should not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from painter_pictures import array, disc, picture
from torch import Tensor

import profi
from profi.method.attention import attend
from profi.method.attention_objective import bce_objective, mean_attention
from profi.method.ddim import ddim_step, sigma_schedule
from profi.method.inpainting import StableInpainting
from profi.method.methods import compose
from profi.method.painta import PAIntA
from profi.method.rasg import standardised
from profi.settings.method import PAPER

STEPS = 4
SIDE = 48  # the tiny painter's own size: nothing is scaled


def traced(painter: profi.Painter, **choices: Any) -> tuple[np.ndarray, profi.Trace]:
    trace = profi.Trace()
    image, mask = picture(SIDE, SIDE), disc(SIDE, SIDE)
    given = {"steps": STEPS, "reading": "paper"} | choices
    return array(painter(image, mask, "abc", trace=trace, **given)), trace


def painted(painter: profi.Painter, **choices: Any) -> np.ndarray:
    given: dict[str, Any] = {"steps": STEPS, "reading": "paper"} | choices
    return array(painter(picture(SIDE, SIDE), disc(SIDE, SIDE), "abc", **given))


@pytest.mark.parametrize("ablation", ["base", "painta_only", "rasg_only", "profi", "vanilla_only"])
def test_a_trace_changes_no_pixel(painter: profi.Painter, ablation: str) -> None:
    with_trace, _ = traced(painter, ablation=ablation)
    assert np.array_equal(with_trace, painted(painter, ablation=ablation))


def test_its_steps_are_those_of_eq_3(painter: profi.Painter) -> None:
    _, trace = traced(painter, ablation="profi")
    schedule = painter.backbone.schedule
    assert [step.step_index for step in trace.steps] == list(range(STEPS))
    for step, after in zip(trace.steps, [*trace.steps[1:], None], strict=True):
        alpha = schedule.alpha(step.t)
        eps = (step.x_t - alpha**0.5 * step.x0_pred) / (1 - alpha) ** 0.5
        alpha_prev = 1.0 if after is None else schedule.alpha(after.t)
        x_prev = ddim_step(step.x0_pred, eps, alpha_prev, step.sigma_t, step.noise)
        torch.testing.assert_close(x_prev, step.x_prev, rtol=0, atol=2e-4)
        if after is not None:
            assert torch.equal(step.x_prev, after.x_t)


def test_the_noise_is_the_standardised_gradient(painter: profi.Painter) -> None:
    _, trace = traced(painter, ablation="rasg_only")
    *guided, last = trace.steps
    assert last.sigma_t == 0.0
    assert last.noise is None
    assert last.gradient is None
    for step in guided:
        assert step.gradient is not None
        assert step.noise is not None
        assert torch.equal(step.noise, standardised(step.gradient))
        assert float(step.noise.std()) == pytest.approx(1.0, abs=1e-4)


def test_c_is_there_where_painta_works(painter: profi.Painter) -> None:
    _, trace = traced(painter, ablation="painta_only")
    assert [bool(step.c) for step in trace.steps] == [True, True, False, False]  # the first half
    for step in trace.steps[:2]:
        assert set(step.c) == {2, 4}
        for factor, c in step.c.items():
            assert c.shape == trace.masks[factor].shape
            assert 0.0 <= float(c.min()) <= float(c.max()) <= 1.0
            assert float(c.max()) > 0.0
    _, base = traced(painter, ablation="base")
    assert not any(step.c for step in base.steps)


def test_attention_is_a_share_of_what_each_pixel_pays(painter: profi.Painter) -> None:
    _, trace = traced(painter, ablation="base")
    for step in trace.steps:
        assert set(step.attention) == {1, 2, 4}  # all of the tiny UNet's levels attend
        for factor, paid in step.attention.items():
            assert paid.shape == trace.masks[factor].shape
            assert 0.0 < float(paid.min()) <= float(paid.max()) < 1.0


def test_attention_of_a_pair_is_that_of_the_conditional_branch(painter: profi.Painter) -> None:
    """From one x_T the first step of base (a pair) and of RASG (two passes) reads the same."""
    (_, pair), (_, alone) = traced(painter, ablation="base"), traced(painter, ablation="rasg_only")
    for factor, paid in pair.steps[0].attention.items():
        torch.testing.assert_close(paid, alone.steps[0].attention[factor], rtol=0, atol=1e-5)


def test_a_trace_starts_anew_with_each_call(painter: profi.Painter) -> None:
    trace = profi.Trace()
    for steps in (3, 2):
        painter(picture(SIDE, SIDE), disc(SIDE, SIDE), "abc", steps=steps, trace=trace)
        assert len(trace.steps) == steps


def test_a_trace_of_several_batches_is_refused(painter: profi.Painter) -> None:
    with pytest.raises(profi.UserError, match="3 pictures make 2 batches"):
        painter(
            picture(SIDE, SIDE),
            disc(SIDE, SIDE),
            "abc",
            seed=[0, 1, 2],
            steps=2,
            trace=profi.Trace(),
        )


def rasg_by_hand(batch: profi.MethodBatch) -> profi.MethodParts:
    """The paper's RASG (eq. 8-11), written as a method of one's own."""

    def noise(state: Any) -> Tensor:
        with torch.enable_grad():
            A_bar = mean_attention(state.clue.logits)
            mask = batch.masks[4].flatten(1)
            S = bce_objective(A_bar, mask, batch.words, 0.0, "sum").sum()
        (g,) = torch.autograd.grad(S, state.clue.x_t)
        return standardised(g)

    sigmas = sigma_schedule(batch.schedule, batch.timesteps, "cumulative", 0.15)
    return profi.MethodParts(step_noise=noise, sigmas=sigmas, reads=4)


def test_rasg_as_a_method_of_ones_own_is_rasg(painter: profi.Painter) -> None:
    assert np.array_equal(
        painted(painter, ablation=rasg_by_hand), painted(painter, ablation="rasg_only")
    )


def test_the_method_of_the_documentation_runs(painter: profi.Painter) -> None:
    page = (Path(__file__).parents[1] / "docs/painter.md").read_text()
    lines = page[page.index("For instance stochastic DDIM") :].splitlines()
    code = [line[4:] for line in lines if line.startswith("    ") or not line][1:]
    code = code[: next(i for i, line in enumerate(code) if "picture = painter(" in line)]
    names: dict[str, Any] = {}
    exec("\n".join(code), names)
    stochastic = painted(painter, ablation=names["stochastic"])
    assert np.array_equal(stochastic, painted(painter, ablation=names["stochastic"]))
    assert not np.array_equal(stochastic, painted(painter, ablation="base"))


def test_a_method_of_nothing_is_base(painter: profi.Painter) -> None:
    nothing = painted(painter, ablation=lambda batch: profi.MethodParts())
    assert np.array_equal(nothing, painted(painter, ablation="base"))


def test_its_attention_control_rules_self_attention_alone(painter: profi.Painter) -> None:
    seen: set[tuple[str, int]] = set()

    def watched(site: Any, q: Tensor, k: Tensor, v: Tensor, call: Any) -> Tensor:
        seen.add((site.kind, site.down_factor))
        return attend(q, k, v)

    plain = painted(painter, ablation=lambda batch: profi.MethodParts(self_attention=watched))
    assert seen == {("self", 1), ("self", 2), ("self", 4)}
    assert np.array_equal(plain, painted(painter, ablation="base"))

    def uniform(site: Any, q: Tensor, k: Tensor, v: Tensor, call: Any) -> Tensor:
        return attend(q, 0 * k, v)

    blind = painted(painter, ablation=lambda batch: profi.MethodParts(self_attention=uniform))
    assert not np.array_equal(blind, plain)


def test_its_batch_is_that_of_the_pictures(painter: profi.Painter) -> None:
    batches: list[profi.MethodBatch] = []

    def kept(batch: profi.MethodBatch) -> profi.MethodParts:
        batches.append(batch)
        return profi.MethodParts()

    painter([picture(SIDE, SIDE)] * 3, disc(SIDE, SIDE), "abc", steps=2, ablation=kept)
    assert [len(batch.words) for batch in batches] == [2, 1]  # the painter's batch size is 2
    for batch in batches:
        assert len(batch.timesteps) == 2
        sides = {factor: mask.shape[1] for factor, mask in batch.masks.items()}
        assert all(sides[factor] * factor == sides[1] for factor in sides)
        assert bool(batch.masks[1].flatten(1).any(dim=1).all())


def test_sigmas_of_another_number_of_steps_are_refused(painter: profi.Painter) -> None:
    with pytest.raises(profi.UserError, match="1 sigmas for 4 steps"):
        painted(painter, ablation=lambda batch: profi.MethodParts(sigmas=(0.1,)))


def test_a_level_that_the_unet_lacks_is_refused(painter: profi.Painter) -> None:
    def wrong(batch: profi.MethodBatch) -> profi.MethodParts:
        return replace(rasg_by_hand(batch), reads=16)

    with pytest.raises(profi.UserError, match="no cross-attention at down-factor 16"):
        painted(painter, ablation=wrong)


def test_a_function_has_no_identity(painter: profi.Painter) -> None:
    inpainter = StableInpainting(painter.backbone, compose(rasg_by_hand, PAPER))
    with pytest.raises(profi.UserError, match="nothing can be recorded"):
        _ = inpainter.identity


def test_painta_as_a_method_of_ones_own_is_painta(painter: profi.Painter) -> None:
    def painta(batch: profi.MethodBatch) -> profi.MethodParts:
        levels = {factor: mask for factor, mask in batch.masks.items() if factor > 1}
        return profi.MethodParts(self_attention=PAIntA(PAPER, levels, batch.words))

    own = painted(painter, ablation=painta)
    assert np.array_equal(own, painted(painter, ablation="painta_only"))
    assert not np.array_equal(own, painted(painter, ablation="base"))


def test_the_mask_at_1_is_the_unet_s_own_channel(painter: profi.Painter) -> None:
    channels: list[Tensor] = []
    C = painter.backbone.vae.config.latent_channels

    def seen(_: object, inputs: tuple[Tensor, ...]) -> None:
        channels.append(inputs[0][:, C])

    hook = painter.backbone.unet.conv_in.register_forward_pre_hook(seen)
    trace = profi.Trace()
    try:
        painted(painter, ablation="base", trace=trace)
    finally:
        hook.remove()
    mask = trace.masks[1].float()
    # Without guidance both branches are one pass, the pictures twice.
    assert all(torch.equal(channel[-1:], mask) for channel in channels)


def test_a_step_noise_that_nothing_multiplies_is_refused(painter: profi.Painter) -> None:
    for sigmas in ((), (0.0,) * STEPS):

        def silent(batch: profi.MethodBatch, sigmas: tuple[float, ...] = sigmas) -> Any:
            return replace(rasg_by_hand(batch), sigmas=sigmas)

        with pytest.raises(profi.UserError, match="no sigmas above zero"):
            painted(painter, ablation=silent)


@pytest.mark.parametrize("wrong", [None, 3])
def test_what_is_no_method_is_refused_in_a_line(painter: profi.Painter, wrong: Any) -> None:
    with pytest.raises(profi.UserError, match=f"ablation={wrong}"):
        painted(painter, ablation=wrong)
    with pytest.raises(profi.UserError, match=f"returned {type(wrong).__name__}"):
        painted(painter, ablation=lambda batch: wrong)
