"""Stable Inpainting with a method: the rows of Table 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from profi.fitting import Extent
from profi.inpainter import Progress, blended, check_finite, check_inputs, start_noise
from profi.method.attention import Plain, controlled
from profi.method.attention_objective import AttentionClue, ByKind, CrossAttentionCapture
from profi.method.ddim import trailing_timesteps
from profi.method.level_masks import MaskPyramid, mask_pyramid
from profi.method.methods import Method, MethodBatch, generators_of
from profi.method.sampling import AfterStep, Denoise, InpaintingDenoiser, StepState, sample
from profi.method.similarity_maps import Observed, SelfAttentionObserver, unobserved
from profi.method.sites import attention_sites
from profi.method.trace import Trace, TracedAttention, TracedNoise
from profi.models.backbone import OnBackbone, backbone_identity, both_texts
from profi.models.devices import exclusive
from profi.models.text import Conditioning
from profi.settings.evaluation import Noise
from profi.settings.method import Sampling
from profi.types import UserError


@dataclass(frozen=True)
class Given:
    """What a caller may give in place of what is made of prompts, settings and images.

    Fields:
        texts: the conditional and the unconditional branch's conditioning.
        words: ind(tau) [B, L] bool.
        guidance_scale: called in every step.
        masked: E(I_M) [B, C, h, w], scaled.
    """

    texts: tuple[Conditioning, Conditioning] | None = None
    words: Tensor | None = None
    guidance_scale: Callable[[], float] | None = None
    masked: Tensor | None = None


def outside_inference(tensor: Tensor) -> Tensor:
    """The tensor, copied if it was made in `torch.inference_mode()`: no gradient can pass it."""
    return tensor.clone() if tensor.is_inference() else tensor


@dataclass(frozen=True)
class StableInpainting(OnBackbone):
    """An `Inpainter`: a latent inpainting model, a method and the sampling settings.

    `noise` is the rule for the start noise (`Evaluation.noise`). After a call the UNet is restored,
    so several inpainters may share one UNet; threads wait for each other.
    """

    method: Method
    sampling: Sampling = field(default_factory=Sampling)
    noise: Noise = "picture"

    def __post_init__(self) -> None:
        timesteps = self._timesteps()
        if self.method.identity is not None:
            # Raise errors of the configuration before the first image.
            cell = torch.ones(1, 1, 1, dtype=torch.bool)
            masks = dict.fromkeys(self._factors, cell)
            schedule = self.backbone.schedule
            sites = attention_sites(self.backbone.unet)
            batch = MethodBatch(masks, timesteps, schedule, lambda: torch.ones(1, 1) > 0, sites)
            self.method.parts(batch)

    @property
    def identity(self) -> dict[str, Any]:
        """See `Row`."""
        if self.method.identity is None:
            raise UserError(
                f"the method {self.method.name} is a function, of which nothing can be recorded: "
                "paint with a Painter, or register it (docs/extending.md)"
            )
        return {
            **backbone_identity(self.backbone),
            "method": dict(self.method.identity),
            "sampling": asdict(self.sampling),
        }

    def __call__(
        self,
        images: Tensor,
        masks: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        progress: Progress | None = None,
        contents: Sequence[Extent] | None = None,
        observer: SelfAttentionObserver = unobserved,
        after_step: AfterStep[object] | None = None,
        trace: Trace | None = None,
    ) -> Tensor:
        """Paint a batch (see `Inpainter`).

        `observer` gets all self-attention, for figures such as `SimilarityMaps`. `after_step` is
        called after every step (see `latents`). `trace` records what the method did in each step.
        """
        check_inputs(images, masks, prompts, seeds, self.backbone.pixel_multiple)

        def report(state: StepState[object], x_prev: Tensor) -> Tensor | None:
            if progress is not None:
                progress(state.step_index + 1, self.sampling.num_inference_steps)
            return after_step(state, x_prev) if after_step is not None else None

        x_T = start_noise(seeds, self.latent_shape(images), self.noise)
        with exclusive(self.backbone.unet):
            x_0 = self.latents(images, masks, prompts, x_T, report, observer, contents, trace)
            return self.decode(x_0, images, masks)

    def latent_shape(self, images: Tensor) -> tuple[int, int, int]:
        """(C, h, w) of the latents of images [B, 3, H, W]."""
        H, W = images.shape[2:]
        factor = self.backbone.latent_factor
        return int(self.backbone.vae.config.latent_channels), H // factor, W // factor

    @torch.inference_mode(False)
    def latents(
        self,
        images: Tensor,
        masks: Tensor,
        prompts: Sequence[str],
        x_T: Tensor,
        after_step: AfterStep[object] | None = None,
        observer: SelfAttentionObserver = unobserved,
        contents: Sequence[Extent] | None = None,
        trace: Trace | None = None,
        given: Given | None = None,
    ) -> Tensor:
        """x_0 [B, C, h, w], float32, from x_T of the same shape: the sampling of `__call__`.

        The inputs must have passed `check_inputs`. `after_step` is called after every step and may
        change the latents of the next one (see `AfterStep`). `given` replaces what would be made
        of the prompts, the settings and the images. Works inside `torch.inference_mode()`, too.
        """
        device = self.backbone.device
        given = given or Given()
        pictures = outside_inference(images).to(device, torch.float32)
        pyramid = self._masks(outside_inference(masks).to(device), contents)
        x_T = outside_inference(x_T).to(device, torch.float32)
        timesteps, schedule = self._timesteps(), self.backbone.schedule
        # Level 1 is the mask channel, also for a UNet with attention at the latents' own size.
        levels = {**pyramid.levels, 1: pyramid.latent}
        batch = MethodBatch(
            levels,
            timesteps,
            schedule,
            lambda: self._words(prompts, given).to(device),
            attention_sites(self.backbone.unet),
            generators_of(x_T),
            observer,
            None if trace is None else trace.similarity,
            None if trace is None else trace.gradient,
        )
        parts = self.method.parts(batch)
        sigmas = parts.sigmas_of(len(timesteps))
        on_self = parts.self_attention or Observed(observer)
        on_cross = parts.cross_attention or Plain()
        capture: CrossAttentionCapture | None = None
        if parts.reads is not None:
            sites = attention_sites(self.backbone.unet)
            on_cross = capture = CrossAttentionCapture(sites, parts.reads, on_cross)
        size = (pictures.shape[2], pictures.shape[3])
        conditional, unconditional = given.texts or both_texts(
            self.backbone, self.sampling, prompts, size
        )
        denoise: Denoise[AttentionClue | None] = InpaintingDenoiser(
            backbone=self.backbone,
            condition=self._condition(pictures, pyramid, given.masked),
            conditional=conditional,
            unconditional=unconditional,
            guidance_scale=given.guidance_scale or (lambda: self.sampling.guidance_scale),
            guided=tuple(sigma > 0.0 or parts.wrap is not None for sigma in sigmas),
            capture=capture,
        )
        if parts.wrap is not None:
            denoise = parts.wrap(denoise)
        control, step_noise = ByKind(on_self, on_cross), parts.step_noise

        def look_on(state: StepState[AttentionClue | None], x_prev: Tensor) -> Tensor | None:
            changed = after_step(state, x_prev) if after_step is not None else None
            if trace is not None:
                trace.step(state, x_prev if changed is None else changed)
            return changed

        with controlled(
            self.backbone.unet, control if trace is None else TracedAttention(control, trace)
        ):
            if trace is not None:
                trace.begin(levels, batch.words)
                step_noise = step_noise and TracedNoise(step_noise, trace)
            return sample(denoise, x_T, timesteps, schedule, sigmas, step_noise, look_on)

    def decode(self, latents: Tensor, images: Tensor, masks: Tensor) -> Tensor:
        """Pictures [B, 3, H, W], float32 in [0, 1], on the CPU, from a batch's latents or x0_pred.

        `sampling.output` says whether they are blended with the given images. NotFiniteError if the
        model gives NaN.
        """
        painted = check_finite(self.backbone.decode(latents).cpu())
        return blended(painted, images.to("cpu"), masks.to("cpu"), self.sampling.output)

    def _timesteps(self) -> tuple[int, ...]:
        T = self.backbone.schedule.num_train_timesteps
        return trailing_timesteps(T, self.sampling.num_inference_steps)

    @property
    def _factors(self) -> list[int]:
        """The down-factors of the latents at which the UNet has attention."""
        return sorted({site.down_factor for site in attention_sites(self.backbone.unet)})

    def _masks(self, masks: Tensor, contents: Sequence[Extent] | None) -> MaskPyramid:
        reading = self.method.reading
        return mask_pyramid(
            masks,
            self.backbone.latent_factor,
            self._factors,
            reading.mask_resizing,
            reading.masked_image,
            contents,
        )

    def _words(self, prompts: Sequence[str], given: Given) -> Tensor:
        """ind(tau) [B, L] bool."""
        if given.words is not None:
            return given.words
        return self.backbone.text.words(prompts, self.sampling.positive_prompt)

    def _condition(self, pictures: Tensor, pyramid: MaskPyramid, masked: Tensor | None) -> Tensor:
        """[B, 5, h, w]: down(M) and E(I_M); the hole is 0 in [-1, 1], which is middle grey."""
        if masked is None:
            masked_images = (2.0 * pictures - 1.0) * ~pyramid.image[:, None]
            masked = self.backbone.encode_images(masked_images)
        latent = pyramid.latent[:, None].float()
        return torch.cat([latent, masked.to(latent.device, torch.float32)], dim=1)
