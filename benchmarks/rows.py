"""What does a picture take in each row of Table 1? Operations and memory, counted.

    python -m benchmarks.rows [--batch 1 8] [--dtype float16] [--rows bld smartbrush ...]

A picture is its texts, the VAE's encodings, as many runs of the UNet on both branches as the row
does, and the decoding, of the released architectures. FLOPs are counted on the meta device and the
peak memory on fake tensors (`benchmarks.memory` tells what that leaves out): the most that one of
these parts takes, next to the weights of all. The VAE is in float16 with a float16 UNet, but
SDXL's in float32. GLIDE, whose networks are in a package of its own, is not among the rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from diffusers import ControlNetModel
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.architectures import (
    SD2,
    SD15,
    SDXL,
    Architecture,
    T,
    make_backbone,
    make_controlnet,
    some_text,
)
from benchmarks.memory import peak_bytes, readable
from benchmarks.steps import Size, Step
from profi.baselines.smartbrush import SMARTBRUSH
from profi.models.backbone import DTYPES, Backbone, auto_vae_dtype
from profi.models.unet_role import INPAINTING, TEXT_TO_IMAGE, UNetRole
from profi.settings.method import RELEASED

SMARTBRUSH_UNET = {"in_channels": 9, "out_channels": 5, "num_class_embeds": 5}
Call = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """A row's architecture and its work per picture in 50 steps.

    Fields:
        pairs: how often the UNet runs on both branches without a gradient.
        encodings: how often the VAE encodes.
        role, unet: what the UNet is for, and how it differs from the inpainting one.
        guided: further steps by their ablation (`Step`): RASG's gradient is in all but the last
            step, whose sigma is 0, PAIntA in the first half.
    """

    of: Architecture
    pairs: int
    encodings: int
    role: UNetRole = INPAINTING
    unet: Mapping[str, Any] = field(default_factory=dict)
    has_controlnet: bool = False
    guided: Mapping[str, int] = field(default_factory=dict)


PROFI = {"profi": 25, "rasg_only": 24}
ROWS = {
    "bld": Row(SD2, 38, 1, TEXT_TO_IMAGE, {"in_channels": 4}),
    "sdxl_inpainting": Row(SDXL, 49, 2),
    "controlnet": Row(SD15, 50, 2, TEXT_TO_IMAGE, {"in_channels": 4}, has_controlnet=True),
    "smartbrush": Row(SD15, 50, 2, SMARTBRUSH, SMARTBRUSH_UNET),
    # dreamshaper8 is as sd15
    "sd15": Row(SD15, 50, 1),
    "sd15 profi": Row(SD15, 1, 1, guided=PROFI),
    "sd2": Row(SD2, 50, 1),
    "sd2 profi": Row(SD2, 1, 1, guided=PROFI),
    # not in the paper
    "sdxl": Row(SDXL, 50, 1),
    "sdxl profi": Row(SDXL, 1, 1, guided=PROFI),
}


@dataclass(frozen=True)
class Models:
    """What a row runs, with weights or without."""

    backbone: Backbone
    controlnet: ControlNetModel | None = None

    @staticmethod
    def make(row: Row, device: str, dtype: torch.dtype, vae_dtype: torch.dtype) -> Models:
        """The released architectures."""
        backbone = make_backbone(row.of, device, dtype, False, vae_dtype, row.role, **row.unet)
        return Models(
            backbone, make_controlnet(row.of, device, dtype) if row.has_controlnet else None
        )

    @property
    def weights(self) -> int:
        """Bytes of all."""
        b = self.backbone
        modules = [b.unet, b.vae, *(tower.encoder for tower in b.text.towers)]
        modules += [self.controlnet] if self.controlnet is not None else []
        return sum(p.nbytes for module in modules for p in module.parameters())

    def parts(self, row: Row, pixels: int, batch: int) -> dict[str, tuple[int, Call]]:
        """How often a batch of pictures takes each of its parts, and a call of that part.

        To be called outside of a fake mode (see `Step`).
        """
        parts: dict[str, tuple[int, Call]] = {
            "texts": (1, lambda: self._texts(batch)),
            "encoding": (row.encodings, lambda: self._encoding(batch, pixels)),
            "pair": (row.pairs, lambda: self._pair(batch, pixels)),
            "decoding": (1, lambda: self._decoding(batch, pixels)),
        }
        for ablation, steps in row.guided.items():
            step = Step(ablation, RELEASED, self.backbone, Size(pixels, batch))
            parts[f"{ablation} step"] = (steps, step)
        return parts

    def _zeros(self, batch: int, channels: int, pixels: int, factor: int) -> Tensor:
        side = pixels // factor
        return torch.zeros(batch, channels, side, side, device=self.backbone.device)

    @torch.no_grad()
    def _texts(self, batch: int) -> None:
        text = self.backbone.text
        for rows in (batch, 1):  # the unconditional text is one for all
            ids = torch.zeros(rows, text.token_limit, dtype=torch.long, device=self.backbone.device)
            for tower in text.towers:
                tower.encoder(ids, output_hidden_states=text.second is not None)

    @torch.no_grad()
    def _encoding(self, batch: int, pixels: int) -> None:
        vae = self.backbone.vae
        vae.encode(self._zeros(batch, 3, pixels, 1).to(vae.dtype))

    @torch.no_grad()
    def _pair(self, batch: int, pixels: int) -> None:
        unet = self.backbone.unet
        x = self._zeros(
            2 * batch, int(unet.config.in_channels), pixels, self.backbone.latent_factor
        )
        x = x.to(unet.dtype)
        text = some_text(self.backbone, 2 * batch, pixels)
        more: dict[str, Any] = {}
        if unet.config.num_class_embeds:
            more["class_labels"] = torch.zeros(2 * batch, dtype=torch.long, device=x.device)
        if self.controlnet is not None:
            picture = self._zeros(2 * batch, 3, pixels, 1).to(unet.dtype)
            down, mid = self.controlnet(x, T, text.context, picture, return_dict=False)
            more["down_block_additional_residuals"] = down
            more["mid_block_additional_residual"] = mid
        unet(x, T, **text.kwargs(), **more)

    @torch.no_grad()
    def _decoding(self, batch: int, pixels: int) -> None:
        latents = self._zeros(batch, 4, pixels, self.backbone.latent_factor)
        self.backbone.decode(latents)


def picture_flops(row: Row, models: Models, pixels: int) -> int:
    """FLOPs of one picture by itself."""
    total = 0
    for times, call in models.parts(row, pixels, 1).values():
        with FlopCounterMode(display=False) as counter:
            call()
        total += times * int(counter.get_total_flops())
    return total


def picture_bytes(row: Row, batch: int, dtype: torch.dtype) -> tuple[int, int]:
    """(peak of what a batch allocates, weights) in bytes, with the VAE's dtype of a GPU."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake:
        models = Models.make(row, "cpu", dtype, usual_vae_dtype(row, "cuda", dtype))
    models = replace(models, backbone=readable(models.backbone))
    calls = [call for _, call in models.parts(row, row.of.pixels, batch).values()]
    return max(peak_bytes(fake, call) for call in calls), models.weights


def usual_vae_dtype(row: Row, device: str, dtype: torch.dtype) -> torch.dtype:
    """The VAE's dtype where none is asked for."""
    is_xl = len(row.of.towers) > 1
    return auto_vae_dtype(torch.device(device), dtype, is_xl, force_upcast=True)


def main() -> None:
    """Count and print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    options.add_argument("--dtype", choices=tuple(DTYPES), default="float16", help="of the UNet")
    options.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=tuple(ROWS))
    args = options.parse_args()
    print(f"memory in {args.dtype}, batches of {' and '.join(map(str, args.batch))}")
    for name in args.rows:
        row = ROWS[name]
        bare = Models.make(row, "meta", torch.float32, torch.float32)
        flops = picture_flops(row, bare, row.of.pixels)
        memory = []
        for batch in args.batch:
            peak, weights = picture_bytes(row, batch, DTYPES[args.dtype])
            memory.append(f"{(peak + weights) / 2**30:6.2f}")
        print(
            f"  {name:16s} {flops / 1e12:7.1f} TFLOP   {' '.join(memory)} GiB "
            f"({weights / 2**30:.2f} of weights)",
            flush=True,
        )


if __name__ == "__main__":
    main()
