"""RASG, Reweighting Attention Score Guidance (paper, sec. 3.4, eq. 8)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from profi.method.attention_objective import DOWN_FACTOR, AttentionClue, AttentionObjective
from profi.method.ddim import sigma_schedule
from profi.method.methods import Build, MethodBatch, MethodParts, together
from profi.method.painta import painta_only
from profi.method.sampling import StepState
from profi.settings.method import RASGSettings, Reading

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RASG:
    """The step noise of eq. 8: the gradient of S(x_t) divided by its standard deviation.

    `on_gradient` is called with every gradient [B, C, h, w] before the division.
    """

    objective: AttentionObjective
    on_gradient: Callable[[Tensor], None] | None = None

    def __call__(self, state: StepState[AttentionClue | None]) -> Tensor:
        """g / std(g), [B, C, h, w], float32: the direction that increases S."""
        if state.clue is None:
            raise RuntimeError(f"RASG: the denoiser gave no attention at t={state.t}")
        g = self.objective.gradient(state.clue)
        if self.on_gradient is not None:
            self.on_gradient(g)
        noise = standardised(g)
        dead = (~noise.flatten(1).any(dim=1)).tolist()
        if any(dead):
            which = [i for i, is_dead in enumerate(dead) if is_dead]
            log.warning("RASG: no usable gradient at t=%d for samples %s", state.t, which)
        return noise


def standardised(g: Tensor) -> Tensor:
    """g / std(g) per sample [B, ...], float32; the mean is not subtracted (app. C.3).

    The std is the unbiased one over a sample's own elements. A sample with a constant or non-finite
    gradient has no direction: it gets zeros, and the loop uses eq. 4 for it.
    """
    g = g.float()
    std = g.flatten(1).std(dim=1).view(-1, *[1] * (g.ndim - 1))
    usable = torch.isfinite(std) & (std > 0)
    return torch.where(usable, g / torch.where(usable, std, 1.0), 0.0)


def is_guided(rasg: RASGSettings, step_index: int, num_steps: int) -> bool:
    """Whether RASG is active in this step, counted from 0."""
    return step_index % rasg.every == 0 and step_index < math.ceil(rasg.until * num_steps)


def rasg_only(reading: Reading, rasg: RASGSettings) -> Build:
    """The method with only RASG; steps without it have sigma_t = 0 (eq. 4)."""

    def build(batch: MethodBatch) -> MethodParts:
        mask = batch.level(DOWN_FACTOR, "cross").flatten(1)
        objective = AttentionObjective(reading, mask, batch.words, rasg.objective)
        sigmas = sigma_schedule(batch.schedule, batch.timesteps, reading.sigma, reading.eta)
        guided = [is_guided(rasg, i, len(sigmas)) for i in range(len(sigmas))]
        sigmas = tuple(s if on else 0.0 for s, on in zip(sigmas, guided, strict=True))
        if not any(sigmas):
            return MethodParts()
        noise = RASG(objective, batch.on_gradient)
        return MethodParts(step_noise=noise, sigmas=sigmas, reads=DOWN_FACTOR)

    return build


def profi(reading: Reading, rasg: RASGSettings) -> Build:
    """PAIntA and RASG: the paper's full method."""
    return together(painta_only(reading), rasg_only(reading, rasg))
