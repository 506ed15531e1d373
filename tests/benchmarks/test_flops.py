"""What a step costs, counted: SD-1.5's architecture on the meta device."""

from __future__ import annotations

import pytest

from benchmarks.flops import naive_flops, step_flops
from profi.inpainters.readings import PAPER, READINGS, Reading

PLAIN_TFLOP = 1.607  # of the pair of branches at 512 x 512


@pytest.fixture(scope="module")
def plain() -> int:
    return step_flops("base", PAPER)


def test_the_plain_step_is_the_known_one(plain: int) -> None:
    assert plain / 1e12 == pytest.approx(PLAIN_TFLOP, abs=5e-4)


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
def test_a_step_of_the_full_method_costs_at_most_130_percent(plain: int, reading: Reading) -> None:
    profi = step_flops("profi", reading)
    assert profi <= 1.30 * plain
    assert step_flops("painta_only", reading) <= 1.02 * plain
    assert naive_flops(reading) >= 1.55 * plain


def test_rasg_alone_stays_below_the_limit_of_an_exact_gradient(plain: int) -> None:
    """A backward through the conditional half, up to the last cross-attention at H/32."""
    assert plain < step_flops("rasg_only", PAPER) <= 1.285 * plain
