"""The sampling loop and its interfaces: the denoiser, the step noise and the step callback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from profi.method.ddim import ddim_step
from profi.method.schedule import step_pairs
from profi.models.schedule import Schedule

# Data that a denoiser passes to a step noise, such as the graph of its pass. The loop only passes
# it on; its form is agreed between the two.
Clue = TypeVar("Clue")
Clue_co = TypeVar("Clue_co", covariant=True)
Clue_contra = TypeVar("Clue_contra", contravariant=True)


@dataclass(frozen=True)
class Denoised(Generic[Clue_co]):
    """A denoiser's result: x0_pred and eps [B, C, h, w], float32, without a graph."""

    x0_pred: Tensor
    eps: Tensor
    clue: Clue_co


@dataclass(frozen=True)
class StepState(Generic[Clue_co]):
    """The state of a step before x_{t-1} is computed; tensors are [B, C, h, w], float32."""

    x_t: Tensor
    t: int
    step_index: int
    x0_pred: Tensor
    eps: Tensor
    sigma_t: float
    clue: Clue_co


class Denoise(Protocol[Clue_co]):
    """A denoiser: any model behind one interface."""

    def __call__(self, x_t: Tensor, t: int, step_index: int) -> Denoised[Clue_co]:
        """Predict x0 and eps from x_t [B, C, h, w]."""
        ...


class StepNoise(Protocol[Clue_contra]):
    """A step noise: the tensor that sigma_t multiplies in eq. 3."""

    def __call__(self, state: StepState[Clue_contra]) -> Tensor | None:
        """A tensor [B, C, h, w] of unit variance per sample, or None for a step by eq. 4.

        A sample of zeros has no noise; only this sample then steps by eq. 4.
        """
        ...


class AfterStep(Protocol[Clue_contra]):
    """A callback after every step, for progress, previews or figures."""

    def __call__(self, state: StepState[Clue_contra], x_prev: Tensor) -> Tensor | None:
        """Called with a step's state and its result x_{t-1} [B, C, h, w].

        If it returns a tensor, this replaces x_{t-1}. An exception ends the sampling.
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

    `sigmas` has one sigma_t per timestep. With `step_noise=None` the process is deterministic
    (eq. 4) and `sigmas` has no effect.
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
            # With zero noise eq. 3 would lose sigma_t^2 of the variance; eq. 4 keeps it.
            still = ~noise.flatten(1).any(dim=1).view(-1, *[1] * (noise.ndim - 1))
            plain = ddim_step(denoised.x0_pred, denoised.eps, alpha_prev, 0.0, None)
            x_t = torch.where(still, plain, x_t)
        changed = after_step(state, x_t) if after_step is not None else None
        x_t = x_t if changed is None else changed
    return x_t
