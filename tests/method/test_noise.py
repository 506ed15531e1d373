"""The start noise by its two rules, in every row whose loop is ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from profi.baselines.blended_latent_diffusion import BlendedLatentDiffusion
from profi.inpainter import noise_of, start_noise
from profi.method.inpainting import StableInpainting
from profi.method.methods import compose
from profi.models.backbone import Backbone
from profi.models.unet_role import TEXT_TO_IMAGE
from profi.settings.evaluation import Noise
from profi.settings.method import RELEASED, Sampling

STEPS = Sampling(num_inference_steps=3)


def test_the_run_s_noise_is_drawn_in_float32_and_rounded_to_half() -> None:
    draw = noise_of([5, 5, 7], "run")
    first, second = draw((4, 6, 8)), draw((4, 6, 8))
    for i, seed in enumerate((5, 5, 7)):
        generator = torch.Generator(device="cpu").manual_seed(seed)
        # A batch of one, as the released code draws it.
        one, two = (torch.randn((1, 4, 6, 8), generator=generator)[0] for _ in range(2))
        assert torch.equal(first[i], one.to(torch.float16).to(torch.float32))
        assert torch.equal(second[i], two.to(torch.float16).to(torch.float32))
    assert first.dtype == torch.float32
    assert torch.equal(first[0], first[1])
    assert torch.equal(start_noise([7], (4, 6, 8), "run")[0], first[2])
    own = start_noise([5], (4, 6, 8))[0]
    assert 0.0 < float((own - first[0]).abs().max()) < 2e-3


@pytest.mark.parametrize("row", ["stable_inpainting", "blended_latent_diffusion"])
def test_every_row_draws_by_its_rule(
    row: str, new_backbone: Callable[..., Backbone], batch: Any
) -> None:
    def painted(noise: Noise, some: Any = batch) -> torch.Tensor:
        if row == "stable_inpainting":
            model = StableInpainting(new_backbone(), compose("profi", RELEASED), STEPS, noise)
        else:
            backbone = new_backbone(0, role=TEXT_TO_IMAGE)
            model = BlendedLatentDiffusion(backbone, STEPS, noise=noise)
        return model(*some.args())

    own, run = painted("picture"), painted("run")
    # The rounding of the noise and no more.
    assert not torch.equal(own, run)
    torch.testing.assert_close(own, run, rtol=0, atol=0.05)
    # One seed for all: each is what it is alone, whatever the batch.
    shared = replace(batch, seeds=[9] * 4)
    together = painted("run", shared)
    alone = [painted("run", shared.only(i)) for i in range(4)]
    torch.testing.assert_close(torch.cat(alone), together, rtol=0, atol=1e-4)
