"""The method as it is wired: a RASG step of a whole run turns attention into the mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from profi.method.attention import Branch, UNetPass, controlled
from profi.method.attention_objective import CrossAttentionCapture, mean_attention
from profi.method.inpainting import StableInpainting
from profi.method.methods import compose
from profi.method.sites import attention_sites
from profi.models.backbone import Backbone
from profi.settings.method import PAPER, Sampling

PROMPTS = ["cat", "red bus"]
SECOND_T = 949  # of 20 trailing timesteps: 999, 949, ...


def unet_input(paint: StableInpainting, images: Tensor, masks: Tensor, t: int) -> Tensor:
    """What the UNet is given at timestep t, [B, 9, h, w], whether by branch or as a pair."""
    seen: dict[int, Tensor] = {}
    unet = paint.backbone.unet
    B = len(images)
    hook = unet.register_forward_pre_hook(
        lambda module, args: seen.update({args[1]: args[0][:B].detach()})
    )
    try:
        paint(images, masks, PROMPTS, [3, 4])
    finally:
        hook.remove()
    return seen[t]


def contrast(backbone: Backbone, inputs: Tensor, t: int, inside: Tensor) -> Tensor:
    """Attention to the prompt's words inside the mask minus that outside, per sample."""
    words = backbone.text.words(PROMPTS)
    capture = CrossAttentionCapture(attention_sites(backbone.unet), 4)
    with torch.no_grad(), controlled(backbone.unet, capture):
        backbone.unet(
            inputs,
            t,
            **backbone.condition(PROMPTS, (48, 64)).kwargs(),
            cross_attention_kwargs=UNetPass(Branch.CONDITIONAL, t, 0, 2).kwargs(),
        )
    A = (mean_attention(capture.take()) * words[:, None]).sum(-1)
    return torch.stack([a[m].mean() - a[~m].mean() for a, m in zip(A, inside, strict=True)])


@pytest.mark.parametrize("ablation", ["rasg_only", "profi"])
@pytest.mark.parametrize("seed", range(3))
def test_a_run_turns_attention_into_the_mask(
    new_backbone: Callable[..., Backbone], ablation: str, seed: int
) -> None:
    backbone = new_backbone(seed)
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 3, 48, 64, generator=generator)
    masks = torch.zeros(2, 48, 64, dtype=torch.bool)
    masks[0, :16, 16:64] = True
    masks[1, 16:48, :32] = True
    # The level's 3 x 4 cells by hand, row by row: a transposed or inverted mask would differ.
    inside = torch.tensor([[0, 1, 1, 1] + [0] * 8, [0] * 4 + [1, 1, 0, 0] * 2], dtype=torch.bool)
    sampling = Sampling(num_inference_steps=20)
    after = {}
    for eta in (0.0, 0.05):
        method = compose(ablation, replace(PAPER, eta=eta))
        paint = StableInpainting(backbone, method, sampling)
        inputs = unet_input(paint, images, masks, SECOND_T)
        after[eta] = contrast(backbone, inputs, SECOND_T, inside)
    assert bool((after[0.05] > after[0.0]).all())
