"""The upscaler's sampling with the known region in every step (appendix E, eq. 16).

legend    x_t, x0_pred, eps        X_t, X_0^pred, eps_theta^t(X_t)    latents [1, C, h, w]
          low                      I_low^c                            [1, 3, h, w] in [-1, 1]
          known                    X_0 = E(I)                         latents [1, C, h, w]
          M                        M_low                              [h, w] in [0, 1]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from profi.highres.latent_masks import latent_mask
from profi.highres.tiles import tiled
from profi.highres.upscaler import Upscaler
from profi.inpainter import check_finite, noise_of
from profi.method.ddim import classifier_free, noised, to_x0_eps, trailing_timesteps
from profi.method.sampling import Denoised, StepState, sample
from profi.models.devices import exclusive
from profi.models.tokens import with_suffix
from profi.settings.evaluation import Noise
from profi.settings.highres import FACTOR, HighRes
from profi.types import UserError

#: Called after every step with its number (from 1), and a function that decodes its x0_pred to
#: [3, H, W] in [0, 1].
AfterStep = Callable[[int, Callable[[], Tensor]], object]


@dataclass(frozen=True)
class GuidedDenoiser:
    """One step's x0_pred and eps (a `Denoise`): classifier-free guidance, then eq. 16.

    `texts` [2, L, D] are the unconditional and the conditional text, `low` has its noise of
    `level`. With M = None there is no eq. 16. `eps` stays that of the model unless `recomputed`.
    """

    upscaler: Upscaler
    low: Tensor
    level: int
    texts: Tensor
    known: Tensor | None
    M: Tensor | None
    guidance_scale: float
    tile: int | None = None
    overlap: int = 0
    recomputed: bool = False

    def __call__(self, x_t: Tensor, t: int, step_index: int) -> Denoised[None]:
        """Predict from x_t [1, C, h, w], float32."""
        schedule = self.upscaler.schedule
        alpha = schedule.alpha(t)
        seen = torch.cat([x_t, self.low], 1)
        output = tiled(partial(self._guided, t), seen, self.tile, self.overlap)
        x0_pred, eps = to_x0_eps(output, x_t, alpha, schedule.prediction_type)
        if self.M is not None and self.known is not None:
            x0_pred = self.M * x0_pred + (1.0 - self.M) * self.known  # eq. 16
            if self.recomputed:
                eps = (x_t - alpha**0.5 * x0_pred) / (1.0 - alpha) ** 0.5
        return Denoised(x0_pred, eps, None)

    def _guided(self, t: int, seen: Tensor, top: int, left: int) -> Tensor:
        """The model's output for a tile [1, C + 3, h, w], both branches combined."""
        unet = self.upscaler.unet
        pair = seen.expand(2, -1, -1, -1).to(unet.dtype)
        level = torch.full((2,), self.level, dtype=torch.long, device=seen.device)
        found = unet(pair, t, self.texts, class_labels=level).sample.float()
        uncond, cond = found.chunk(2)
        return classifier_free(uncond, cond, self.guidance_scale)


def upscale(
    upscaler: Upscaler,
    low: Tensor,
    image: Tensor,
    mask: Tensor,
    prompt: str,
    seed: int,
    settings: HighRes,
    noise: Noise = "picture",
    after_step: AfterStep | None = None,
) -> Tensor:
    """The large picture [3, H, W], float32 in [0, 1], on the CPU, before the Poisson step.

    Args:
        upscaler: the model.
        low: the painted low picture [3, H / 4, W / 4] in [0, 1], padded.
        image: I of eq. 16, the given large picture [3, H, W] in [0, 1], padded.
        mask: [H, W] bool, True = painted, padded.
        prompt: what was painted; the upscaler's suffix is appended.
        seed: of the noise: first that of the low picture, then x_T, from one CPU generator.
        settings: see `HighRes`.
        noise: see `Evaluation.noise`: with "run" the noise is rounded to half precision.
        after_step: see `AfterStep`; an exception ends the sampling.

    Raises UserError for sizes that do not fit, a noise level that the model does not have, a prompt
    that is too long; NotFiniteError if the model gives NaN.
    """
    _check(upscaler, low, image, mask, settings)
    h, w = low.shape[1:]
    device, tiling = upscaler.device, (settings.vae_tile, settings.overlap)
    draw = noise_of([int(seed)], noise, device)
    low_noise = draw((3, h, w))
    x_T = draw((int(upscaler.vae.config.latent_channels), h, w))
    alpha = upscaler.low_schedule.alpha(settings.noise_level)

    def decode(latents: Tensor) -> Tensor:
        return check_finite(decoded(upscaler, latents, *tiling).cpu())[0]

    def report(state: StepState[None], x_prev: Tensor) -> None:
        if after_step is not None:
            after_step(state.step_index + 1, lambda: decode(state.x0_pred))

    guided = settings.known == "eq16"
    with torch.inference_mode(), exclusive(upscaler.unet):
        known = encoded(upscaler, image, *tiling) if guided else None
        M = (
            latent_mask(mask, (h, w), settings.mask, settings.dilation, settings.blur).to(device)
            if guided
            else None
        )
        denoise = GuidedDenoiser(
            upscaler,
            noised(2.0 * low[None].to(device).float() - 1.0, low_noise, alpha),
            settings.noise_level,
            _texts(upscaler, prompt, settings),
            known,
            M,
            settings.guidance_scale,
            settings.tile,
            settings.overlap,
            settings.eps == "recomputed",
        )
        T = upscaler.schedule.num_train_timesteps
        timesteps = trailing_timesteps(T, settings.num_inference_steps)
        sigmas = [0.0] * len(timesteps)  # eq. 4
        x_0 = sample(denoise, x_T, timesteps, upscaler.schedule, sigmas, after_step=report)
        return decode(x_0)


