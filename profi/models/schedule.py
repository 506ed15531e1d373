"""The noise schedule that a model was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from profi.types import UserError

PredictionType = Literal["epsilon", "v_prediction", "sample"]

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

        Raises UserError for an unknown schedule or prediction type.
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
    try:
        return _read_betas(config)
    except (TypeError, ValueError) as error:
        raise UserError(f"scheduler config: its betas cannot be read ({error})") from error


def _read_betas(config: Mapping[str, Any]) -> Tensor:
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
