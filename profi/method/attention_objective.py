"""S(x_t) as a function of what a denoiser read, and its gradient with respect to x_t."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from profi.method.objectives import (
    bce_objective,
    max_attention_objective,
    mean_attention,
)
from profi.settings.method import Objective
from profi.settings.reading import Reading

#: Of the latents: the paper's H/32, where attention is read.
DOWN_FACTOR = 4


@dataclass(frozen=True)
class AttentionClue:
    """What a guided denoiser hands to a guidance.

    `x_t` [B, C, h, w] is the leaf that the conditional pass started from, and `logits` the
    cross-attention logits [B, heads, N, L] which that pass computed from it, with their graph.
    `loss_scale` multiplies the objective on its way back through the UNet and is divided out
    after: the small gradients of a float16 UNet would underflow.
    """

    x_t: Tensor
    logits: tuple[Tensor, ...]
    loss_scale: float = 1.0


@dataclass(frozen=True)
class AttentionObjective:
    """S for one batch.

    Args:
        reading: its choices of eq. 10.
        mask: [B, N] bool at the level where attention is read, True = inpaint.
        tokens: ind(tau), [B, L] bool.
        kind: bce (eq. 10) or max_attention (eq. 13).
    """

    reading: Reading
    mask: Tensor
    tokens: Tensor
    kind: Objective = "bce"

    def __call__(self, clue: AttentionClue) -> Tensor:
        """S(x_t) per sample, [B], float32, to be ascended."""
        A_bar = mean_attention(clue.logits)  # eq. 9
        if self.kind == "max_attention":
            return max_attention_objective(A_bar, self.mask, self.tokens)  # eq. 13
        offset, reduction = self.reading.offset, self.reading.reduction
        return bce_objective(A_bar, self.mask, self.tokens, offset, reduction)  # eq. 10

    def gradient(self, clue: AttentionClue) -> Tensor:
        """The gradient of S with respect to x_t, [B, C, h, w], float32.

        From the logits on everything is float32; below them the UNet's own dtype holds, so the
        gradient is carried through it `loss_scale` times as large. A sample that overflows is
        done again without the scale.
        """
        # The sampling loop around has no gradients; the objective extends the clue's graph.
        with torch.enable_grad():
            S = self(clue)
            # Samples do not mix in the UNet, so the gradient of the sum is that of each.
            total = S.sum()
        # A mean over N pixels is carried as a sum, for the same reason.
        pixels = float(clue.logits[0].shape[2])
        natural = pixels if self.reading.reduction == "mean" else 1.0
        scale = natural * clue.loss_scale
        scaled = clue.loss_scale != 1.0
        g = _gradient(total, clue.x_t, scale, retain_graph=scaled)
        if scaled:
            broken = ~torch.isfinite(g).flatten(1).all(dim=1)
            if broken.any():
                again = _gradient(total, clue.x_t, natural, retain_graph=False)
                g = torch.where(broken.view(-1, *[1] * (g.ndim - 1)), again, g)
        if self.reading.vanished_mask == "unguided":
            there = self.mask.any(dim=1).view(-1, *[1] * (g.ndim - 1))
            g = torch.where(there, g, 0.0)
        return g


def _gradient(total: Tensor, x_t: Tensor, scale: float, retain_graph: bool) -> Tensor:
    (g,) = torch.autograd.grad(total, x_t, total.new_tensor(scale), retain_graph=retain_graph)
    return g.float() / scale