def encoded(upscaler: Upscaler, image: Tensor, tile: int | None, overlap: int) -> Tensor:
    """E(I) [1, C, h, w] of a picture [3, H, W] in [0, 1]; tiles are measured in latents."""

    def piece(part: Tensor, top: int, left: int) -> Tensor:
        return upscaler.encode(part)

    pixels = None if tile is None else tile * FACTOR
    signed = 2.0 * image[None].to(upscaler.device).float() - 1.0
    return tiled(piece, signed, pixels, overlap * FACTOR, 1.0 / FACTOR)


def decoded(upscaler: Upscaler, latents: Tensor, tile: int | None, overlap: int) -> Tensor:
    """The picture [1, 3, H, W] in [0, 1] of latents [1, C, h, w]."""

    def piece(part: Tensor, top: int, left: int) -> Tensor:
        return upscaler.decode(part)

    images = tiled(piece, latents, tile, overlap, FACTOR)
    return images.div_(2).add_(0.5).clamp_(0.0, 1.0)


def _texts(upscaler: Upscaler, prompt: str, settings: HighRes) -> Tensor:
    """The unconditional and the conditional text [2, L, D] in the UNet's dtype."""
    suffix = settings.prompt_suffix
    full = with_suffix(prompt, upscaler.prompt_suffix if suffix is None else suffix)
    size = (0, 0)  # (a condition of SDXL alone)
    conditional = upscaler.text([full], size)
    unconditional = upscaler.text.unconditional(settings.negative_prompt, size, 1)
    return unconditional.stacked(conditional).to(upscaler.unet.dtype).context


def _check(upscaler: Upscaler, low: Tensor, image: Tensor, mask: Tensor, settings: HighRes) -> None:
    H, W = image.shape[1:]
    if tuple(FACTOR * side for side in low.shape[1:]) != (H, W) or mask.shape != image.shape[1:]:
        raise UserError(
            f"the low picture has {tuple(low.shape[1:])} pixels, the large one {(H, W)} and the "
            f"mask {tuple(mask.shape)}; the large ones must have {FACTOR} times the low one's sides"
        )
    multiple = upscaler.pixel_multiple
    if H % multiple or W % multiple:
        raise UserError(
            f"highres: {H}x{W} pixels are not a multiple of {multiple} that this upscaler needs; "
            f"set pad_multiple to a multiple of {multiple}"
        )
    check_settings(upscaler, settings)


def check_settings(upscaler: Upscaler, settings: HighRes, prompt: str | None = None) -> None:
    """UserError for settings that the upscaler does not have, or texts that are too long.

    To be called with the prompt before the small picture is painted; without one, the texts are not
    encoded.
    """
    multiple = upscaler.pixel_multiple
    if settings.pad_multiple % multiple:
        raise UserError(
            f"highres.pad_multiple={settings.pad_multiple}: this upscaler needs a multiple of "
            f"{multiple}"
        )
    if settings.noise_level >= upscaler.noise_levels:
        raise UserError(
            f"highres.noise_level={settings.noise_level}: this upscaler knows 0 to "
            f"{upscaler.noise_levels - 1}"
        )
    tiled_by = (settings.tile, settings.vae_tile) != (None, None)
    overlap = settings.overlap if tiled_by else None
    for name, tile in (("tile", settings.tile), ("overlap", overlap)):
        if tile is not None and tile % (multiple // FACTOR):
            raise UserError(
                f"highres.{name}={tile}: must be a multiple of {multiple // FACTOR} for this "
                "upscaler"
            )
    trailing_timesteps(upscaler.schedule.num_train_timesteps, settings.num_inference_steps)
    if prompt is not None:
        _texts(upscaler, prompt, settings)
