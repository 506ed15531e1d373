"""The adapter's own part with a small model of the tests' own; GLIDE itself where it is installed.

What is GLIDE's (its networks, its tokenizer, its schedules) comes from OpenAI's package, and only
`test_released_*` below, which need it, say anything about it.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from row_laws import check_row
from torch import Tensor, nn

from profi.inpainters.base import Sampling, noise_of
from profi.inpainters.glide import GLIDE, guided, p_sample_loop
from profi.inpainters.glide_stage import INSTALL, PACKAGE, Stage, load_stage
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


@dataclass(frozen=True)
class Batch:
    images: Tensor
    masks: Tensor
    prompts: list[str]
    seeds: list[int]

    def only(self, i: int) -> Batch:
        one = slice(i, i + 1)
        return Batch(self.images[one], self.masks[one], self.prompts[one], self.seeds[one])

    def args(self) -> tuple[Tensor, Tensor, list[str], list[int]]:
        return self.images, self.masks, self.prompts, self.seeds


@pytest.fixture(scope="module")
def large() -> Batch:
    coarse = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    images = nn.functional.interpolate(coarse, scale_factor=16, mode="nearest")
    masks = torch.zeros(2, 256, 256, dtype=torch.bool)
    masks[0, 40:120, 80:200] = True
    masks[1, 100:, :64] = True
    return Batch(images, masks, ["cat", "red bus"], [5, 2**62])


@pytest.fixture
def row() -> GLIDE:
    stages = [Stage(Network(up), Process(), 12, "4", f"hash {up}") for up in (False, True)]
    return GLIDE(*stages, device=CPU)


@torch.no_grad()
def test_the_laws_of_a_row(row: GLIDE, large: Batch) -> None:
    check_row(row, large, 8, BATCH_TOLERANCE)


@torch.no_grad()
def test_the_networks_are_given_what_the_package_s_example_gives_them(
    row: GLIDE, large: Batch
) -> None:
    sampling = Sampling(positive="shiny", negative="dull")
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
    wanted = [letters.encode(text) for text in ("cat,shiny", "red bus,shiny", "dull", "dull")]
    for tokens, mask, text in zip(first["tokens"], first["mask"], wanted, strict=True):
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
    told: list[int] = []
    x_0 = p_sample_loop(
        lambda x, t: x,
        Unclipped(),
        draw((3, 64, 64)),
        torch.zeros(2, 3, 64, 64),
        none,
        {},
        draw,
        told.append,
    )
    assert told == list(range(1, 101))
    # The last step adds no noise, so its beta = 0.002 is what the variance lacks; 24,576 numbers
    # give a standard error of 0.9 %.
    assert float(x_0.var()) == pytest.approx(1 - 0.002, rel=0.04)


def test_what_does_not_fit_is_said(row: GLIDE, large: Batch) -> None:
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
        replace(row, sampling=Sampling(negative="dull")),
    ):
        assert changed.identity != row.identity
    # Its steps and its guidance are its own.
    assert replace(row, sampling=Sampling(num_inference_steps=7)).identity == row.identity


INSTALLED = importlib.util.find_spec(PACKAGE) is not None


@pytest.mark.skipif(INSTALLED, reason="OpenAI's package is installed")
def test_without_the_package_its_installation_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_stage(tmp_path / "x.pt", "model.glide.base.path", False, "100", "cpu", False)
    assert INSTALL in str(caught.value)
    assert "\n" not in str(caught.value)


def test_float16_is_refused_on_a_cpu(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.dtype=float16: GLIDE on a CPU runs in float32"):
        load_stage(tmp_path / "x.pt", "model.glide.base.path", False, "100", "cpu", True)


# Small networks of the released kinds.
TINY = {
    "num_channels": 32,
    "num_head_channels": 32,
    "num_res_blocks": 1,
    "xf_width": 32,
    "xf_layers": 1,
    "xf_heads": 2,
}


def save_released(path: Path, upsampler: bool, steps: str) -> Any:
    """A random model and its diffusion, its weights in `path` as OpenAI's files are."""
    creation = importlib.import_module(f"{PACKAGE}.model_creation")
    name = "model_and_diffusion_defaults" + ("_upsampler" if upsampler else "")
    options = {**getattr(creation, name)(), "inpaint": True, "use_fp16": False, **TINY}
    torch.manual_seed(8)
    model, diffusion = creation.create_model_and_diffusion(
        **{**options, "timestep_respacing": steps}
    )
    # What a new model has of zeros would hide the rest of it, its text too.
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0.0, math.prod(parameter.shape[1:]) ** -0.5)
    torch.save(model.state_dict(), path)
    return model.eval(), diffusion


