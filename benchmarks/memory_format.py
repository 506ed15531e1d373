"""How fast is a step, and the VAE's decoder, in channels_last against the contiguous format?

    python -m benchmarks.memory_format --device cuda --dtype float16 --batch 8
    python -m benchmarks.memory_format --device cpu --size 512 --repeats 3

One plain step of the SD-1.5 inpainting UNet (both branches) with random weights. The two formats
take turns, so that both see the same machine; the first turn warms up. Medians with the extremes.
"""

from __future__ import annotations

import argparse
import os
import statistics

import torch

from benchmarks import sd15
from benchmarks.compile import told
from benchmarks.speed import timed
from benchmarks.steps import Size, Step
from profi.inpainters.backbone import DTYPES
from profi.inpainters.readings import RELEASED

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    device = torch.device(args.device)
    backbone = sd15.backbone(args.device, DTYPES[args.dtype], channels_last=False)
    size = Size(args.size, args.batch)
    step = Step("base", RELEASED, backbone, size)
    latents = torch.zeros(args.batch, 4, size.side, size.side, device=device)
    calls = {"step": step, "decoder": lambda: backbone.decode(latents)}
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(
        f"{name}, {torch.get_num_threads()} threads of {os.cpu_count()}, torch "
        f"{torch.__version__}\n{args.size}x{args.size}, batch {args.batch}, UNet {args.dtype}, "
        f"VAE float32, {args.repeats} repeats",
        flush=True,
    )
    seconds: dict[tuple[str, str], list[float]] = {}
    for i in range(args.repeats + 1):
        for form, layout in FORMATS.items():
            for model in (backbone.unet, backbone.vae):
                model.to(memory_format=layout)
            for what, call in calls.items():
                taken = timed(call, device)
                if i > 0:
                    seconds.setdefault((what, form), []).append(taken)
    for what in calls:
        plain, last = (seconds[what, form] for form in FORMATS)
        print(
            f"  {what:8s} contiguous {told(plain)}   channels_last {told(last)}   "
            f"{statistics.median(last) / statistics.median(plain):.3f} x contiguous"
        )


if __name__ == "__main__":
    main()
