"""Captured cross-attention, the objective S(x_t) on it, and its gradient with respect to x_t."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from profi.method.attention import (
    AttentionCall,
    AttentionControl,
    Branch,
    Plain,
    Projected,
    logits,
)
from profi.method.sites import Site, sites_at
from profi.settings.method import Objective, Reading, Reduction


class CrossAttentionCapture:
    """Records the cross-attention logits at one down-factor, in passes of the conditional branch.

    Nothing is recorded in a pass of the pair: that is a step without guidance.

    Logits are scaled by 1/sqrt(d), before the softmax, [B, heads, N, L], float32. There is one
    tensor per site in the order of execution, with its graph if there is one.

    After the last recorded site it turns gradients off. The rest of the UNet is needed for eps but
    not for these logits, so its graph (about half of the UNet's memory) would be useless. Run the
    pass inside `torch.set_grad_enabled(...)`, whose exit restores the gradient mode.
    """

    def __init__(
        self, sites: Iterable[Site], down_factor: int, control: AttentionControl | None = None
    ) -> None:
        self._control = control or Plain()
        self._wanted = tuple(site.index for site in sites_at(sites, "cross", down_factor))
        self._logits: dict[int, Tensor] = {}

    def __call__(
        self, site: Site, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall
    ) -> Tensor | Projected:
        """The control's output (by default plain attention); logits are recorded on the way."""
        conditional = call.unet_pass is None or call.unet_pass.branch is Branch.CONDITIONAL
        if conditional and site.index in self._wanted:
            self._logits[site.index] = logits(q, k)
            if site.index == self._wanted[-1]:
                torch.set_grad_enabled(False)
        return self._control(site, q, k, v, call)

    def take(self) -> tuple[Tensor, ...]:
        """Return and drop the logits of the last conditional pass."""
        if tuple(self._logits) != self._wanted:
            raise RuntimeError("no complete conditional pass since the logits were last taken")
        taken, self._logits = self._logits, {}
        return tuple(taken.values())


@dataclass(frozen=True)
class ByKind:
    """One control for self-attention and one for cross-attention."""

    self_attention: AttentionControl
    cross_attention: AttentionControl

    def __call__(
        self, site: Site, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall
    ) -> Tensor | Projected:
        """The output of the control for this kind of site."""
        control = self.self_attention if site.kind == "self" else self.cross_attention
        return control(site, q, k, v, call)


#: The down-factor of the latents where attention is read: the paper's H/32.
DOWN_FACTOR = 4


@dataclass(frozen=True)
class AttentionClue:
    """The attention that a guided denoiser passes to a guidance.

    `x_t` [B, C, h, w] is the leaf tensor of the conditional pass. `logits` are the cross-attention
    logits [B, heads, N, L] of that pass, with their graph. The objective is multiplied by
    `loss_scale` before the backward pass, and the gradient is divided by it after: small gradients
    would underflow in a float16 UNet.
    """

    x_t: Tensor
    logits: tuple[Tensor, ...]
    loss_scale: float = 1.0


@dataclass(frozen=True)
class AttentionObjective:
    """S for one batch.

    Args:
        reading: gives the choices of eq. 10.
        mask: [B, N] bool at the level where attention is read, True = inpaint.
        tokens: ind(tau), [B, L] bool.
        kind: bce (eq. 10) or max_attention (eq. 13).
    """

    reading: Reading
    mask: Tensor
    tokens: Tensor
    kind: Objective = "bce"

    def __call__(self, clue: AttentionClue) -> Tensor:
        """S(x_t) per sample, [B], float32; guidance ascends it."""
        A_bar = mean_attention(clue.logits)  # eq. 9
        if self.kind == "max_attention":
            return max_attention_objective(A_bar, self.mask, self.tokens)  # eq. 13
        offset, reduction = self.reading.offset, self.reading.reduction
        return bce_objective(A_bar, self.mask, self.tokens, offset, reduction)  # eq. 10

    def gradient(self, clue: AttentionClue) -> Tensor:
        """The gradient of S with respect to x_t, [B, C, h, w], float32.

        From the logits to S all is float32. The UNet has its own dtype, so the gradient goes
        through it multiplied by `loss_scale`. If a sample overflows, its gradient is computed again
        without the scale.
        """
        # The sampling loop runs without gradients; the objective extends the clue's graph.
        with torch.enable_grad():
            S = self(clue)
            # Samples do not mix in the UNet, so the gradient of the sum has each sample's own.
            total = S.sum()
        # A mean over N pixels goes through the UNet as a sum, for the same reason.
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


def mean_attention(logits: Sequence[Tensor]) -> Tensor:
    """A-bar [B, N, L] of eq. 9: mean over the heads and the layers of logits [B, heads, N, L].

    Every head has the same weight; all layers of one down-factor have the same number of heads.
    """
    return torch.cat(list(logits), dim=1).float().mean(dim=1)


def bce_objective(
    A_bar: Tensor, mask: Tensor, tokens: Tensor, offset: float, reduction: Reduction
) -> Tensor:
    """S(x_t) of eq. 10, per sample [B]: minus the binary cross entropy of sigma(A - offset) to M.

    Guidance ASCENDS it: a larger S means more attention to the prompt inside the mask and less
    outside. (The paper says "minimisation" but has a plus sign; only ascent has the effect that it
    describes.)

    Args:
        A_bar: [B, N, L] mean cross-attention logits.
        mask: [B, N] bool, True = inpaint.
        tokens: ind(tau), [B, L] bool.
        offset: subtracted from the logits; 0 in the paper.
        reduction: over the N pixels; over the tokens it is a sum.
    """
    A = A_bar.float() - offset
    M = mask[:, :, None]
    # log sigma(a), and log(1 - sigma(a)) = log sigma(-a): stable for any a.
    S = torch.where(M, functional.logsigmoid(A), functional.logsigmoid(-A)) * tokens[:, None, :]
    pixels = S.sum(dim=2)
    return pixels.sum(dim=1) if reduction == "sum" else pixels.mean(dim=1)


def max_attention_objective(A_bar: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
    """Eq. 13 with the sign for ascent, per sample [B]: the Attend&Excite-style variant (fig. 9).

    It is the mean over ind(tau) of the largest attention inside the mask. (The paper has a minus
    sign and minimises it.) A sample without a masked pixel has S = 0 and so no gradient.

    Args:
        A_bar: [B, N, L] mean cross-attention logits.
        mask: [B, N] bool, True = inpaint.
        tokens: ind(tau), [B, L] bool.
    """
    lowest = torch.finfo(torch.float32).min
    inside = torch.where(mask[:, :, None], A_bar.float(), lowest)
    # With several equal maxima `max` gives the whole gradient to one of them. `amax` gives each an
    # equal share, so the result does not depend on an order.
    largest = inside.amax(dim=1)
    weight = (tokens & mask.any(dim=1, keepdim=True)).float()
    mean = torch.where(weight > 0, largest, 0.0).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
    return mean
