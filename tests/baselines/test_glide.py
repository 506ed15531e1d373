"""GLIDE's adapter, its own part, with a small model of the tests' own.

What is GLIDE's (its networks, its tokenizer, its schedules) comes from OpenAI's package, and only
test_glide_package.py, which needs it, says anything about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from row_laws import check_row
from torch import Tensor, nn

from profi.baselines.glide import GLIDE, guided, p_sample_loop
from profi.baselines.glide_stage import Stage, load_stage
from profi.harness.check import of_steps
from profi.inpainter import noise_of
from profi.settings.method import Sampling
from profi.types import UserError

BATCH_TOLERANCE = 2e-5  # of pixels in [0, 1], float32
CPU = torch.device("cpu")


class Letters:
    """A token per letter, with the two methods of the package's tokenizer that are used."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) - 96 for letter in text if letter != " "]

    def padded_tokens_and_mask(
        self, tokens: list[int], length: int
    ) -> tuple[list[int], list[bool]]:
        padding = length - len(tokens)
        return [*tokens, *[0] * padding], [*[True] * len(tokens), *[False] * padding]


class Network(nn.Module):
    """A convolution of all it is given; notes what that was."""

    def __init__(self, upsampler: bool) -> None:
        super().__init__()
        torch.manual_seed(int(upsampler))
        self.mix = nn.Conv2d(10 if upsampler else 7, 6, 3, padding=1)
        self.tokenizer = Letters()
        self.given: list[dict[str, Tensor]] = []

    def forward(self, x: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        self.given.append({"x": x, "t": t, **given})
        parts = [x, given["inpaint_image"], given["inpaint_mask"]]
        if "low_res" in given:
            parts.append(nn.functional.interpolate(given["low_res"], x.shape[2:]))
        text = (given["tokens"] * given["mask"]).sum(1).view(-1, 1, 1, 1) / 100.0
        return self.mix(torch.cat(parts, dim=1)) + torch.sin(text + t.view(-1, 1, 1, 1))


@dataclass(frozen=True)
class Process:
    """The reverse process of Ho et al. 2020 with the smaller variance, eq. 6 and 7."""

    betas: tuple[float, ...] = (0.1, 0.2, 0.4, 0.6)

    @property
    def num_timesteps(self) -> int:
        return len(self.betas)

    def p_mean_variance(
        self,
        model: Callable[..., Tensor],
        x: Tensor,
        t: Tensor,
        clip_denoised: bool,
        denoised_fn: Callable[[Tensor], Tensor],
        model_kwargs: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        i = int(t[0])
        bar = math.prod(1 - beta for beta in self.betas[: i + 1])
        before = math.prod(1 - beta for beta in self.betas[:i])
        eps = model(x, t, **model_kwargs)[:, :3]
        x0 = denoised_fn((x - math.sqrt(1 - bar) * eps) / math.sqrt(bar))
        assert clip_denoised
        x0 = x0.clamp(-1, 1)
        beta = self.betas[i]
        mean = math.sqrt(before) * beta * x0 + math.sqrt(1 - beta) * (1 - before) * x
        variance = beta * (1 - before) / (1 - bar)
        log_variance = torch.full_like(x, math.log(max(variance, 1e-20)))
        return {"mean": mean / (1 - bar), "log_variance": log_variance}


@pytest.fixture
def row() -> GLIDE:
    stages = [Stage(Network(up), Process(), 12, "4", f"hash {up}") for up in (False, True)]
    return GLIDE(*stages, device=CPU)


@torch.no_grad()
def test_the_laws_of_a_row(row: GLIDE, large: Any) -> None:
    check_row(row, large, 8, BATCH_TOLERANCE)


@torch.no_grad()
def test_a_trial_paints_with_its_own_steps(row: GLIDE) -> None:
    assert of_steps(row, Sampling(), 2) is row


def test_the_networks_are_given_what_the_package_s_example_gives_them(
    row: GLIDE, large: Any
) -> None:
    sampling = Sampling(positive_prompt="shiny", negative_prompt="dull")
    painted = replace(row, sampling=sampling)(*large.args())
    base, upsampler = row.base.model.given, row.upsampler.model.given
    assert [len(base), len(upsampler)] == [4, 4]
    holes = large.masks[:, ::4, ::4]

    first = base[0]
    assert first["x"].shape == (4, 3, 64, 64)
    # Start noise is each sample's first draw, for both branches the same.
    draw = noise_of(large.seeds)
    assert torch.equal(first["x"], torch.cat([draw((3, 64, 64))] * 2))
    assert torch.equal(first["inpaint_mask"], torch.cat([~holes[:, None]] * 2).float())
    hole = first["inpaint_mask"].expand_as(first["x"]) == 0
    assert not first["inpaint_image"][hole].any()
    seen = first["inpaint_image"][~hole]
    assert float(seen.min()) < -0.5
    assert float(seen.max()) > 0.5
    letters = Letters()
    expected = [letters.encode(text) for text in ("cat,shiny", "red bus,shiny", "dull", "dull")]
    for tokens, mask, text in zip(first["tokens"], first["mask"], expected, strict=True):
        assert tokens[mask].tolist() == text
    assert [int(given["t"][0]) for given in base] == [3, 2, 1, 0]

    first = upsampler[0]
    assert first["x"].shape == (2, 3, 256, 256)
    keep = (~holes[:, None]).float().repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert torch.equal(first["inpaint_mask"], keep)
    assert torch.equal(first["inpaint_image"], (2 * large.images - 1) * keep)
    bytes_ = (first["low_res"] + 1) * 127.5
    torch.testing.assert_close(bytes_, bytes_.round(), rtol=0, atol=1e-4)
    assert first["low_res"].shape == (2, 3, 64, 64)
    # The known part of the small picture went through it as it was.
    for _ in range(3):
        draw((3, 64, 64))
    assert torch.equal(first["x"], draw((3, 256, 256)) * 0.997)

    known = keep.bool().expand_as(painted)
    torch.testing.assert_close(painted[known], large.images[known], rtol=0, atol=1e-6)


def test_guidance_combines_eps_and_keeps_the_variance_of_the_text() -> None:
    def model(x: Tensor, t: Tensor, weight: Tensor) -> Tensor:
        assert torch.equal(t, torch.tensor([7, 7, 7, 7]))
        return torch.cat([x * weight, x + weight], dim=1)

    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    weight = torch.tensor([2.0, 3.0, 10.0, 20.0]).view(4, 1, 1, 1)
    output = guided(model, 5.0)(x, torch.tensor([7, 7]), weight=weight)
    # uncond + 5 (cond - uncond), of 2 and 10, of 3 and 20.
    eps = x * torch.tensor([10 + 5 * (2 - 10), 20 + 5 * (3 - 20)]).view(2, 1, 1, 1)
    torch.testing.assert_close(output[:, :3], eps)
    torch.testing.assert_close(output[:, 3:], x + weight[:2])


def test_ancestral_sampling_of_a_gaussian_gives_that_gaussian() -> None:
    """Of data N(0, 1) the exact eps is sqrt(1 - bar) x_t, and every x_t has variance 1."""

    @dataclass(frozen=True)
    class Unclipped(Process):
        """Data of any size, with the variance that is exact for it: beta."""

        betas: tuple[float, ...] = field(default=tuple(0.002 * i for i in range(1, 101)))

        def p_mean_variance(self, model: Any, x: Tensor, t: Tensor, **_: Any) -> dict[str, Tensor]:
            beta = self.betas[int(t[0])]
            # E[x_{t-1} | x_t] = sqrt(1 - beta) x_t.
            return {
                "mean": math.sqrt(1 - beta) * x,
                "log_variance": torch.full_like(x, math.log(beta)),
            }

    draw = noise_of([1, 2])
    none = torch.zeros(2, 1, 64, 64)
    calls: list[int] = []
    x_0 = p_sample_loop(
        lambda x, t: x,
        Unclipped(),
        draw((3, 64, 64)),
        torch.zeros(2, 3, 64, 64),
        none,
        {},
        draw,
        calls.append,
    )
    assert calls == list(range(1, 101))
    # The last step adds no noise, so its beta = 0.002 is what the variance lacks; 24,576 numbers
    # give a standard error of 0.9 %.
    assert float(x_0.var()) == pytest.approx(1 - 0.002, rel=0.04)


def test_what_does_not_fit_is_said(row: GLIDE, large: Any) -> None:
    wide = torch.zeros(1, 3, 256, 512)
    with pytest.raises(UserError, match=r"256x512, and GLIDE paints 256x256.*model\.long_side"):
        row(wide, wide[:, 0] == 0, ["cat"], [0])
    with pytest.raises(UserError, match=r"has 13 tokens and GLIDE reads 12"):
        row(*replace(large.only(0), prompts=["abcdefghijklm"]).args())


def test_every_setting_is_in_the_identity(row: GLIDE) -> None:
    for changed in (
        replace(row, guidance_scale=3.0),
        replace(row, temperature=1.0),
        replace(row, base=replace(row.base, sha256="another")),
        replace(row, upsampler=replace(row.upsampler, steps="2,2")),
        replace(row, sampling=Sampling(negative_prompt="dull")),
    ):
        assert changed.identity != row.identity
    # Its steps and its guidance are its own.
    assert replace(row, sampling=Sampling(num_inference_steps=7)).identity == row.identity


def test_float16_is_refused_on_a_cpu(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.dtype=float16: GLIDE on a CPU runs in float32"):
        load_stage(tmp_path / "x.pt", "model.glide.base.path", False, "100", "cpu", True)
