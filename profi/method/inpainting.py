"""Stable Inpainting, plain or with the paper's two modules: four rows of Table 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from profi.fitting import Extent
from profi.inpainter import Progress, Sampling, blended, check_inputs, start_noise
from profi.method.ablations import Method
from profi.method.attention import AttentionControl, Plain, controlled
from profi.method.attention_objective import AttentionClue, AttentionObjective
from profi.method.capture import ByKind, CrossAttentionCapture
from profi.method.denoiser import InpaintingDenoiser
from profi.method.masks import MaskPyramid, mask_pyramid
from profi.method.own_method import MethodBatch, OwnMethod, parts_of
from profi.method.painta import PAIntA
from profi.method.rasg import RASG
from profi.method.sampling import AfterStep, Denoise, StepNoise, StepState, sample
from profi.method.schedule import sigma_schedule, trailing_timesteps
from profi.method.similarity_maps import Observed, SelfAttentionObserver, unobserved
from profi.method.sites import attention_sites, sites_at
from profi.method.trace import Trace, TracedAttention, TracedNoise
from profi.method.vanilla import VanillaGuidance
from profi.models.fingerprint import backbone_identity
from profi.models.backbone import OnBackbone, both_texts
from profi.types import UserError


@dataclass(frozen=True)
class StableInpainting(OnBackbone):
    """An `Inpainter`: a latent inpainting model, a method and how to sample.

    `own` is a method of one's own; `method` is then that of the ablation base, and says how masks
    are resized.
    Nothing of a call stays behind: the UNet is as it was, and two inpainters, even on one UNet,
    do not see each other (though not in two threads at once).
    """

    method: Method
    sampling: Sampling = field(default_factory=Sampling)
    own: OwnMethod | None = None

    def __post_init__(self) -> None:
        if self.own is not None and (self.method.painta or self.method.objective):
            raise UserError("a method of one's own takes the place of the others: use base with it")
        # Mistakes of the configuration show before the first image.
        self._sigmas()
        sites = attention_sites(self.backbone.unet)
        for factor in self.method.painta.down_factors if self.method.painta else ():
            sites_at(sites, "self", factor)
        if self.method.objective is not None:
            sites_at(sites, "cross", self.method.objective.down_factor)

    @property
    def identity(self) -> dict[str, Any]:
        """See `Row`."""
        if self.own is not None:
            raise UserError("a method of one's own cannot be recorded: paint with a Painter")
        return {
            **backbone_identity(self.backbone),
            "method": asdict(self.method),
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

        `observer` is shown all self-attention, for figures such as `SimilarityMaps`, `after_step`
        every step (see `latents`), and `trace` keeps what the method did in each of them.
        """
        check_inputs(images, masks, prompts, seeds, self.backbone.pixel_multiple)

        def report(state: StepState[object], x_prev: Tensor) -> Tensor | None:
            if progress is not None:
                progress(state.step_index + 1, self.sampling.num_inference_steps)
            return after_step(state, x_prev) if after_step is not None else None

        x_T = start_noise(seeds, self.latent_shape(images), self.sampling.noise)
        x_0 = self.latents(images, masks, prompts, x_T, report, observer, contents, trace)
        return self.decode(x_0, images, masks)

    def latent_shape(self, images: Tensor) -> tuple[int, int, int]:
        """(C, h, w) of the latents of images [B, 3, H, W]."""
        H, W = images.shape[2:]
        factor = self.backbone.latent_factor
        return int(self.backbone.vae.config.latent_channels), H // factor, W // factor

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
    ) -> Tensor:
        """x_0 [B, C, h, w], float32, from x_T of the same shape: `__call__` less its two ends.

        The inputs are those of `check_inputs`, which has been called. `after_step` sees every
        step and may change what the next one starts from (see `AfterStep`).
        """
        device = self.backbone.device
        given = images.to(device, torch.float32)
        masks = masks.to(device)
        pyramid = self._masks(masks, contents, trace)
        parts = self._parts(pyramid, prompts, observer, trace)
        size = (given.shape[2], given.shape[3])
        conditional, unconditional = both_texts(self.backbone, self.sampling, prompts, size)
        vanilla = self.method.vanilla
        denoise: Denoise[AttentionClue | None] = InpaintingDenoiser(
            backbone=self.backbone,
            condition=self._condition(given, pyramid),
            conditional=conditional,
            unconditional=unconditional,
            guidance_scale=self.sampling.guidance_scale,
            guided=tuple(sigma > 0.0 or vanilla is not None for sigma in parts.sigmas),
            capture=parts.capture,
        )
        if parts.objective is not None and vanilla is not None:
            schedule = self.backbone.schedule
            denoise = VanillaGuidance(denoise, parts.objective, vanilla.scale, schedule)

        def look_on(state: StepState[AttentionClue | None], x_prev: Tensor) -> Tensor | None:
            changed = after_step(state, x_prev) if after_step is not None else None
            if trace is not None:
                trace.step(state, x_prev if changed is None else changed)
            return changed

        x_T = x_T.to(device, torch.float32)
        timesteps, schedule = self._timesteps(), self.backbone.schedule
        with controlled(self.backbone.unet, parts.control):
            return sample(
                denoise, x_T, timesteps, schedule, parts.sigmas, parts.step_noise, look_on
            )

    def decode(self, latents: Tensor, images: Tensor, masks: Tensor) -> Tensor:
        """Pictures [B, 3, H, W], float32 in [0, 1], on the CPU, of a batch's latents.

        Also of an x0_pred on the way. Blended with the given images where the sampling says so.
        """
        painted = self.backbone.decode(latents).cpu()
        if self.sampling.output == "blended":
            painted = blended(painted, images.to("cpu"), masks.to("cpu"))
        return painted

    def _timesteps(self) -> tuple[int, ...]:
        T = self.backbone.schedule.num_train_timesteps
        return trailing_timesteps(T, self.sampling.num_inference_steps)

    def _sigmas(self) -> tuple[float, ...]:
        """sigma_t per step (eq. 11); zero, and so deterministic DDIM, in steps without RASG."""
        timesteps, rasg = self._timesteps(), self.method.rasg
        if rasg is None:
            return (0.0,) * len(timesteps)
        sigmas = sigma_schedule(self.backbone.schedule, timesteps, rasg.sigma, rasg.eta)
        return tuple(
            sigma_t if rasg.is_guided(i, len(sigmas)) else 0.0 for i, sigma_t in enumerate(sigmas)
        )

    def _masks(
        self, masks: Tensor, contents: Sequence[Extent] | None, trace: Trace | None
    ) -> MaskPyramid:
        factors = set(self.method.painta.down_factors if self.method.painta else ())
        if self.method.objective is not None:
            factors.add(self.method.objective.down_factor)
        if self.own is not None or trace is not None:
            factors |= {site.down_factor for site in attention_sites(self.backbone.unet)}
        return mask_pyramid(
            masks,
            self.backbone.latent_factor,
            sorted(factors),
            self.method.mask_resizing,
            self.method.masked_image,
            contents,
        )

    def _parts(
        self,
        pyramid: MaskPyramid,
        prompts: Sequence[str],
        observer: SelfAttentionObserver,
        trace: Trace | None,
    ) -> _Parts:
        """What takes part in the sampling of this batch.

        Only a method that reads ind(tau) refuses an empty prompt (a trace reads it, too).
        """
        method, own = self.method, self.own
        plain: AttentionControl = Observed(observer)
        if method.painta is None and method.objective is None and own is None and trace is None:
            return _Parts(ByKind(plain, Plain()), self._sigmas())
        words = self.backbone.text.words(prompts, self.sampling.positive).to(self.backbone.device)
        # Of a UNet that attends at the latents' own size too, 1 is the mask channel all the same.
        masks = {**pyramid.levels, 1: pyramid.latent}
        if own is None:
            parts = self._papers(pyramid, words, observer, trace)
        else:
            batch = MethodBatch(masks, words, self._timesteps(), self.backbone.schedule)
            given = parts_of(own, batch)
            sigmas = given.sigmas_of(len(batch.timesteps))
            capture = None if given.reads is None else self._capture(given.reads)
            control = ByKind(given.self_attention or plain, capture or Plain())
            parts = _Parts(control, sigmas, given.step_noise, capture)
        if trace is None:
            return parts
        trace.begin(masks, words)
        noise = parts.step_noise and TracedNoise(parts.step_noise, trace)
        return replace(parts, control=TracedAttention(parts.control, trace), step_noise=noise)

    def _papers(
        self,
        pyramid: MaskPyramid,
        words: Tensor,
        observer: SelfAttentionObserver,
        trace: Trace | None,
    ) -> _Parts:
        """Of the paper's modules those that the method has."""
        painta, settings = self.method.painta, self.method.objective
        on_self: AttentionControl = Observed(observer)
        if painta is not None:
            seen = None if trace is None else trace.similarity
            on_self = PAIntA(painta, pyramid.levels, words, observer, seen)
        if settings is None:
            return _Parts(ByKind(on_self, Plain()), self._sigmas())
        capture = self._capture(settings.down_factor)
        objective = AttentionObjective(settings, pyramid.flat(settings.down_factor), words)
        step_noise: RASG | None = None
        if self.method.rasg is not None:
            step_noise = RASG(objective, None if trace is None else trace.gradient)
        return _Parts(ByKind(on_self, capture), self._sigmas(), step_noise, capture, objective)

    def _capture(self, down_factor: int) -> CrossAttentionCapture:
        return CrossAttentionCapture(attention_sites(self.backbone.unet), down_factor)

    def _condition(self, given: Tensor, pyramid: MaskPyramid) -> Tensor:
        """[B, 5, h, w]: down(M) and E(I_M); the hole is 0 in [-1, 1], a middle grey."""
        masked_images = (2.0 * given - 1.0) * ~pyramid.image[:, None]
        latents = self.backbone.encode_images(masked_images)
        return torch.cat([pyramid.latent[:, None].float(), latents], dim=1)


@dataclass(frozen=True)
class _Parts:
    """What takes part in the sampling of one batch."""

    control: AttentionControl
    sigmas: tuple[float, ...]
    step_noise: StepNoise[AttentionClue | None] | None = None
    capture: CrossAttentionCapture | None = None
    objective: AttentionObjective | None = None
