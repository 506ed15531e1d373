"""One early step of an ablation, ready to be counted or measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.architectures import LATENT_FACTOR, T, some_text
from benchmarks.naive import Naive, NaiveStep
from benchmarks.one_pass import OnePassDenoiser, PairCapture
from profi.method.attention import AttentionControl, Plain, controlled
from profi.method.attention_objective import (
    DOWN_FACTOR,
    AttentionObjective,
    ByKind,
    CrossAttentionCapture,
)
from profi.method.painta import PAIntA
from profi.method.sampling import InpaintingDenoiser
from profi.method.sites import attention_sites
from profi.models.backbone import Backbone
from profi.settings.method import Reading

ROWS = ("base", "painta_only", "rasg_only", "profi")
NAIVE = "naive profi"
SHARE = 0.25


@dataclass(frozen=True)
class Size:
    """How large a step is; `share` of the image, its upper part, is masked."""

    pixels: int = 512
    batch: int = 1
    share: float = SHARE

    @property
    def side(self) -> int:
        """Of the latents."""
        return self.pixels // LATENT_FACTOR

    def levels(self) -> dict[int, Tensor]:
        """The masks per down-factor. They have values everywhere: their rows are counted."""
        masks = {}
        for factor in (2, 4):
            side = self.side // factor
            masks[factor] = torch.zeros(self.batch, side, side, dtype=torch.bool)
            masks[factor][:, : round(self.share * side)] = True
        return masks


class Step:
    """Calling it runs the UNet's passes of one step, and the gradient where there is one.

    Built outside of a fake or meta mode, for the sake of the masks; `row` is an ablation or NAIVE.
    `one_pass`: a guided step runs both branches as one batch (`OnePassDenoiser`).
    """

    def __init__(
        self,
        row: str,
        reading: Reading,
        backbone: Backbone,
        size: Size,
        one_pass: bool = False,
    ) -> None:
        self._denoiser = OnePassDenoiser if one_pass else InpaintingDenoiser
        capture_of = PairCapture if one_pass else CrossAttentionCapture
        self._row, self._backbone, self._size = row, backbone, size
        levels = size.levels()
        tokens = torch.zeros(size.batch, backbone.text.token_limit, dtype=torch.bool)
        tokens[:, 1:3] = True
        device = backbone.device
        if row == NAIVE:
            masks = {f: m.to(device) for f, m in levels.items()}
            self._naive = Naive(backbone, reading), masks, tokens.to(device)
            return
        on_self: AttentionControl = Plain()
        if row in ("painta_only", "profi"):
            on_self = PAIntA(reading, levels, tokens.to(device))
        self._capture: CrossAttentionCapture | None = None
        self._objective: AttentionObjective | None = None
        on_cross: AttentionControl = Plain()
        if row in ("rasg_only", "profi"):
            sites = attention_sites(backbone.unet)
            on_cross = self._capture = capture_of(sites, DOWN_FACTOR)
            mask = levels[DOWN_FACTOR].flatten(1).to(device)
            self._objective = AttentionObjective(reading, mask, tokens.to(device))
        self._control = ByKind(on_self, on_cross)

    def __call__(self) -> None:
        """Run."""
        size, device = self._size, self._backbone.device
        x_t = torch.zeros(size.batch, 4, size.side, size.side, device=device)
        condition = torch.zeros(size.batch, 5, size.side, size.side, device=device)
        text = some_text(self._backbone, size.batch, size.pixels)
        if self._row == NAIVE:
            naive, masks, tokens = self._naive
            step = NaiveStep(naive, masks, tokens, condition, text.stacked(text))
            step(x_t, T, painta_is_active=True)
            return
        denoise = self._denoiser(
            backbone=self._backbone,
            condition=condition,
            conditional=text,
            unconditional=text,
            guidance_scale=lambda: 7.5,
            guided=(self._objective is not None,),
            capture=self._capture,
        )
        with torch.no_grad(), controlled(self._backbone.unet, self._control):
            denoised = denoise(x_t, T, 0)
        if self._objective is not None and denoised.clue is not None:
            # Not `gradient`: whether a float16 one overflowed is a question to real numbers.
            torch.autograd.grad(self._objective(denoised.clue).sum(), denoised.clue.x_t)
