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

from benchmarks.architectures import SD15, make_backbone
from benchmarks.steps import NAIVE, ROWS, SHARE, Size, Step
from profi.settings.method import READINGS, Reading


def step_flops(row: str, reading: Reading, size: Size) -> int:
    """FLOPs of one early step, with PAIntA active."""
    backbone = make_backbone(SD15, "meta", torch.float32, channels_last=False)
    step = Step(row, reading, backbone, size)
    counter = FlopCounterMode(display=False)
    with counter:
        step()
    return int(counter.get_total_flops())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--share", type=float, default=SHARE)
    parser.add_argument("--reading", choices=tuple(READINGS), default="released")
    args = parser.parse_args()
    size = Size(args.size, 1, args.share)
    print(
        f"one step, SD-1.5 inpainting, {args.size}x{args.size}, reading={args.reading}, "
        f"{args.share:.0%} masked"
    )
    flops = {row: step_flops(row, READINGS[args.reading], size) for row in (*ROWS, NAIVE)}
    for row, count in flops.items():
        print(f"  {row:12s} {count / 1e12:7.3f} TFLOP   {count / flops['base']:.3f} x plain")


if __name__ == "__main__":
    main()
