"""One step of the DDIM family (eq. 1, 3-4) and its parts.

legend    alpha_t, alpha_prev   alpha_t, alpha_{t-1}    cumulative alphas, floats
          eps                   eps_theta^t(x_t)        predicted noise [B, C, h, w]
          x0_pred               x_0^pred                predicted clean latents [B, C, h, w]
          sigma_t, noise        sigma_t, epsilon_t      size and direction of the random part
"""

from __future__ import annotations

import math

from torch import Tensor

from profi.models.schedule import PredictionType


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
