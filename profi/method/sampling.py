"""The sampling loop and its seams: the denoiser, the step noise and who looks on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from profi.method.ddim import ddim_step
from profi.method.schedule import step_pairs
from profi.models.schedule import Schedule

# What a denoiser hands to a step noise. The loop only carries it: a guided step noise needs the
# graph of the denoiser's pass, and which part of it is agreed between those two alone.
Clue = TypeVar("Clue")
Clue_co = TypeVar("Clue_co", covariant=True)
Clue_contra = TypeVar("Clue_contra", contravariant=True)


@dataclass(frozen=True)
class Denoised(Generic[Clue_co]):
    """A denoiser's answer: x0_pred and eps [B, C, h, w], float32, without a graph."""

    x0_pred: Tensor
    eps: Tensor
    clue: Clue_co


@dataclass(frozen=True)
class StepState(Generic[Clue_co]):
    """What one step knows before x_{t-1} is formed; tensors are [B, C, h, w], float32."""

    x_t: Tensor
    t: int
    step_index: int
    x0_pred: Tensor
    eps: Tensor
    sigma_t: float
    clue: Clue_co


class Denoise(Protocol[Clue_co]):
    """The first seam: any model, wrapped to one convention."""

    def __call__(self, x_t: Tensor, t: int, step_index: int) -> Denoised[Clue_co]:
        """Predict x0 and eps from x_t [B, C, h, w]."""
        ...


class StepNoise(Protocol[Clue_contra]):
    """The second seam: what sigma_t multiplies in eq. 3."""

    def __call__(self, state: StepState[Clue_contra]) -> Tensor | None:
        """A tensor [B, C, h, w] of unit variance per sample, or None for a step by eq. 4.

        A sample of zeros has no noise either: it alone steps by eq. 4.
        """
        ...


class AfterStep(Protocol[Clue_contra]):
    """Who looks on: for progress, previews or figures."""

    def __call__(self, state: StepState[Clue_contra], x_prev: Tensor) -> Tensor | None:
        """See a step's state and the x_{t-1} [B, C, h, w] that it led to.

        A tensor that is returned takes the place of x_{t-1}; an exception ends the process.
        """
        ...


@torch.no_grad()
def sample(
    denoise: Denoise[Clue],
    x_T: Tensor,
    timesteps: Sequence[int],
    schedule: Schedule,
    sigmas: Sequence[float],
    step_noise: StepNoise[Clue] | None = None,
    after_step: AfterStep[Clue] | None = None,
) -> Tensor:
    """Run the backward process from x_T [B, C, h, w] to x_0, by eq. 3 in every step.

    `sigmas` has one sigma_t per timestep; `step_noise=None` is the deterministic process (eq. 4),
    whatever the sigmas.
    """
    x_t = x_T
    steps = zip(step_pairs(timesteps), sigmas, strict=True)
    for step_index, ((t, t_prev), sigma_t) in enumerate(steps):
        denoised = denoise(x_t, t, step_index)
        state = StepState(
            x_t, t, step_index, denoised.x0_pred, denoised.eps, sigma_t, denoised.clue
        )
        noise = step_noise(state) if step_noise is not None and sigma_t > 0.0 else None
        alpha_prev = schedule.alpha(t_prev)
        x_t = ddim_step(denoised.x0_pred, denoised.eps, alpha_prev, sigma_t, noise)  # eq. 3
        if noise is not None:
            # sigma_t times nothing would lose sigma_t^2 of the variance: eq. 4 keeps it.
            still = ~noise.flatten(1).any(dim=1).view(-1, *[1] * (noise.ndim - 1))
            plain = ddim_step(denoised.x0_pred, denoised.eps, alpha_prev, 0.0, None)
            x_t = torch.where(still, plain, x_t)
        changed = after_step(state, x_t) if after_step is not None else None
        x_t = x_t if changed is None else changed
    return x_t
