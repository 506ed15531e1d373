"""Averaged self-attention similarity maps (paper, app. B, eq. 12; fig. 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from profi.method.attention import AttentionCall, Branch, UNetPass, attend, logits
from profi.method.sites import Site
from profi.types import UserError

Scores = Literal["logits", "probs"]
# Rows of the attention matrix per chunk; it limits the memory and does not change the result.
ROWS = 256


class SelfAttentionObserver(Protocol):
    """Called with the inputs of every self-attention site."""

    def __call__(self, site: Site, q: Tensor, k: Tensor, unet_pass: UNetPass) -> None:
        """q and k [B, heads, N, d]; k has the keys of masked rows (scaled by PAIntA)."""
        ...


# Called with PAIntA's c [B, N], float32, of every site and pass that uses it.
SimilarityObserver = Callable[[Site, Tensor, UNetPass], None]


def unobserved(site: Site, q: Tensor, k: Tensor, unet_pass: UNetPass) -> None:
    """The observer that does nothing."""


@dataclass(frozen=True)
class Observed:
    """Plain attention, with an observer of self-attention."""

    observer: SelfAttentionObserver

    def __call__(self, site: Site, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall) -> Tensor:
        """Plain attention."""
        if site.kind == "self" and call.unet_pass is not None:
            self.observer(site, q, k, call.unet_pass)
        return attend(q, k, v)


class SimilarityMaps:
    """The maps A and A-tilde of eq. 12: how masked pixels attend to all others, on average.

    It is an observer of self-attention. It averages over the masked rows, the heads, the layers of
    a down-factor and the steps, in the conditional branch. It keeps only running sums, never a
    layer's hw x hw matrix. A plain run gives A; a run with PAIntA gives A-tilde.

    Args:
        masks: per down-factor of the latents, [B, h, w] bool, True = unknown (app. B resizes it
            by nearest neighbours). A sample with an empty mask gets a map of zeros.
        scores: the averaged values; the paper does not say which. "logits": the matrices A_self of
            eq. 5 and 12 as printed, before the softmax. "probs": the attention after the softmax,
            whose map sums to 1.
    """

    def __init__(self, masks: Mapping[int, Tensor], scores: Scores = "logits") -> None:
        if scores not in ("logits", "probs"):
            raise UserError(f"scores={scores} is unknown; choose logits or probs")
        self._masks = dict(masks)
        self._scores = scores
        self._sums: dict[int, Tensor] = {}
        self._counts: dict[int, int] = {}

    @torch.no_grad()
    def __call__(self, site: Site, q: Tensor, k: Tensor, unet_pass: UNetPass) -> None:
        """Add one layer of one step."""
        if site.down_factor not in self._masks or unet_pass.branch is Branch.UNCONDITIONAL:
            return
        if unet_pass.branch is Branch.PAIR:
            q, k = q[len(q) // 2 :], k[len(k) // 2 :]
        masked = self._masks[site.down_factor].flatten(1).to(q.device)
        rows = masked.float() / masked.sum(dim=1, keepdim=True).clamp(min=1)
        factor = site.down_factor
        layer = _mean_logits(q, k, rows) if self._scores == "logits" else _mean_probs(q, k, rows)
        self._sums[factor] = self._sums.get(factor, torch.zeros_like(layer)) + layer
        self._counts[factor] = self._counts.get(factor, 0) + 1

    def maps(self) -> dict[int, Tensor]:
        """Per down-factor the map [B, h, w], float32; UserError if no step was observed yet."""
        unseen = sorted(set(self._masks) - set(self._sums))
        if unseen:
            raise UserError(
                f"no self-attention was seen at down-factors {unseen}; paint with these maps as "
                "the observer first, and ask for factors that the UNet has"
            )
        return {
            factor: (total / self._counts[factor]).view(self._masks[factor].shape)
            for factor, total in self._sums.items()
        }


def _mean_logits(q: Tensor, k: Tensor, rows: Tensor) -> Tensor:
    """[B, N]: the rows of the logits weighted by `rows` [B, N]; q is averaged first (linear)."""
    mean_q = torch.einsum("bhnd,bn->bhd", q.float(), rows)[:, :, None]
    return logits(mean_q, k).mean(dim=(1, 2))


def _mean_probs(q: Tensor, k: Tensor, rows: Tensor) -> Tensor:
    """[B, N]: the softmaxed rows weighted by `rows` [B, N]."""
    total = torch.zeros_like(rows)
    for some_q, some_rows in zip(q.split(ROWS, dim=2), rows.split(ROWS, dim=1), strict=True):
        probs = logits(some_q, k).softmax(dim=-1).mean(dim=1)
        total += torch.einsum("bnk,bn->bk", probs, some_rows)
    return total
