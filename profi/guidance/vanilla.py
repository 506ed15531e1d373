"""Vanilla post-hoc guidance (paper, sec. 3.4, eq. 6-7), which RASG is compared to in fig. 8.

The paper prints eq. 6 with a plus and eq. 7 with a minus, for an S that is minimised. Here S is
ascended everywhere, so both signs are turned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from profi.diffusion.ddim import to_x0_eps
from profi.diffusion.sampling import Denoise, Denoised
from profi.diffusion.schedule import Schedule
from profi.guidance.attention_objective import (
    AttentionClue,
    AttentionObjective,
    ObjectiveSettings,
)
from profi.types import UserError


@dataclass(frozen=True)
class VanillaSettings:
    """`scale` is the paper's s (0, 100, 1000 and 10000 in fig. 8)."""

    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    scale: float = 1000.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale >= 0.0):
            raise UserError(f"vanilla.scale={self.scale}: must be a number of at least 0")


def guided_eps(eps: Tensor, g: Tensor, alpha_t: float, scale: float) -> Tensor:
    """Eq. 6: eps moved against the gradient g of S, all [B, C, h, w]."""
    return eps - math.sqrt(1.0 - alpha_t) * scale * g


def xi(alpha_t: float, alpha_prev: float, scale: float) -> float:
    """xi_t of eq. 7: stepping by eq. 4 with the eps of eq. 6 adds xi_t times g to x_{t-1}."""
    noise_t, noise_prev = math.sqrt(1.0 - alpha_t), math.sqrt(1.0 - alpha_prev)
    return noise_t * scale * (noise_t * math.sqrt(alpha_prev / alpha_t) - noise_prev)


@dataclass(frozen=True)
class VanillaGuidance:
    """A denoiser whose eps is that of eq. 6; the loop around it steps by eq. 4.

    Args:
        denoise: the guided denoiser, which gives a clue in every step.
        objective: S.
        scale: s.
        schedule: that of the loop.
    """

    denoise: Denoise[AttentionClue | None]
    objective: AttentionObjective
    scale: float
    schedule: Schedule

    def __call__(self, x_t: Tensor, t: int, step_index: int) -> Denoised[AttentionClue | None]:
        """The guided eps and the x0_pred that goes with it; the clue is used up."""
        denoised = self.denoise(x_t, t, step_index)
        if denoised.clue is None:
            raise RuntimeError(f"vanilla guidance: the denoiser gave no attention at t={t}")
        g = self.objective.gradient(denoised.clue)
        alpha_t = self.schedule.alpha(t)
        eps = guided_eps(denoised.eps, g, alpha_t, self.scale)
        x0_pred, eps = to_x0_eps(eps, x_t, alpha_t, "epsilon")
        return Denoised(x0_pred, eps, None)
