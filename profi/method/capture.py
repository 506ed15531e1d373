"""Capture of cross-attention logits, and composition of controls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from profi.method.attention import (
    AttentionCall,
    AttentionControl,
    Branch,
    Plain,
    Projected,
    logits,
)
from profi.method.sites import Site, sites_at


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
