"""Blended Latent Diffusion (Avrahami, Fried & Lischinski 2023) on a text-to-image model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from profi.baselines.baseline import Baseline, Inputs
from profi.inpainter import Progress, noise_of
from profi.method.ddim import noised, trailing_timesteps
from profi.method.level_masks import nearest
from profi.method.sampling import AfterStep, Denoise, StepState, TextToImageDenoiser, sample
from profi.models.backbone import Backbone, OnBackbone, backbone_identity, both_texts
from profi.models.schedule import CLEAN, Schedule
from profi.settings.evaluation import Noise
from profi.settings.method import Sampling
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
    """z_0 [B, C, h, w] by algorithm 1 of the paper, without the encoder and the decoder.

    The model paints inside the mask. Outside, every step puts the known latents back, noised to the
    level after this step; after the last step they are z_init itself.

    Args:
        denoise: the model with text and guidance.
        z_k: the start, [B, C, h, w] at the noise level of the first timestep.
        z_init: latents [B, C, h, w] of the given images.
        m: the mask, [B, 1, h, w] bool.
        noise: returns new N(0, 1) noise [B, C, h, w] in every call.
        timesteps: k, ..., descending.
        schedule: the model's schedule.
        after_step: called after every step; its result is ignored.
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
class BackgroundReconstruction:
    """Decodes z_0 with a decoder that is fitted to each picture's known part.

    For each picture, `steps` steps of Adam (learning rate `lr`) on a copy of the decoder D minimise

        ||(D(z_0) - x_hat) * m||^2 + weight * ||(D(z_0) - x) * (1 - m)||^2

    where x is the given image and x_hat the output of the unchanged decoder. With 0 steps the
    decoder is used unchanged. The copy is float32 and needs memory for weights and gradients.
    """

    steps: int = 0
    weight: float = 100.0
    lr: float = 1e-4

    def __call__(self, backbone: Backbone, z_0: Tensor, images: Tensor, masks: Tensor) -> Tensor:
        """Pictures [B, 3, H, W], float32 in [0, 1].

        Args:
            backbone: the model with the VAE; it is not changed.
            z_0: latents [B, C, h, w].
            images: x, [B, 3, H, W] in [0, 1].
            masks: m, [B, H, W] bool.
        """
        decoded = backbone.decode(z_0)
        if self.steps == 0:
            return decoded
        # One at a time: every picture has its own decoder.
        pictures = [
            self._fitted(backbone, z_0[i : i + 1], images[i], decoded[i], masks[i])
            for i in range(len(z_0))
        ]
        return torch.stack(pictures)

    def _fitted(
        self, backbone: Backbone, z_0: Tensor, x: Tensor, x_hat: Tensor, m: Tensor
    ) -> Tensor:
        vae = copy.deepcopy(backbone.vae).float().requires_grad_(False)
        theta = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
        optimizer = torch.optim.Adam([p.requires_grad_() for p in theta], lr=self.lr)
        # In the decoder's own range, [-1, 1].
        target = 2.0 * torch.where(m, x_hat, x) - 1.0
        factor = torch.where(m, 1.0, self.weight)
        z = z_0.float() / vae.config.scaling_factor
        with torch.enable_grad():
            for _ in range(self.steps):
                optimizer.zero_grad()
                loss = (factor * (vae.decode(z).sample[0] - target) ** 2).mean()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            return (vae.decode(z).sample[0] / 2 + 0.5).clamp(0.0, 1.0)


@dataclass(frozen=True)
class BlendedLatentDiffusion(OnBackbone, Baseline):
    """A `Row`: a latent text-to-image model that inpaints by blending.

    `skip` is the share of the first steps to skip: with 50 steps and 0.25, 38 steps are run.
    `start="noise"`: z_k is pure noise, as in the authors' script for Stable Diffusion 2.
    `start="known"`: z_k is the noised latents of the given image, as in the paper's algorithm; the
    old content of the hole then shows through. `background` fits the decoder to each picture's
    known part (see `BackgroundReconstruction`).
    """

    sampling: Sampling = field(default_factory=Sampling)
    skip: float = 0.25
    start: Start = "noise"
    background: BackgroundReconstruction = field(default_factory=BackgroundReconstruction)
    noise: Noise = "picture"

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
        draw = noise_of(inputs.seeds, self.noise, self.device)
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
        """The run's timesteps without the skipped ones."""
        T, n = self.backbone.schedule.num_train_timesteps, self.sampling.num_inference_steps
        return trailing_timesteps(T, n)[int(n * self.skip) :]
