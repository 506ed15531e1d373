"""How fast is each ablation, against diffusers' own pipeline and against the naive reading?

    python -m benchmarks.speed --device cuda --dtype float16 --batch 8
    python -m benchmarks.speed --device cpu --size 256 --steps 4 --repeats 3

Whole calls (text, VAE, all steps) on the SD-1.5 inpainting architecture with random weights. Every
row is warmed up once and the rows take turns, so that all see the same machine; medians with the
extremes, and ratios of medians. Peers: `diffusers` is its StableDiffusionInpaintPipeline with
DDIM on the same parts, batch and start noise; `naive profi` materialises attention and
differentiates the pair of branches through the whole graph.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline
from torch import Tensor

from benchmarks.architectures import SCHEDULER, SD15, make_backbone
from benchmarks.naive import Naive
from benchmarks.steps import NAIVE, ROWS, SHARE
from benchmarks.timing import header, in_turns, median_text, parser
from profi.inpainter import start_noise
from profi.method.inpainting import StableInpainting
from profi.method.methods import compose
from profi.models.backbone import DTYPES, Backbone
from profi.settings.method import READINGS, Sampling

PEER = "diffusers"
MORE = (*(row for row in ROWS if row != "base"), NAIVE)


class Inputs:
    """A batch of noise images with `share` of each masked."""

    def __init__(self, size: int, batch: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(batch, 3, size, size, generator=generator)
        self.masks = torch.zeros(batch, size, size, dtype=torch.bool)
        self.masks[:, : round(SHARE * size)] = True
        self.prompts = ["a cat"] * batch
        self.seeds = list(range(batch))

    def args(self) -> tuple[Tensor, Tensor, list[str], list[int]]:
        """As an inpainter takes them."""
        return self.images, self.masks, self.prompts, self.seeds


def peer(backbone: Backbone, inputs: Inputs, steps: int) -> Callable[[], object]:
    """A call of diffusers' pipeline on the same parts, from the same noise."""
    tower = backbone.text.first
    pipe = StableDiffusionInpaintPipeline(
        vae=backbone.vae,
        text_encoder=tower.encoder,
        tokenizer=tower.tokenizer,
        unet=backbone.unet,
        scheduler=DDIMScheduler.from_config(SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    device, dtype = backbone.device, backbone.unet.dtype
    B, _, H, W = inputs.images.shape
    shape = (4, H // backbone.latent_factor, W // backbone.latent_factor)

    def call() -> object:
        # Its parts must share a dtype: the text is encoded and the latents decoded outside of it,
        # in float32 as profi does, and counted in.
        text = backbone.text(inputs.prompts, (H, W)).context.to(dtype)
        empty = backbone.text([""] * B, (H, W)).context.to(dtype)
        masked = (2 * inputs.images.to(device) - 1) * ~inputs.masks[:, None].to(device)
        latents = pipe(
            prompt_embeds=text,
            negative_prompt_embeds=empty,
            image=torch.zeros(B, 4, *shape[1:], device=device, dtype=dtype),
            mask_image=inputs.masks[:, None].float(),
            masked_image_latents=backbone.encode_images(masked).to(dtype),
            height=H,
            width=W,
            latents=start_noise(inputs.seeds, shape).to(device, dtype),
            num_inference_steps=steps,
            guidance_scale=7.5,
            strength=1.0,
            output_type="latent",
        ).images
        return backbone.decode(latents.float())

    return call


def calls(args: argparse.Namespace, backbone: Backbone) -> dict[str, Callable[[], object]]:
    """What is timed, by the row's name."""
    inputs, reading = Inputs(args.size, args.batch), READINGS[args.reading]
    sampling = Sampling(num_inference_steps=args.steps)
    rows: dict[str, Callable[[], object]] = {PEER: peer(backbone, inputs, args.steps)}
    for row in ("base", *args.rows):
        if row == NAIVE:
            paint: Callable[..., object] = Naive(backbone, reading, num_inference_steps=args.steps)
        else:
            paint = StableInpainting(backbone, compose(row, reading), sampling)
        rows[row] = partial(paint, *inputs.args())
    return rows


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=50)
    options.add_argument("--reading", choices=tuple(READINGS), default="released")
    options.add_argument("--contiguous", action="store_true", help="not channels_last")
    options.add_argument("--rows", nargs="+", choices=MORE, default=MORE, help="rows next to base")
    args = options.parse_args()
    backbone = make_backbone(SD15, args.device, DTYPES[args.dtype], not args.contiguous)
    print(
        header(args, f"{args.steps} steps", f"reading={args.reading}", f"{SHARE:.0%} masked"),
        flush=True,
    )
    rows = calls(args, backbone)
    seconds = in_turns(rows, backbone, args.repeats)
    medians = {row: statistics.median(times) for row, times in seconds.items()}
    for row, times in seconds.items():
        print(
            f"  {row:12s} {median_text(times)}   "
            f"{args.batch / medians[row]:7.3f} images/s   {medians[row] / medians['base']:.3f} x "
            f"base   {medians[row] / medians[PEER]:.3f} x {PEER}"
        )


if __name__ == "__main__":
    main()
