"""How fast is a step, and the VAE's decoder, in channels_last against the contiguous format?

    python -m benchmarks.memory_format --device cuda --dtype float16 --batch 8
    python -m benchmarks.memory_format --device cpu --size 512 --repeats 3

One plain step of the SD-1.5 inpainting UNet (both branches) with random weights. The two formats
take turns, so that both see the same machine; the first turn warms up. Medians with the extremes.
"""

from __future__ import annotations

import statistics

import torch

from benchmarks.architectures import SD15, make_backbone
from benchmarks.steps import Size, Step
from benchmarks.timing import header, parser, timed, told
from profi.models.backbone import DTYPES
from profi.settings.reading import RELEASED

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def main() -> None:
    """Measure and print."""
    args = parser(__doc__).parse_args()
    backbone = make_backbone(SD15, args.device, DTYPES[args.dtype], channels_last=False)
    size = Size(args.size, args.batch)
    step = Step("base", RELEASED, backbone, size)
    latents = torch.zeros(args.batch, 4, size.side, size.side, device=backbone.device)
    calls = {"step": step, "decoder": lambda: backbone.decode(latents)}
    vae_dtype = str(backbone.vae.dtype).removeprefix("torch.")
    print(header(args, f"VAE {vae_dtype}"), flush=True)
    seconds: dict[tuple[str, str], list[float]] = {}
    for i in range(args.repeats + 1):
        for form, layout in FORMATS.items():
            for model in (backbone.unet, backbone.vae):
                model.to(memory_format=layout)
            for what, call in calls.items():
                taken = timed(call, backbone.device)
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
