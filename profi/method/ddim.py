"""DDIM: the timesteps of a run and its sigma_t (eq. 11), and one step (eq. 1, 3-4).

legend    alpha_t, alpha_prev   alpha_t, alpha_{t-1}    cumulative alphas, floats
          eps                   eps_theta^t(x_t)        predicted noise [B, C, h, w]
          x0_pred               x_0^pred                predicted clean latents [B, C, h, w]
          sigma_t, noise        sigma_t, epsilon_t      size and direction of the random part
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from torch import Tensor

from profi.models.schedule import CLEAN, PredictionType, Schedule
from profi.settings.method import SigmaFormula
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


def to_x0_eps(
    model_output: Tensor, x_t: Tensor, alpha_t: float, prediction_type: PredictionType
) -> tuple[Tensor, Tensor]:
    """(x0_pred, eps) from a model's output of any prediction type; all [B, C, h, w].

    All three solve x_t = sqrt(alpha_t) x0 + sqrt(1 - alpha_t) eps; v is that of Salimans & Ho
    (2022), v = sqrt(alpha_t) eps - sqrt(1 - alpha_t) x0.
    """
    a, b = math.sqrt(alpha_t), math.sqrt(1.0 - alpha_t)
    if prediction_type == "epsilon":
        return (x_t - b * model_output) / a, model_output
    if prediction_type == "v_prediction":
        return a * x_t - b * model_output, a * model_output + b * x_t
    return model_output, (x_t - a * model_output) / b


def noised(x0: Tensor, noise: Tensor, alpha_t: float) -> Tensor:
    """x_t by eq. 1, the forward process: x0 and noise ~ N(0, 1), [B, C, h, w]."""
    return math.sqrt(alpha_t) * x0 + math.sqrt(1.0 - alpha_t) * noise


def ddim_step(
    x0_pred: Tensor, eps: Tensor, alpha_prev: float, sigma_t: float, noise: Tensor | None
) -> Tensor:
    """x_{t-1} by eq. 3; without noise by eq. 4 (sigma_t = 0).

    `noise` is the unit-variance tensor [B, C, h, w] that sigma_t multiplies.
    """
    if noise is None:
        sigma_t = 0.0
    x_prev = math.sqrt(alpha_prev) * x0_pred + math.sqrt(1.0 - alpha_prev - sigma_t**2) * eps
    return x_prev if noise is None else x_prev + sigma_t * noise


def classifier_free(uncond: Tensor, cond: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022): uncond + guidance_scale (cond - uncond).

    It works for outputs of any prediction type. All are affine in eps with coefficients that do not
    depend on the branch, so to combine outputs is to combine eps.
    """
    return uncond + guidance_scale * (cond - uncond)
