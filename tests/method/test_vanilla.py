from __future__ import annotations

import pytest
import torch
from torch import Tensor

from profi.method.attention_objective import AttentionClue, AttentionObjective
from profi.method.ddim import ddim_step, to_x0_eps
from profi.method.sampling import Denoised
from profi.method.vanilla import VanillaGuidance, guided_eps
from profi.models.schedule import Schedule
from profi.settings.method import PAPER, VanillaSettings
from profi.types import UserError

ALPHA_T, ALPHA_PREV = 0.3, 0.45


def tensors() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x_t, eps, g = torch.randn(3, 2, 4, 8, 8, generator=generator)
    return x_t, eps, g


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_eq_6_through_eq_4_is_eq_7(scale: float) -> None:
    x_t, eps, g = tensors()

    def step(with_eps: Tensor) -> Tensor:
        x0_pred, _ = to_x0_eps(with_eps, x_t, ALPHA_T, "epsilon")
        return ddim_step(x0_pred, with_eps, ALPHA_PREV, 0.0, None)

    guided = step(guided_eps(eps, g, ALPHA_T, scale))
    # The closed form of xi_t as eq. 7 prints it.
    a, b = 1 - ALPHA_T, 1 - ALPHA_PREV
    printed = a**0.5 * scale * (a**0.5 * ALPHA_PREV**0.5 / ALPHA_T**0.5 - b**0.5)
    torch.testing.assert_close(guided, step(eps) + printed * g, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("alpha_t", "alpha_prev"), [(0.01, 0.02), (0.3, 0.45), (0.9, 0.95), (0.99, 1.0)]
)
def test_the_step_ascends_at_every_level_of_noise(alpha_t: float, alpha_prev: float) -> None:
    """The xi of eq. 7, what the step adds in the direction of g, is positive."""
    x_t, eps, g = (tensor.double() for tensor in tensors())

    def step(with_eps: Tensor) -> Tensor:
        x0_pred = (x_t - (1 - alpha_t) ** 0.5 * with_eps) / alpha_t**0.5
        return ddim_step(x0_pred, with_eps, alpha_prev, 0.0, None)

    added = step(guided_eps(eps, g, alpha_t, 1.0)) - step(eps)
    xi = (added * g).sum() / g.square().sum()
    assert float(xi) > 0.0
    torch.testing.assert_close(added, xi * g)


class Quadratic:
    """A denoiser whose attention logits are a linear map of x_t, so that S is known."""

    def __init__(self) -> None:
        self.weight = torch.randn(4 * 64, 16 * 3, generator=torch.Generator().manual_seed(1))

    def logits(self, x_t: Tensor) -> Tensor:
        return (x_t.flatten(1) @ self.weight / 16).view(-1, 1, 16, 3)

    def __call__(self, x_t: Tensor, t: int, step_index: int) -> Denoised[AttentionClue | None]:
        leaf = x_t.detach().requires_grad_()
        with torch.enable_grad():
            clue = AttentionClue(leaf, (self.logits(leaf),))
        return Denoised(torch.zeros_like(x_t), torch.zeros_like(x_t), clue)


def test_the_guided_denoiser_is_consistent_and_ascends(
    scheduler_config: dict[str, object],
) -> None:
    schedule = Schedule.from_config(scheduler_config)
    mask = torch.arange(16).expand(2, 16) < 6
    tokens = torch.tensor([[False, True, True]]).expand(2, 3)
    objective = AttentionObjective(PAPER, mask, tokens)
    denoise = Quadratic()
    x_t, _, _ = tensors()
    guided = VanillaGuidance(denoise, objective, 0.01, schedule)(x_t, 599, 0)
    alpha_t, alpha_prev = schedule.alpha(599), schedule.alpha(579)
    # x_t is still what x0_pred and eps make.
    again = alpha_t**0.5 * guided.x0_pred + (1 - alpha_t) ** 0.5 * guided.eps
    torch.testing.assert_close(again, x_t)
    plain_x0, plain_eps = to_x0_eps(torch.zeros_like(x_t), x_t, alpha_t, "epsilon")
    before = ddim_step(plain_x0, plain_eps, alpha_prev, 0.0, None)
    after = ddim_step(guided.x0_pred, guided.eps, alpha_prev, 0.0, None)
    S_before = objective(AttentionClue(before, (denoise.logits(before),)))
    S_after = objective(AttentionClue(after, (denoise.logits(after),)))
    assert bool((S_after > S_before).all())


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    with pytest.raises(UserError, match=r"vanilla\.scale"):
        VanillaSettings(scale=scale)
