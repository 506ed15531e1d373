from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from profi.method.attention import Branch, UNetPass, controlled
from profi.method.attention_objective import (
    AttentionClue,
    AttentionObjective,
    CrossAttentionCapture,
    bce_objective,
    mean_attention,
)
from profi.method.ddim import ddim_step, to_x0_eps
from profi.method.rasg import RASG, standardised
from profi.method.sampling import StepState
from profi.method.sites import attention_sites
from profi.models.backbone import Backbone
from profi.settings.method import PAPER, Reading

T, T_PREV = 599, 579
TOKENS = torch.zeros(2, 24, dtype=torch.bool)
TOKENS[0, 1:5] = TOKENS[1, 1:9] = True
MASK = torch.zeros(2, 4, 4, dtype=torch.bool)
MASK[0, 1:3, 1:3] = MASK[1, :, 2:] = True
MASK = MASK.flatten(1)


def read(backbone: Backbone, x_t: Tensor, t: int) -> tuple[AttentionClue, Tensor]:
    """The attention of one conditional pass, with its graph, and eps."""
    generator = torch.Generator().manual_seed(11)
    condition = torch.randn(2, 5, 16, 16, generator=generator)
    context = torch.randn(2, 24, 32, generator=generator)
    capture = CrossAttentionCapture(attention_sites(backbone.unet), 4)
    leaf = x_t.detach().requires_grad_()
    with torch.enable_grad(), controlled(backbone.unet, capture):
        eps = backbone.unet(
            torch.cat([leaf, condition], dim=1),
            t,
            encoder_hidden_states=context,
            cross_attention_kwargs=UNetPass(Branch.CONDITIONAL, t, 0, 2).kwargs(),
        ).sample
    return AttentionClue(leaf, capture.take()), eps.detach()


def rasg(settings: Reading | None = None, mask: Tensor = MASK, tokens: Tensor = TOKENS) -> RASG:
    return RASG(AttentionObjective(settings or PAPER, mask, tokens))


def contrast(clue: AttentionClue) -> Tensor:
    """Mean attention to the prompt inside the mask minus that outside, per sample."""
    A = (mean_attention(clue.logits) * TOKENS[:, None]).sum(-1).detach()
    inside = (A * MASK).sum(1) / MASK.sum(1)
    return inside - (A * ~MASK).sum(1) / (~MASK).sum(1)


def objective(clue: AttentionClue) -> Tensor:
    return bce_objective(mean_attention(clue.logits), MASK, TOKENS, 0.0, "sum")


def state(clue: AttentionClue | None, sigma_t: float = 0.05) -> StepState[AttentionClue | None]:
    empty = torch.zeros(())
    return StepState(empty, T, 0, empty, empty, sigma_t, clue)


def start(seed: int) -> Tensor:
    return torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("settings", [PAPER, replace(PAPER, offset=1.0, reduction="mean")])
def test_a_step_raises_attention_inside_the_mask_over_outside(
    new_backbone: Callable[..., Backbone], seed: int, settings: Reading
) -> None:
    """The paper's claim, and the sign's only meaning; against the same step with eta = 0."""
    backbone, x_t, sigma_t = new_backbone(seed), start(seed), 0.02
    clue, eps = read(backbone, x_t, T)
    noise = rasg(settings)(state(clue, sigma_t))
    alpha_t, alpha_prev = backbone.schedule.alpha(T), backbone.schedule.alpha(T_PREV)
    x0_pred, eps = to_x0_eps(eps, x_t, alpha_t, "epsilon")
    plain = ddim_step(x0_pred, eps, alpha_prev, 0.0, None)
    guided = ddim_step(x0_pred, eps, alpha_prev, sigma_t, noise)
    after_plain, _ = read(backbone, plain, T_PREV)
    after_guided, _ = read(backbone, guided, T_PREV)
    assert bool((contrast(after_guided) > contrast(after_plain)).all())
    assert bool((objective(after_guided) > objective(after_plain)).all())


@pytest.mark.parametrize("seed", range(3))
def test_directional_derivative(new_backbone: Callable[..., Backbone], seed: int) -> None:
    """S(x + h n) - S(x - h n) = 2 h |g|^2 / std(g): n is the gradient, scaled."""
    backbone, x_t, h = new_backbone(seed), start(seed), 1e-3
    clue, _ = read(backbone, x_t, T)
    noise = rasg()(state(clue))
    up, down = (objective(read(backbone, x_t + s * h * noise, T)[0]) for s in (1, -1))
    clue, _ = read(backbone, x_t, T)
    (g,) = torch.autograd.grad(objective(clue).sum(), clue.x_t)
    expected = (g * noise).flatten(1).sum(1)
    torch.testing.assert_close((up - down) / (2 * h), expected, rtol=0.02, atol=1e-3)
    torch.testing.assert_close(expected, g.flatten(1).square().sum(1) / g.flatten(1).std(1))


def test_noise_has_unit_variance_and_keeps_its_mean() -> None:
    g = torch.tensor([3.0, 1e-7])[:, None, None, None] * (start(0)[:1] + 0.5)
    noise = standardised(g)
    torch.testing.assert_close(noise.flatten(1).std(1), torch.ones(2))
    torch.testing.assert_close(noise[0], noise[1])
    assert float(noise.mean()) > 0.4


def test_a_sample_without_a_direction_gets_zeros_and_the_other_none_of_it() -> None:
    g = start(0)
    for bad in (torch.zeros(4, 16, 16), torch.full((4, 16, 16), torch.nan)):
        noise = standardised(torch.stack([bad, g[1]]))
        assert torch.equal(noise[0], torch.zeros(4, 16, 16))
        torch.testing.assert_close(noise[1], standardised(g)[1])
    infinite = g.clone()
    infinite[0, 0, 0, 0] = torch.inf
    assert not standardised(infinite)[0].any()


def test_a_dead_gradient_is_reported(backbone: Backbone, caplog: pytest.LogCaptureFixture) -> None:
    clue, _ = read(backbone, start(0), T)
    rasg(tokens=torch.zeros_like(TOKENS))(state(clue))
    assert "no usable gradient at t=599 for samples [0, 1]" in caplog.text


def test_a_vanished_mask_is_unguided_or_taken_literally(backbone: Backbone) -> None:
    mask = MASK.clone()
    mask[0] = False
    for vanished, guided in (("unguided", False), ("literal", True)):
        clue, _ = read(backbone, start(0), T)
        noise = rasg(replace(PAPER, vanished_mask=vanished), mask)(state(clue))
        assert bool(noise[0].any()) is guided
        assert bool(noise[1].any())


def test_samples_do_not_mix(backbone: Backbone) -> None:
    noise = rasg()(state(read(backbone, start(0), T)[0]))
    x_t = start(0)
    x_t[1] = start(5)[1]
    other = rasg()(state(read(backbone, x_t, T)[0]))
    torch.testing.assert_close(noise[0], other[0])
    assert not torch.allclose(noise[1], other[1])


def test_reductions_agree_after_standardisation(backbone: Backbone) -> None:
    by_sum, by_mean = (
        rasg(replace(PAPER, reduction=name))(state(read(backbone, start(0), T)[0]))
        for name in ("sum", "mean")
    )
    torch.testing.assert_close(by_sum, by_mean)


def test_a_denoiser_without_attention_is_a_bug() -> None:
    with pytest.raises(RuntimeError, match="no attention at t=599"):
        rasg()(state(None))
