"""Vanilla post-hoc guidance (paper, sec. 3.4, eq. 6-7), which RASG is compared to in fig. 8.

The paper prints eq. 6 with a plus and eq. 7 with a minus, and minimises S. Here S is ascended
everywhere, so both signs are reversed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from profi.method.attention_objective import DOWN_FACTOR, AttentionClue, AttentionObjective
from profi.method.ddim import to_x0_eps
from profi.method.methods import Build, MethodBatch, MethodParts
from profi.method.sampling import Denoise, Denoised
from profi.models.schedule import Schedule
from profi.settings.method import RASGSettings, Reading, VanillaSettings


def guided_eps(eps: Tensor, g: Tensor, alpha_t: float, scale: float) -> Tensor:
    """Eq. 6: eps moved against the gradient g of S, all [B, C, h, w]."""
    return eps - math.sqrt(1.0 - alpha_t) * scale * g


@dataclass(frozen=True)
class VanillaGuidance:
    """A denoiser with eps by eq. 6; the sampling loop steps by eq. 4.

    Args:
        denoise: the guided denoiser; it gives a clue in every step.
        objective: S.
        scale: s.
        schedule: the schedule of the sampling loop.
    """

    denoise: Denoise[AttentionClue | None]
    objective: AttentionObjective
    scale: float
    schedule: Schedule

    def __call__(self, x_t: Tensor, t: int, step_index: int) -> Denoised[AttentionClue | None]:
        """The guided eps and its x0_pred, without a clue."""
        denoised = self.denoise(x_t, t, step_index)
        if denoised.clue is None:
            raise RuntimeError(f"vanilla guidance: the denoiser gave no attention at t={t}")
        g = self.objective.gradient(denoised.clue)
        alpha_t = self.schedule.alpha(t)
        eps = guided_eps(denoised.eps, g, alpha_t, self.scale)
        x0_pred, eps = to_x0_eps(eps, x_t, alpha_t, "epsilon")
        return Denoised(x0_pred, eps, None)


def vanilla_only(reading: Reading, rasg: RASGSettings, vanilla: VanillaSettings) -> Build:
    """The method with only vanilla guidance; it uses the objective of `rasg`."""

    def build(batch: MethodBatch) -> MethodParts:
        mask = batch.level(DOWN_FACTOR, "cross").flatten(1)
        objective = AttentionObjective(reading, mask, batch.words, rasg.objective)
        return MethodParts(
            reads=DOWN_FACTOR,
            wrap=lambda denoise: VanillaGuidance(denoise, objective, vanilla.scale, batch.schedule),
        )

    return build
