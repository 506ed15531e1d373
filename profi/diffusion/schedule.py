"""The noise schedule, the timesteps of a run and sigma_t (eq. 11)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor

from profi.types import UserError

PredictionType = Literal["epsilon", "v_prediction", "sample"]
SigmaFormula = Literal["cumulative", "per_step"]

# The timestep after the last one: the clean image, with alpha = 1.
CLEAN = -1


@dataclass(frozen=True)
class Schedule:
    """The forward process (eq. 1) that a model was trained with.

    `betas` and `alphas_cumprod` (the paper's alpha_t, the cumulative product of 1 - beta) are
    float64 [T] on the CPU: T numbers, exact enough that only the latents' precision counts.
    """

    betas: Tensor
    alphas_cumprod: Tensor
    prediction_type: PredictionType

    @property
    def num_train_timesteps(self) -> int:
        """T."""
        return len(self.betas)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Schedule:
        """Build from a diffusers scheduler's config (scheduler_config.json).

        Raises UserError for a schedule or prediction type that this code does not know, rather
        than sample with a wrong one.
        """
        prediction_type = config.get("prediction_type", "epsilon")
        if prediction_type not in get_args(PredictionType):
            raise UserError(
                f"scheduler config: prediction_type {prediction_type!r} is not supported; "
                f"use a model with one of {', '.join(get_args(PredictionType))}"
            )
        if config.get("rescale_betas_zero_snr"):
            raise UserError(
                "scheduler config: rescale_betas_zero_snr is not supported (alpha_T = 0 has no "
                "x0_pred); use a model trained without it"
            )
        betas = _betas(config)
        alphas_cumprod = torch.cumprod(1.0 - betas, dim=0)
        return cls(betas, alphas_cumprod, cast(PredictionType, prediction_type))

    def alpha(self, t: int) -> float:
        """The cumulative alpha_t; 1 for t = CLEAN."""
        return 1.0 if t == CLEAN else float(self.alphas_cumprod[t])

    def per_step_alpha(self, t: int) -> float:
        """1 - beta_t, the alpha of one training step; 1 for t = CLEAN."""
        return 1.0 if t == CLEAN else 1.0 - float(self.betas[t])


def _betas(config: Mapping[str, Any]) -> Tensor:
    """The betas [T], float64, of a diffusers scheduler config."""
    trained = config.get("trained_betas")
    if trained is not None:
        return torch.tensor(list(trained), dtype=torch.float64)
    name = config.get("beta_schedule")
    if name is None:
        raise UserError(
            f"scheduler config: {config.get('_class_name', 'the scheduler')} has no beta_schedule; "
            "use a model that was trained with betas (no EDM, no flow matching)"
        )
    start, end = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
    T = int(config.get("num_train_timesteps", 1000))
    if name == "linear":
        return torch.linspace(start, end, T, dtype=torch.float64)
    if name == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, T, dtype=torch.float64) ** 2
    raise UserError(
        f"scheduler config: beta_schedule {name!r} is not supported; "
        "use linear, scaled_linear or trained_betas"
    )


def trailing_timesteps(num_train_timesteps: int, num_inference_steps: int) -> tuple[int, ...]:
    """The timesteps of a run, descending, in "trailing" spacing: 50 of 1000 are 999, 979, ..., 19.

    The spacing (and its rounding) is that of diffusers; see Lin et al. 2023, table 2. Raises
    UserError unless 1 <= num_inference_steps <= num_train_timesteps.
    """
    T, n = num_train_timesteps, num_inference_steps
    if not 1 <= n <= T:
        raise UserError(f"num_inference_steps={n} is not between 1 and {T}; choose e.g. 50")
    # The slice: a float step may yield one value too many.
    timesteps = np.round(np.arange(T, 0, -T / n))[:n].astype(np.int64) - 1
    return tuple(int(t) for t in timesteps)


def step_pairs(timesteps: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """(t, t_prev) of every step; the last step leads to CLEAN.

    t_prev is the run's next timestep, also where the number of steps does not divide T.
    """
    return tuple(pairwise((*timesteps, CLEAN)))


def _sigma(alpha_t: float, alpha_prev: float, eta: float) -> float:
    """eq. 11. A ratio above 1 (betas that are not monotonous) gives 0."""
    ratio = max(0.0, 1.0 - alpha_t / alpha_prev)
    return eta * math.sqrt((1.0 - alpha_prev) / (1.0 - alpha_t)) * math.sqrt(ratio)


def sigma_cumulative(schedule: Schedule, t: int, t_prev: int, eta: float) -> float:
    """sigma_t of eq. 11 with cumulative alphas, as the paper prints it."""
    return _sigma(schedule.alpha(t), schedule.alpha(t_prev), eta)


def sigma_per_step(schedule: Schedule, t: int, t_prev: int, eta: float) -> float:
    """sigma_t of eq. 11 with per-step alphas 1 - beta_t; some 15 times smaller."""
    return _sigma(schedule.per_step_alpha(t), schedule.per_step_alpha(t_prev), eta)


def sigma_schedule(
    schedule: Schedule, timesteps: Sequence[int], formula: SigmaFormula, eta: float
) -> tuple[float, ...]:
    """sigma_t of every step; 0 in the last one in both formulas.

    Raises UserError when eta breaks 0 <= sigma_t <= sqrt(1 - alpha_{t-1}) (Claim 1).
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
