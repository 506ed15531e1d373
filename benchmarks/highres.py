"""How much memory does high resolution take (appendix E), in tiles and at once?

    python -m benchmarks.highres [--dtype float16]

Counted as in `benchmarks.memory`, on fake tensors: one guided step of the upscaler's UNet with
eq. 16, encoding the given picture and decoding the result, weights of all parts included (the text
encoder's in float32). The architecture is that of Stable Diffusion's x4 upscaler.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.architectures import Architecture, Tower, _made_in, make_text
from benchmarks.memory import RealSchedule, peak_bytes
from profi.highres.guided import GuidedDenoiser, decoded, encoded
from profi.highres.upscaler import Upscaler, vae_dtype
from profi.models.backbone import DTYPES
from profi.models.schedule import Schedule
from profi.settings.highres import FACTOR, HIGHRES, HighRes

SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "prediction_type": "v_prediction",
}
TEXT = Architecture(512, (Tower(1024, 23, 16),))
OURS = HIGHRES["ours"]
AT_ONCE = replace(OURS, tile=None, vae_tile=None)


def x4_upscaler(dtype: torch.dtype, schedule: Schedule) -> Upscaler:
    """The x4 upscaler's architecture (its published configs), without published weights."""
    with _made_in("cpu", dtype):
        unet = UNet2DConditionModel(
            sample_size=128,
            in_channels=7,
            out_channels=4,
            block_out_channels=(256, 512, 512, 1024),
            down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * 3),
            up_block_types=(*("CrossAttnUpBlock2D",) * 3, "UpBlock2D"),
            only_cross_attention=(True, True, True, False),
            num_class_embeds=1000,
            cross_attention_dim=1024,
            attention_head_dim=8,
            use_linear_projection=True,
        )
    vae = x4_vae(dtype)
    chosen = vae_dtype(vae, dtype, torch.device("cuda"))
    vae = vae if chosen == dtype else x4_vae(chosen)
    return Upscaler(unet, vae, make_text(TEXT, "cpu"), schedule, schedule)


def x4_vae(dtype: torch.dtype) -> AutoencoderKL:
    """Its VAE; the published config does not have `force_upcast`."""
    with _made_in("cpu", dtype):
        return AutoencoderKL(
            block_out_channels=(128, 256, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            latent_channels=4,
            scaling_factor=0.08333,
            sample_size=256,
        )


@dataclass(frozen=True)
class Peaks:
    """Bytes: the weights, and what each part allocates on top of them."""

    weights: int
    step: int
    encoding: int
    decoding: int

    @property
    def total(self) -> int:
        """The most at once."""
        return self.weights + max(self.step, self.encoding, self.decoding)


def peaks(side: int, settings: HighRes, dtype: torch.dtype) -> Peaks:
    """Of a square picture of `side` pixels, worked at its own size."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    h = side // FACTOR
    schedule = RealSchedule.from_config(SCHEDULER)
    with fake:
        upscaler = x4_upscaler(dtype, schedule)
    models = (upscaler.unet, upscaler.vae, upscaler.text.first.encoder)
    weights = sum(p.nbytes for model in models for p in model.parameters())

    def step() -> None:
        latents = torch.zeros(1, 4, h, h)
        denoise = GuidedDenoiser(
            upscaler,
            torch.zeros(1, 3, h, h),
            20,
            torch.zeros(2, 77, 1024, dtype=dtype),
            torch.zeros(1, 4, h, h),
            torch.zeros(h, h),
            7.5,
            settings.tile,
            settings.overlap,
        )
        with torch.no_grad():
            denoise(latents, 499, 0)

    def encode() -> None:
        encoded(upscaler, torch.zeros(3, side, side), settings.vae_tile, settings.overlap)

    def decode() -> None:
        decoded(upscaler, torch.zeros(1, 4, h, h), settings.vae_tile, settings.overlap)

    return Peaks(weights, *(peak_bytes(fake, call) for call in (step, encode, decode)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float16")
    args = parser.parse_args()
    print(f"the x4 upscaler, {args.dtype}; GiB of weights + step / encoding / decoding, the most")
    for name, settings in (("tiles", OURS), ("at once", AT_ONCE)):
        for side in (1024, 2048, 4096):
            found = peaks(side, settings, DTYPES[args.dtype])
            parts = (found.weights, found.step, found.encoding, found.decoding, found.total)
            shown = "  ".join(f"{part / 2**30:7.2f}" for part in parts)
            print(f"  {name:8s} {side:5d}  {shown}", flush=True)


if __name__ == "__main__":
    main()
