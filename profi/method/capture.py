"""Reading cross-attention, and composing controls."""

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

    (A pair is what a step without guidance runs: nothing is recorded there.)

    Logits are scaled by 1/sqrt(d) and not yet softmaxed, [B, heads, N, L], float32, one tensor
    per site in the order of execution, with their graph if there is one.

    After the last wanted site it turns gradients off: what follows in the UNet is needed for eps
    but not for these logits, so its graph, about half of the UNet's memory, would be kept for
    nothing. Run the pass inside `torch.set_grad_enabled(...)`, whose exit turns them on again.
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
        """The control's output (else plain attention); the logits are recorded at its sites."""
        conditional = call.unet_pass is None or call.unet_pass.branch is Branch.CONDITIONAL
        if conditional and site.index in self._wanted:
            self._logits[site.index] = logits(q, k)
            if site.index == self._wanted[-1]:
                torch.set_grad_enabled(False)
        return self._control(site, q, k, v, call)

    def take(self) -> tuple[Tensor, ...]:
        """The logits of the last conditional pass; they are forgotten here."""
        if tuple(self._logits) != self._wanted:
            raise RuntimeError("no complete conditional pass since the logits were last taken")
        taken, self._logits = self._logits, {}
        return tuple(taken.values())


@dataclass(frozen=True)
class ByKind:
    """Two controls as one: the first rules self-attention, the second cross-attention."""

    self_attention: AttentionControl
    cross_attention: AttentionControl

    def __call__(
        self, site: Site, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall
    ) -> Tensor | Projected:
        """The output of the control in charge of the site."""
        control = self.self_attention if site.kind == "self" else self.cross_attention
        return control(site, q, k, v, call)
