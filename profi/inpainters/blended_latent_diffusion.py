"""Blended Latent Diffusion (Avrahami, Fried & Lischinski 2023): a text-to-image model inpaints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from profi.diffusion.ddim import noised
from profi.diffusion.sampling import AfterStep, Denoise, StepState, sample
from profi.diffusion.schedule import CLEAN, Schedule, trailing_timesteps
from profi.inpainters.background_reconstruction import BackgroundReconstruction
from profi.inpainters.base import Progress, Sampling, noise_of
from profi.inpainters.baseline import Baseline, Inputs
from profi.inpainters.denoiser import TextToImageDenoiser
from profi.inpainters.identity import backbone_identity
from profi.inpainters.masks import nearest
from profi.inpainters.on_backbone import OnBackbone, both_texts
from profi.types import UserError


def blend_latents(
    denoise: Denoise[None],
    z_k: Tensor,
    z_init: Tensor,
    m: Tensor,
    noise: Callable[[], Tensor],
    timesteps: Sequence[int],
    schedule: Schedule,
    after_step: AfterStep[None] | None = None,
) -> Tensor:
    """z_0 [B, C, h, w]: algorithm 1 of the paper, less the encoder and the decoder.

    In the mask the model paints; outside it every step puts the known latents back, noised to the
    level that the step leads to, so that after the last one they are z_init itself.

    Args:
        denoise: the model, text and guidance included.
        z_k: where it starts, [B, C, h, w] at the first timestep's level of noise.
        z_init: latents [B, C, h, w] of the given images.
        m: the mask, [B, 1, h, w] bool.
        noise: a fresh N(0, 1) [B, C, h, w] per call.
        timesteps: k, ..., descending.
        schedule: the model's.
        after_step: who looks on; what it returns is not used.
    """
    following = dict(zip(timesteps, (*timesteps[1:], CLEAN), strict=True))

    def blend(state: StepState[None], x_prev: Tensor) -> Tensor:
        z_fg = x_prev
        z_bg = noised(z_init, noise(), schedule.alpha(following[state.t]))
        z_t = torch.where(m, z_fg, z_bg)
        if after_step is not None:
            after_step(state, z_t)
        return z_t

    sigmas = (0.0,) * len(timesteps)
    return sample(denoise, z_k, timesteps, schedule, sigmas, after_step=blend)


Start = Literal["noise", "known"]


@dataclass(frozen=True)
class BlendedLatentDiffusion(OnBackbone, Baseline):
    """A `Row`: a latent text-to-image model that paints by blending.

    `skip` is the share of the first steps that are left out: of 50 steps and 0.25, 38 are done.
    `start`: at the first of them z_k is noise alone (as the authors' script for Stable Diffusion 2
    has it), or the given image's latents, noised (as the paper's algorithm has it: what was in the
    hole shines through). With `background` the decoder is fitted to each picture's known
    part (see there).
    """

    sampling: Sampling = field(default_factory=Sampling)
    skip: float = 0.25
    start: Start = "noise"
    background: BackgroundReconstruction = field(default_factory=BackgroundReconstruction)

    def __post_init__(self) -> None:
        if not 0.0 <= self.skip < 1.0:
            raise UserError(f"skip={self.skip}: a share of the steps, at least 0 and below 1")
        if self.start not in get_args(Start):
            raise UserError(f"start={self.start}: choose {' or '.join(get_args(Start))}")
        self._timesteps()

    @property
    def identity(self) -> dict[str, Any]:
        """See `Row`."""
        chosen = {"skip": self.skip, "start": self.start, "background": asdict(self.background)}
        return {
            **backbone_identity(self.backbone),
            "blended_latent_diffusion": chosen,
            "sampling": asdict(self.sampling),
        }

    def paint(self, inputs: Inputs, progress: Progress) -> Tensor:
        """See `Baseline`."""
        timesteps = self._timesteps()

        def report(state: StepState[None], x_prev: Tensor) -> None:
            progress(state.step_index + 1, len(timesteps))

        z_init = self.backbone.encode_images(inputs.signed(self.device))
        masks = inputs.masks.to(self.device)
        m = nearest(masks, self.backbone.latent_factor)
        schedule = self.backbone.schedule
        draw = noise_of(inputs.seeds, self.sampling.noise, self.device)
        noise = partial(draw, tuple(z_init.shape[1:]))
        z_k = noise()
        if self.start == "known":
            z_k = noised(z_init, z_k, schedule.alpha(timesteps[0]))
        denoise = TextToImageDenoiser(
            self.backbone,
            *both_texts(self.backbone, self.sampling, inputs.prompts, inputs.size),
            self.sampling.guidance_scale,
        )
        z_0 = blend_latents(denoise, z_k, z_init, m[:, None], noise, timesteps, schedule, report)
        given = inputs.images.to(self.device, torch.float32)
        return self.background(self.backbone, z_0, given, masks)

    def _timesteps(self) -> tuple[int, ...]:
        """The run's timesteps less the first `skip` of them."""
        T, n = self.backbone.schedule.num_train_timesteps, self.sampling.num_inference_steps
        return trailing_timesteps(T, n)[int(n * self.skip) :]
