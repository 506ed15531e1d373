"""A record of every step of a run, for figures and to see what a method does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from profi.method.attention import (
    AttentionCall,
    AttentionControl,
    Branch,
    Projected,
    UNetPass,
    logits,
)
from profi.method.attention_objective import AttentionClue
from profi.method.painta import prompt_similarity
from profi.method.sampling import StepNoise, StepState
from profi.method.sites import Site


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