@pytest.mark.skipif(not INSTALLED, reason=f"OpenAI's package is not installed: {INSTALL}")
def test_released_models_are_loaded_and_paint(tmp_path: Path, large: Batch) -> None:
    stages = []
    for upsampler, steps in ((False, "4"), (True, "3")):
        path = tmp_path / f"{upsampler}.pt"
        save_released(path, upsampler, steps)
        stages.append(load_stage(path, "key", upsampler, steps, "cpu", False, TINY))
    # Rounding the small picture to 8 bits makes a level of a float difference, here or there.
    check_row(GLIDE(*stages, device=CPU), large, 7, 0.05)
    with pytest.raises(UserError, match="key="):
        load_stage(tmp_path / "False.pt", "key", True, "3", "cpu", False, TINY)


@pytest.mark.skipif(not INSTALLED, reason=f"OpenAI's package is not installed: {INSTALL}")
@torch.no_grad()
def test_released_row_paints_what_the_package_s_own_loop_paints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: Batch
) -> None:
    """Both models in turn, as in the package's example, on the same noise."""
    steps = {False: "4", True: "3"}
    made = {up: save_released(tmp_path / f"{up}.pt", up, steps[up]) for up in steps}
    stages = [
        load_stage(tmp_path / f"{up}.pt", "key", up, steps[up], "cpu", False, TINY) for up in steps
    ]
    batch = large.only(0)
    ours = GLIDE(*stages, device=CPU)(*batch.args())

    image = 2 * batch.images - 1
    keep = (~batch.masks[:, None, ::4, ::4]).float()
    tokenizer = made[False][0].tokenizer
    encoded = [tokenizer.encode(batch.prompts[0]), []]
    padded = [tokenizer.padded_tokens_and_mask(text, 128) for text in encoded]
    tokens = torch.tensor([row for row, _ in padded])
    mask = torch.tensor([mask for _, mask in padded])
    draw = noise_of(batch.seeds)

    def package_loop(up: bool, model: Any, known: Tensor, keep: Tensor, **given: Tensor) -> Tensor:
        """Its `p_sample_loop`, which asks for noise at the last step too and drops it."""
        rows = 1 if up else 2
        shape = (rows, *known.shape[1:])
        start = draw(shape[1:]) * (0.997 if up else 1.0)
        noise = [draw(shape[1:]) for _ in range(int(steps[up]) - 1)]
        left = iter([*noise, torch.full_like(start, 1e3)])
        monkeypatch.setattr(torch, "randn_like", lambda x: next(left).expand_as(x))
        keep = keep.expand(rows, -1, -1, -1)
        return made[up][1].p_sample_loop(
            model,
            shape,
            noise=start.expand(shape),
            device=CPU,
            clip_denoised=True,
            model_kwargs={"inpaint_image": known * keep, "inpaint_mask": keep, **given},
            denoised_fn=lambda x0: torch.where(keep.bool(), known.expand_as(x0), x0),
        )[:1]

    def pair(x: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        """The example keeps both branches in the batch, each with the guided eps."""
        cond, uncond = made[False][0](x[:1].expand_as(x), t, **given)
        eps = uncond[:3] + 5.0 * (cond[:3] - uncond[:3])
        return torch.stack([torch.cat([eps, rest[3:]]) for rest in (cond, uncond)])

    small = nn.functional.interpolate(image, size=(64, 64), mode="bicubic", antialias=True)
    small = package_loop(False, pair, small.clamp(-1, 1), keep, tokens=tokens, mask=mask)
    theirs = package_loop(
        True,
        made[True][0],
        image,
        keep.repeat_interleave(4, 2).repeat_interleave(4, 3),
        tokens=tokens[:1],
        mask=mask[:1],
        low_res=((small + 1) * 127.5).round() / 127.5 - 1,
    )
    torch.testing.assert_close(ours, theirs / 2 + 0.5, rtol=0, atol=1e-4)
