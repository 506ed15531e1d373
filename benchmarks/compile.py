"""What does compiling the UNet's blocks cost, what does it bring, and after how many images?

    python -m benchmarks.compile --device cuda --dtype float16 --batch 8
    python -m benchmarks.compile --device cpu --size 256 --repeats 5

SD-1.5 inpainting architecture, random weights. A step is one early step of the ablation (the
UNet's passes, and the gradient where there is one). The first compiled step, less an eager one, is
what compiling costs; the later ones take turns with eager steps, so that both see the same machine:
medians with the extremes. The break-even is the cost over what `--steps` steps save per image, by
the median of the pairs' savings; none is given where the middle half of them is not all positive.
VAE and text encoder are never compiled. An empty TORCHINDUCTOR_CACHE_DIR gives the cost of a
machine's first time; TorchInductor's files of an earlier run make it smaller.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path

import torch

from benchmarks import sd15
from benchmarks.speed import timed
from benchmarks.steps import ROWS, Size, Step
from profi.inpainters.backbone import DTYPES
from profi.inpainters.compiled import CompiledBlocks
from profi.inpainters.readings import READINGS


def told(seconds: list[float]) -> str:
    """Median and extremes."""
    return f"{statistics.median(seconds):.2f} s [{min(seconds):.2f}, {max(seconds):.2f}]"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=50, help="per image")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--reading", choices=tuple(READINGS), default="released")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=["base", "profi"])
    parser.add_argument("--contiguous", action="store_true", help="not channels_last")
    args = parser.parse_args()
    device = torch.device(args.device)
    backbone = sd15.backbone(args.device, DTYPES[args.dtype], not args.contiguous)
    blocks = CompiledBlocks(backbone.unet)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    cache = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", ""))
    cold = "TORCHINDUCTOR_CACHE_DIR" in os.environ and not any(cache.glob("*"))
    print(
        f"{name}, {torch.get_num_threads()} threads of {os.cpu_count()}, torch "
        f"{torch.__version__}\n{args.size}x{args.size}, batch {args.batch}, {args.dtype}, "
        f"{'contiguous' if args.contiguous else 'channels_last'}, reading={args.reading}, "
        f"{args.repeats} repeats, TorchInductor's cache {'empty' if cold else 'as it was'}",
        flush=True,
    )
    for row in args.rows:
        step = Step(row, READINGS[args.reading], backbone, Size(args.size, args.batch))
        timed(step, device)
        before = len(blocks)
        with blocks:
            first = timed(step, device)
        eager: list[float] = []
        compiled: list[float] = []
        for _ in range(args.repeats):
            eager.append(timed(step, device))
            with blocks:
                compiled.append(timed(step, device))
        usual = statistics.median(eager)
        low, saved, _ = statistics.quantiles(
            [e - c for e, c in zip(eager, compiled, strict=True)], n=4
        )
        images = (first - usual) / (args.steps * saved / args.batch) if saved else 0.0
        print(
            f"  {row:12s} eager {told(eager)}   compiled {told(compiled)}   "
            f"{statistics.median(compiled) / usual:.3f} x eager   first step {first:.1f} s for "
            f"{len(blocks) - before} compilations   saved a step {saved:.2f} s   "
            + (f"break-even {images:.0f} images" if low > 0 else "no gain beyond the noise"),
            flush=True,
        )


if __name__ == "__main__":
    main()
