"""A guided step in one pass gives what the method's two passes give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.architectures import T, make_backbone, some_text
from benchmarks.gpu import TINY
from benchmarks.graphs import BothBranches
from benchmarks.one_pass import OnePassDenoiser, PairCapture
from benchmarks.steps import Size
from profi.method.attention import AttentionControl, Plain, controlled
from profi.method.attention_objective import (
    DOWN_FACTOR,
    AttentionObjective,
    ByKind,
    CrossAttentionCapture,
)
from profi.method.painta import PAIntA
from profi.method.sampling import InpaintingDenoiser
from profi.method.sites import attention_sites
from profi.models.backbone import Backbone
from profi.settings.method import READINGS

SIZE = Size(128, 2)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return make_backbone(TINY, "cpu", torch.float32, channels_last=False)


def step(backbone: Backbone, reading: str, with_painta: bool, one_pass: bool) -> tuple[Any, ...]:
    """(x0_pred, eps, gradient) of random inputs, with two different texts."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    x_t, condition = noise(2, 4, SIZE.side, SIZE.side), noise(2, 5, SIZE.side, SIZE.side)
    text = some_text(backbone, 2, SIZE.pixels)
    texts = [replace(text, context=noise(*text.context.shape)) for _ in range(2)]
    tokens = torch.zeros(2, backbone.text.token_limit, dtype=torch.bool)
    tokens[0, 1:3] = tokens[1, 1:5] = True
    levels, chosen = SIZE.levels(), READINGS[reading]
    on_self: AttentionControl = PAIntA(chosen, levels, tokens) if with_painta else Plain()
    sites = attention_sites(backbone.unet)
    capture = (PairCapture if one_pass else CrossAttentionCapture)(sites, DOWN_FACTOR)
    denoise = (OnePassDenoiser if one_pass else InpaintingDenoiser)(
        backbone=backbone,
        condition=condition,
        conditional=texts[0],
        unconditional=texts[1],
        guidance_scale=lambda: 7.5,
        guided=(True, False),
        capture=capture,
    )
    with torch.no_grad(), controlled(backbone.unet, ByKind(on_self, capture)):
        denoised = denoise(x_t, T, 0)
    assert denoised.clue is not None
    objective = AttentionObjective(chosen, levels[DOWN_FACTOR].flatten(1), tokens)
    return denoised.x0_pred, denoised.eps, objective.gradient(denoised.clue)


@pytest.mark.parametrize("with_painta", [False, True])
@pytest.mark.parametrize("reading", ["paper", "released"])
def test_one_pass_equals_two(backbone: Backbone, reading: str, with_painta: bool) -> None:
    two = step(backbone, reading, with_painta, one_pass=False)
    one = step(backbone, reading, with_painta, one_pass=True)
    assert bool(two[2].any())
    for name, expected, got in zip(("x0_pred", "eps", "gradient"), two, one, strict=True):
        scale = expected.abs().max().item()
        torch.testing.assert_close(
            got / scale, expected / scale, rtol=0, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_the_pass_of_the_graphs_is_that_of_the_sampler(backbone: Backbone) -> None:
    """On a CPU it runs without a graph: both halves of equal texts are equal, PAIntA changes it."""
    plain = BothBranches("base", backbone, SIZE)()
    assert plain.shape == (4, 4, SIZE.side, SIZE.side)
    torch.testing.assert_close(plain[:2], plain[2:])
    inputs = torch.zeros(4, 9, SIZE.side, SIZE.side)
    text = some_text(backbone, 2, SIZE.pixels)
    with torch.no_grad():
        expected = backbone.unet(inputs, T, **text.stacked(text).kwargs()).sample
    torch.testing.assert_close(plain, expected, rtol=0, atol=1e-5)
