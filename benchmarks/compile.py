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

import os
import statistics
from pathlib import Path

from benchmarks.architectures import SD15, make_backbone
from benchmarks.steps import ROWS, Size, Step
from benchmarks.timing import header, parser, timed, told
from profi.models.backbone import DTYPES
from profi.models.compiled import CompiledBlocks
from profi.settings.reading import READINGS


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=50, help="per image")
    options.add_argument("--reading", choices=tuple(READINGS), default="released")
    options.add_argument("--rows", nargs="+", choices=ROWS, default=["base", "profi"])
    options.add_argument("--contiguous", action="store_true", help="not channels_last")
    args = options.parse_args()
    backbone = make_backbone(SD15, args.device, DTYPES[args.dtype], not args.contiguous)
    device = backbone.device
    blocks = CompiledBlocks(backbone.unet)
    cache = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", ""))
    cold = "TORCHINDUCTOR_CACHE_DIR" in os.environ and not any(cache.glob("*"))
    layout = "contiguous" if args.contiguous else "channels_last"
    inductor = f"TorchInductor's cache {'empty' if cold else 'as it was'}"
    print(header(args, layout, f"reading={args.reading}", inductor), flush=True)
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
