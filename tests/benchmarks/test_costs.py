"""What a step costs, counted: SD-1.5's architecture on the meta device and on fake tensors."""

from __future__ import annotations

import pytest
import torch

from benchmarks.flops import step_flops
from benchmarks.memory import LiveBytes, step_bytes
from benchmarks.steps import NAIVE, Size
from profi.settings.method import PAPER, READINGS, RELEASED, Reading

PLAIN_TFLOP = 1.607  # of the pair of branches at 512 x 512


@pytest.fixture(scope="module")
def plain() -> int:
    return step_flops("base", PAPER, Size())


def test_the_plain_step_is_the_known_one(plain: int) -> None:
    assert plain / 1e12 == pytest.approx(PLAIN_TFLOP, abs=5e-4)


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
def test_a_step_of_the_full_method_costs_at_most_130_percent(plain: int, reading: Reading) -> None:
    assert plain < step_flops("painta_only", reading, Size()) <= 1.02 * plain
    assert step_flops("profi", reading, Size()) <= 1.30 * plain


def test_rasg_alone_stays_below_the_limit_of_an_exact_gradient(plain: int) -> None:
    """A backward through the conditional half, up to the last cross-attention at H/32."""
    assert plain < step_flops("rasg_only", PAPER, Size()) <= 1.285 * plain
    assert step_flops(NAIVE, PAPER, Size()) >= 1.55 * plain


def test_the_full_method_takes_at_most_half_as_much_memory_again() -> None:
    peak, weights = step_bytes("base", RELEASED, Size(), torch.float16)
    profi, _ = step_bytes("profi", RELEASED, Size(), torch.float16)
    assert weights == 2 * 859_535_364
    assert peak + weights < profi + weights <= 1.5 * (peak + weights)


def test_live_bytes_are_those_of_a_known_program() -> None:
    live = LiveBytes()
    with live:
        a = torch.zeros(1000)
        b = a + 1.0
        view = b[:10]
        del b
        assert live.now == 8000
        del view
        assert live.now == 4000
        c = torch.zeros(500) + torch.zeros(500)
    assert live.peak == 4000 + 3 * 2000
    assert live.now == 4000 + c.nbytes


def test_what_was_there_before_is_not_counted_nor_are_views_of_it() -> None:
    layer = torch.nn.Linear(64, 64)
    live = LiveBytes()
    with torch.no_grad(), live:
        output = layer(torch.zeros(2, 64))
        transposed = layer.weight.t()
    assert live.now == output.nbytes < transposed.nbytes
