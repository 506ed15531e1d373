"""RASG, Reweighting Attention Score Guidance (paper, sec. 3.4, eq. 8)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from profi.diffusion.sampling import StepState
from profi.diffusion.schedule import SigmaFormula
from profi.guidance.attention_objective import (
    AttentionClue,
    AttentionObjective,
    ObjectiveSettings,
)
from profi.types import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RASGSettings:
    """The choices of RASG; the defaults are what the paper prints.

    `sigma` and `eta` of sigma_t (eq. 11). `every` and `until` (beyond the paper, which names the
    idea in sec. 4.1) restrict RASG to every n-th step of the first share `until` of the steps;
    the others step by eq. 4.
    """

    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    sigma: SigmaFormula = "cumulative"
    eta: float = 0.15
    every: int = 1
    until: float = 1.0

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UserError(f"rasg.every={self.every}: must be at least 1 (1 is every step)")
        if not 0.0 <= self.until <= 1.0:
            raise UserError(f"rasg.until={self.until}: must be a share of the steps, 0 to 1")

    def is_guided(self, step_index: int, num_steps: int) -> bool:
        """Whether RASG works in this step, counted from 0."""
        return step_index % self.every == 0 and step_index < math.ceil(self.until * num_steps)


@dataclass(frozen=True)
class RASG:
    """The step noise of eq. 8: the gradient of S(x_t) over its own standard deviation.

    `on_gradient` is shown every gradient [B, C, h, w] before that.
    """

    objective: AttentionObjective
    on_gradient: Callable[[Tensor], None] | None = None

    def __call__(self, state: StepState[AttentionClue | None]) -> Tensor:
        """g / std(g), [B, C, h, w], float32: the direction that raises S."""
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

    The std is the unbiased one over a sample's own elements. A sample whose gradient is constant
    or not finite has no direction: it gets zeros, and the loop steps it by eq. 4.
    """
    g = g.float()
    std = g.flatten(1).std(dim=1).view(-1, *[1] * (g.ndim - 1))
    usable = torch.isfinite(std) & (std > 0)
    return torch.where(usable, g / torch.where(usable, std, 1.0), 0.0)
