"""The sampling loop, its interfaces (step noise, step callback), and the denoisers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from profi.method.attention import Branch, UNetPass
from profi.method.attention_objective import AttentionClue, CrossAttentionCapture
from profi.method.ddim import classifier_free, ddim_step, step_pairs, to_x0_eps
from profi.models.backbone import Backbone
from profi.models.schedule import Schedule
from profi.models.text import Conditioning

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


# The power of two that scales the objective's gradient in a float16 UNet.
FLOAT16_LOSS_SCALE = 1024.0


@dataclass(frozen=True)
class InpaintingDenoiser:
    """eps_theta([x_t, down(M), E(I_M)], tau) with classifier-free guidance.

    A step without attention guidance runs the UNet once, with both branches as a pair. A guided
    step runs it twice: first the conditional branch with a graph, then the unconditional branch
    without a graph, which uses PAIntA's c of the first run. Latents are float32; only the UNet's
    inputs are cast to its dtype.

    Fields:
        condition: [B, 5, h, w], mask channel and masked image's latents.
        conditional, unconditional: the texts of the two branches.
        guidance_scale: called in every step; up to 1 only the conditional branch runs.
        guided: per step, whether the guidance needs the attention's gradient; only these steps
            build a graph.
        capture: records the attention for the guidance; it is already installed in the UNet. None
            without guidance.
    """

    backbone: Backbone
    condition: Tensor
    conditional: Conditioning
    unconditional: Conditioning
    guidance_scale: Callable[[], float]
    guided: tuple[bool, ...]
    capture: CrossAttentionCapture | None

    def __call__(self, x_t: Tensor, t: int, step_index: int) -> Denoised[AttentionClue | None]:
        """x0_pred and eps of x_t [B, C, h, w]; guided steps also give the attention and graph."""
        clue: AttentionClue | None = None
        scale = self.guidance_scale()
        if self.capture is not None and self.guided[step_index]:
            output, clue = self._guided(self.capture, x_t, t, step_index, scale)
        elif scale <= 1.0:
            output = self._run(x_t, t, step_index, Branch.CONDITIONAL)
        else:
            uncond, cond = self._run(x_t, t, step_index, Branch.PAIR).chunk(2)
            output = classifier_free(uncond, cond, scale)
        schedule = self.backbone.schedule
        x0_pred, eps = to_x0_eps(output, x_t, schedule.alpha(t), schedule.prediction_type)
        return Denoised(x0_pred, eps, clue)

    def _guided(
        self, capture: CrossAttentionCapture, x_t: Tensor, t: int, step_index: int, scale: float
    ) -> tuple[Tensor, AttentionClue]:
        """The branches' output, and the conditional one's attention."""
        leaf = x_t.detach().requires_grad_()
        # The exit also restores the gradient mode that the capture turned off.
        with torch.enable_grad():
            cond = self._run(leaf, t, step_index, Branch.CONDITIONAL).detach()
        output = cond
        if scale > 1.0:
            uncond = self._run(x_t, t, step_index, Branch.UNCONDITIONAL)
            output = classifier_free(uncond, cond, scale)
        loss_scale = FLOAT16_LOSS_SCALE if self.backbone.unet.dtype == torch.float16 else 1.0
        return output, AttentionClue(leaf, capture.take(), loss_scale)

    def _run(self, x_t: Tensor, t: int, step_index: int, branch: Branch) -> Tensor:
        unet = self.backbone.unet
        inputs = torch.cat([x_t, self.condition], dim=1).to(unet.dtype)
        text = self.unconditional if branch is Branch.UNCONDITIONAL else self.conditional
        if branch is Branch.PAIR:
            inputs = torch.cat([inputs, inputs])
            text = self.unconditional.stacked(self.conditional)
        unet_pass = UNetPass(branch, t, step_index, len(self.guided))
        output: Tensor = unet(
            inputs, t, **text.kwargs(), cross_attention_kwargs=unet_pass.kwargs()
        ).sample
        return output.float()


@dataclass(frozen=True)
class TextToImageDenoiser:
    """eps_theta(x_t, tau) of a text-to-image UNet, with classifier-free guidance.

    `conditional` and `unconditional` are the texts of the two branches, for the batch. With a scale
    of at most 1 only the conditional branch runs.
    """

    backbone: Backbone
    conditional: Conditioning
    unconditional: Conditioning
    guidance_scale: float

    def __call__(self, x_t: Tensor, t: int, step_index: int) -> Denoised[None]:
        """x0_pred and eps of x_t [B, C, h, w]."""
        unet, schedule = self.backbone.unet, self.backbone.schedule
        if self.guidance_scale <= 1.0:
            output = unet(x_t.to(unet.dtype), t, **self.conditional.kwargs()).sample.float()
        else:
            inputs = torch.cat([x_t, x_t]).to(unet.dtype)
            text = self.unconditional.stacked(self.conditional)
            uncond, cond = unet(inputs, t, **text.kwargs()).sample.float().chunk(2)
            output = classifier_free(uncond, cond, self.guidance_scale)
        x0_pred, eps = to_x0_eps(output, x_t, schedule.alpha(t), schedule.prediction_type)
        return Denoised(x0_pred, eps, None)
