"""What a run did: a record of every step, and self-attention similarity maps (eq. 12)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from profi.method.attention import (
    AttentionCall,
    AttentionControl,
    Branch,
    Projected,
    UNetPass,
    attend,
    logits,
)
from profi.method.attention_objective import AttentionClue
from profi.method.painta import prompt_similarity
from profi.method.sampling import StepNoise, StepState
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


@dataclass(frozen=True)
class TracedStep:
    """One step from x_t to x_{t-1} of B pictures; tensors are float32 on the CPU.

    Fields:
        step_index, t, sigma_t: those of the step.
        x_t, x0_pred, x_prev: [B, C, h, w].
        attention: per down-factor of the latents, [B, h, w] in [0, 1]: the share of each pixel's
            cross-attention that goes to ind(tau), in the conditional branch; the mean over heads
            and layers.
        c: PAIntA's c (eq. 5) per down-factor, [B, h, w] in [0, 1], the mean over layers; empty in
            a step without PAIntA.
        gradient: the gradient of RASG's objective with respect to x_t, [B, C, h, w]; None in a step
            without RASG.
        noise: the tensor that sigma_t multiplied (RASG: the gradient over its standard deviation),
            [B, C, h, w]; None in a step by eq. 4.
    """

    step_index: int
    t: int
    sigma_t: float
    x_t: Tensor
    x0_pred: Tensor
    x_prev: Tensor
    attention: Mapping[int, Tensor]
    c: Mapping[int, Tensor]
    gradient: Tensor | None
    noise: Tensor | None


@dataclass
class Trace:
    """The record of one batch of pictures: pass it to a `Painter` (trace=...) and read it later.

    It changes no pixel. `masks` are the batch's masks per down-factor of the latents, [B, h, w]
    bool (1 is the UNet's mask channel). `steps` has a `TracedStep` for every finished step.
    """

    steps: list[TracedStep] = field(default_factory=list)
    masks: Mapping[int, Tensor] = field(default_factory=dict)
    _words: Tensor | None = field(default=None, repr=False)
    _attention: dict[int, list[Tensor]] = field(default_factory=dict, repr=False)
    _c: dict[int, list[Tensor]] = field(default_factory=dict, repr=False)
    _gradient: Tensor | None = field(default=None, repr=False)
    _noise: Tensor | None = field(default=None, repr=False)

    def begin(self, masks: Mapping[int, Tensor], words: Tensor) -> None:
        """Start a new record, with masks as in `masks` and ind(tau) [B, L] bool."""
        self.steps = []
        self.masks = {factor: mask.cpu() for factor, mask in masks.items()}
        self._words = words
        self._forget()

    @torch.no_grad()
    def cross_attention(self, site: Site, q: Tensor, k: Tensor, branch: Branch) -> None:
        """Record a cross-attention from its q [B, heads, N, d] and k [B, heads, L, d]."""
        if self._words is None or branch is Branch.UNCONDITIONAL:
            return
        if branch is Branch.PAIR:
            q, k = q[len(q) // 2 :], k[len(k) // 2 :]
        paid = prompt_similarity(logits(q, k), self._words)
        self._attention.setdefault(site.down_factor, []).append(paid.cpu())

    def similarity(self, site: Site, c: Tensor, unet_pass: UNetPass) -> None:
        """Record PAIntA's c [B, N] of a site."""
        if unet_pass.branch is not Branch.UNCONDITIONAL:
            self._c.setdefault(site.down_factor, []).append(c.detach().float().cpu())

    def gradient(self, g: Tensor) -> None:
        """Record RASG's gradient [B, C, h, w] before it is standardised."""
        self._gradient = g.detach().float().cpu()

    def noise(self, noise: Tensor | None) -> None:
        """Record the tensor that sigma_t multiplies."""
        self._noise = None if noise is None else noise.detach().float().cpu()

    def step(self, state: StepState[object], x_prev: Tensor) -> None:
        """Finish a step."""
        self.steps.append(
            TracedStep(
                state.step_index,
                state.t,
                state.sigma_t,
                state.x_t.cpu(),
                state.x0_pred.cpu(),
                x_prev.cpu(),
                self._maps(self._attention),
                self._maps(self._c),
                self._gradient,
                self._noise,
            )
        )
        self._forget()

    def _maps(self, layers: Mapping[int, list[Tensor]]) -> dict[int, Tensor]:
        """Means over the layers, [B, h, w]."""
        return {
            factor: torch.stack(maps).mean(dim=0).view(self.masks[factor].shape)
            for factor, maps in sorted(layers.items())
        }

    def _forget(self) -> None:
        self._attention, self._c = {}, {}
        self._gradient = self._noise = None


@dataclass(frozen=True)
class TracedAttention:
    """Wraps a control; a trace records the cross-attention."""

    control: AttentionControl
    trace: Trace

    def __call__(
        self, site: Site, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall
    ) -> Tensor | Projected:
        """The control's output."""
        if site.kind == "cross" and call.unet_pass is not None:
            self.trace.cross_attention(site, q, k, call.unet_pass.branch)
        return self.control(site, q, k, v, call)


@dataclass(frozen=True)
class TracedNoise:
    """Wraps a step noise; a trace records it."""

    step_noise: StepNoise[AttentionClue | None]
    trace: Trace

    def __call__(self, state: StepState[AttentionClue | None]) -> Tensor | None:
        """The step noise's output."""
        noise = self.step_noise(state)
        self.trace.noise(noise)
        return noise
