"""The timesteps of a run and its sigma_t (eq. 11)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from profi.models.schedule import CLEAN, Schedule
from profi.settings.reading import SigmaFormula
from profi.types import UserError


def trailing_timesteps(num_train_timesteps: int, num_inference_steps: int) -> tuple[int, ...]:
    """The timesteps of a run, descending, in "trailing" spacing: 50 of 1000 are 999, 979, ..., 19.

    Spacing and rounding are those of diffusers; see Lin et al. 2023, table 2. Raises UserError
    unless 1 <= num_inference_steps <= num_train_timesteps.
    """
    T, n = num_train_timesteps, num_inference_steps
    if not 1 <= n <= T:
        raise UserError(f"num_inference_steps={n} is not between 1 and {T}; choose e.g. 50")
    # The slice is needed because a float step may give one value too many.
    timesteps = np.round(np.arange(T, 0, -T / n))[:n].astype(np.int64) - 1
    return tuple(int(t) for t in timesteps)


def step_pairs(timesteps: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """(t, t_prev) of every step; the last step leads to CLEAN.

    t_prev is the run's next timestep, also if the number of steps does not divide T.
    """
    return tuple(pairwise((*timesteps, CLEAN)))


def _sigma(alpha_t: float, alpha_prev: float, eta: float) -> float:
    """Eq. 11. A ratio above 1 (betas that are not monotonic) gives 0."""
    ratio = max(0.0, 1.0 - alpha_t / alpha_prev)
    return eta * math.sqrt((1.0 - alpha_prev) / (1.0 - alpha_t)) * math.sqrt(ratio)


def sigma_cumulative(schedule: Schedule, t: int, t_prev: int, eta: float) -> float:
    """sigma_t of eq. 11 with cumulative alphas, as the paper prints it."""
    return _sigma(schedule.alpha(t), schedule.alpha(t_prev), eta)


def sigma_per_step(schedule: Schedule, t: int, t_prev: int, eta: float) -> float:
    """sigma_t of eq. 11 with per-step alphas 1 - beta_t; about 15 times smaller."""
    return _sigma(schedule.per_step_alpha(t), schedule.per_step_alpha(t_prev), eta)


def sigma_schedule(
    schedule: Schedule, timesteps: Sequence[int], formula: SigmaFormula, eta: float
) -> tuple[float, ...]:
    """sigma_t of every step; in the last step it is 0 in both formulas.

    Raises UserError if eta violates 0 <= sigma_t <= sqrt(1 - alpha_{t-1}) (Claim 1).
    """
    if not (math.isfinite(eta) and eta >= 0.0):
        raise UserError(f"eta={eta} must be a number that is not negative")
    sigma = {"cumulative": sigma_cumulative, "per_step": sigma_per_step}[formula]
    pairs = step_pairs(timesteps)
    sigmas = tuple(sigma(schedule, t, t_prev, eta) for t, t_prev in pairs)
    for (t, t_prev), sigma_t in zip(pairs, sigmas, strict=True):
        if sigma_t**2 > 1.0 - schedule.alpha(t_prev):
            raise UserError(
                f"eta={eta} gives sigma_t={sigma_t:.3f} at t={t}, beyond the family of eq. 3; "
                "choose an eta of at most 1"
            )
    return sigmas
