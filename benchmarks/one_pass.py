"""A guided step in one pass of the UNet, to be compared with the method's two.

`InpaintingDenoiser` runs the conditional branch with a graph, then the other one without. Here both
run as one batch with a graph; only the conditional half's attention is read, so the gradient is the
same. It saves the second start of the UNet, and pays with a graph and a backward pass of twice the
batch. `benchmarks.gpu` measures which is faster; the method itself keeps two passes.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from profi.method.attention import AttentionCall, Branch, Projected
from profi.method.attention_objective import AttentionClue, CrossAttentionCapture
from profi.method.ddim import classifier_free
from profi.method.sampling import FLOAT16_LOSS_SCALE, InpaintingDenoiser
from profi.method.sites import Site


class PairCapture(CrossAttentionCapture):
    """Records the conditional half's logits in a pass of both branches."""

    def __call__(
        self, site: Site, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall
    ) -> Tensor | Projected:
        """The control's output for both halves; the logits of the second are recorded."""
        control, half = self._control, len(q) // 2

        def both(*_: object) -> Tensor | Projected:
            return control(site, q, k, v, call)

        # The capture sees the conditional half, its control all of it.
        assert call.unet_pass is not None
        seen = replace(call, unet_pass=replace(call.unet_pass, branch=Branch.CONDITIONAL))
        self._control = both
        try:
            return super().__call__(site, q[half:], k[half:], v[half:], seen)
        finally:
            self._control = control


class OnePassDenoiser(InpaintingDenoiser):
    """`InpaintingDenoiser` with one pass in its guided steps; `capture` is a `PairCapture`."""

    def _guided(
        self, capture: CrossAttentionCapture, x_t: Tensor, t: int, step_index: int, scale: float
    ) -> tuple[Tensor, AttentionClue]:
        leaf = x_t.detach().requires_grad_()
        # x_t enters both halves; nothing that is read depends on the first, so its share is 0.
        with torch.enable_grad():
            output = self._run(leaf, t, step_index, Branch.PAIR).detach()
        uncond, cond = output.chunk(2)
        loss_scale = FLOAT16_LOSS_SCALE if self.backbone.unet.dtype == torch.float16 else 1.0
        clue = AttentionClue(leaf, capture.take(), loss_scale)
        return classifier_free(uncond, cond, scale), clue
