from __future__ import annotations

import pytest
import torch
from torch import Tensor

from profi.method.attention_objective import (
    bce_objective,
    max_attention_objective,
    mean_attention,
)


def random_case() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    A_bar = 3 * torch.randn(3, 16, 7, generator=generator)
    mask = torch.rand(3, 16, generator=generator) < 0.5
    tokens = torch.zeros(3, 7, dtype=torch.bool)
    tokens[0, 1:3] = tokens[1, 1:6] = tokens[2, 1] = True
    return A_bar, mask, tokens


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_objective_is_minus_torch_s_bce(offset: float, reduction: str) -> None:
    A_bar, mask, tokens = random_case()
    S = bce_objective(A_bar, mask, tokens, offset, reduction)  # type: ignore[arg-type]
    for b in range(3):
        expected = torch.zeros(())
        for k in tokens[b].nonzero().flatten():
            expected -= torch.nn.functional.binary_cross_entropy_with_logits(
                A_bar[b, :, k] - offset, mask[b].float(), reduction=reduction
            )
        torch.testing.assert_close(S[b], expected)


def test_gradient_is_its_closed_form_and_points_into_the_mask() -> None:
    """dS/dA = M - sigma(A): up inside the mask, down outside, nothing off ind(tau)."""
    A_bar, mask, tokens = random_case()
    A_bar.requires_grad_()
    (g,) = torch.autograd.grad(bce_objective(A_bar, mask, tokens, 0.0, "sum").sum(), A_bar)
    expected = (mask[:, :, None].float() - A_bar.detach().sigmoid()) * tokens[:, None, :]
    torch.testing.assert_close(g, expected)
    assert bool((g[mask] >= 0).all())
    assert bool((g[~mask] <= 0).all())


def test_extreme_logits_stay_finite() -> None:
    A_bar, mask, tokens = random_case()
    S = bce_objective(1e4 * A_bar, mask, tokens, 0.0, "sum")
    assert bool(torch.isfinite(S).all())


def test_mean_attention_is_eq_9() -> None:
    layers = torch.randn(4, 2, 8, 16, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mean_attention(list(layers)), layers.mean(dim=2).mean(dim=0))


def test_max_attention_is_eq_13_written_out() -> None:
    A_bar, mask, tokens = random_case()
    S = max_attention_objective(A_bar, mask, tokens)
    for b in range(3):
        largest = [max(A_bar[b, mask[b], k].tolist()) for k in tokens[b].nonzero().flatten()]
        assert float(S[b]) == pytest.approx(sum(largest) / len(largest))


def test_max_attention_pulls_at_the_largest_pixels_inside_alone() -> None:
    A_bar, mask, tokens = random_case()
    A_bar[0, :, 1] = 2.0  # all pixels alike: each gets an equal share
    mask[2] = False
    A_bar.requires_grad_()
    S = max_attention_objective(A_bar, mask, tokens)
    (g,) = torch.autograd.grad(S.sum(), A_bar)
    assert bool((g[~mask] == 0).all())
    assert not g[2].any()
    assert float(S[2].detach()) == 0.0
    torch.testing.assert_close(
        g[0, mask[0], 1], torch.full((int(mask[0].sum()),), 0.5).div(mask[0].sum())
    )
    torch.testing.assert_close(g[:2].sum((1, 2)), torch.ones(2))
