"""How many floating-point operations does one step cost, against a plain one?

    python -m benchmarks.flops [--size 512] [--reading paper] [--share 0.25]

Counted by PyTorch on the meta device (nothing is computed), of the SD-1.5 inpainting architecture:
a step of each ablation, and of the naive implementation, over the plain step of classifier-free
guidance. The gradient of the objective is counted in. `share` of the image is masked: PAIntA's cost
grows with it.
"""

from __future__ import annotations

import argparse

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import sd15
from benchmarks.naive import Naive, NaiveStep
from profi.attention.capture import ByKind, CrossAttentionCapture
from profi.attention.control import AttentionControl, Plain, controlled
from profi.attention.painta import PAIntA
from profi.attention.sites import attention_sites
from profi.guidance.attention_objective import AttentionObjective
from profi.inpainters.ablations import compose
from profi.inpainters.denoiser import InpaintingDenoiser
from profi.inpainters.readings import READINGS, Reading
from profi.inpainters.text import Conditioning

ROWS = ("base", "painta_only", "rasg_only", "profi")
SHARE = 0.25
T = 999  # an early step: PAIntA is active


def step_flops(
    ablation: str, reading: Reading, size: int = 512, batch: int = 1, share: float = SHARE
) -> int:
    """FLOPs of one early step of an ablation, [batch, 3, size, size], as profi runs it."""
    backbone = sd15.backbone("meta", torch.float32, channels_last=False)
    method = compose(ablation, reading)
    side = size // sd15.LATENT_FACTOR
    levels = {f: _top(batch, side // f, share) for f in (2, 4)}
    tokens = _meta(batch, sd15.TEXT_TOKENS) > 0
    on_self: AttentionControl = Plain()
    if method.painta is not None:
        on_self = PAIntA(method.painta, levels, tokens)
    capture = objective = None
    on_cross: AttentionControl = Plain()
    if method.objective is not None:
        sites = attention_sites(backbone.unet)
        on_cross = capture = CrossAttentionCapture(sites, method.objective.down_factor)
        mask = levels[method.objective.down_factor].flatten(1).to("meta")
        objective = AttentionObjective(method.objective, mask, tokens)
    denoise = InpaintingDenoiser(
        backbone=backbone,
        condition=_meta(batch, 5, side, side),
        conditional=Conditioning(_meta(batch, sd15.TEXT_TOKENS, sd15.TEXT_WIDTH)),
        unconditional=Conditioning(_meta(batch, sd15.TEXT_TOKENS, sd15.TEXT_WIDTH)),
        guidance_scale=7.5,
        guided=(objective is not None,),
        capture=capture,
    )
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), controlled(backbone.unet, ByKind(on_self, on_cross)):
        denoised = denoise(_meta(batch, 4, side, side), T, 0)
        if objective is not None and denoised.clue is not None:
            objective.gradient(denoised.clue)
    return int(counter.get_total_flops())


def naive_flops(reading: Reading, size: int = 512, batch: int = 1) -> int:
    """FLOPs of the same step of the full method by the naive implementation."""
    backbone = sd15.backbone("meta", torch.float32, channels_last=False)
    side = size // sd15.LATENT_FACTOR
    step = NaiveStep(
        Naive(backbone, reading),
        {f: _meta(batch, side // f, side // f) > 0 for f in (2, 4)},
        _meta(batch, sd15.TEXT_TOKENS) > 0,
        _meta(batch, 5, side, side),
        Conditioning(_meta(2 * batch, sd15.TEXT_TOKENS, sd15.TEXT_WIDTH)),
    )
    counter = FlopCounterMode(display=False)
    with counter:
        step(_meta(batch, 4, side, side), T, painta_is_active=True)
    return int(counter.get_total_flops())


def _top(batch: int, side: int, share: float) -> torch.Tensor:
    """A mask of the level's upper part, with values: how many rows there are is read from it."""
    mask = torch.zeros(batch, side, side, dtype=torch.bool)
    mask[:, : round(share * side)] = True
    return mask


def _meta(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, device="meta")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--share", type=float, default=SHARE)
    parser.add_argument("--reading", choices=tuple(READINGS), default="released")
    args = parser.parse_args()
    reading = READINGS[args.reading]
    plain = step_flops("base", reading, args.size, share=args.share)
    print(
        f"one step, SD-1.5 inpainting, {args.size}x{args.size}, "
        f"reading={args.reading}, {args.share:.0%} masked"
    )
    for row in ROWS:
        flops = step_flops(row, reading, args.size, share=args.share)
        print(f"  {row:12s} {flops / 1e12:7.3f} TFLOP   {flops / plain:.3f} x plain")
    flops = naive_flops(reading, args.size)
    print(f"  {'naive profi':12s} {flops / 1e12:7.3f} TFLOP   {flops / plain:.3f} x plain")


if __name__ == "__main__":
    main()
