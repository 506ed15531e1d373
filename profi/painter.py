"""The Python painter: `profi.load(model)(image, mask, prompt)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Unpack, overload

import torch
from PIL import Image

from profi.highres.enlarging import Enlarging, Segment
from profi.highres.guided import check_settings
from profi.highres.low import LowPainter
from profi.highres.segmenter import load_segmenter
from profi.highres.upscaler import Upscaler, load_upscaler
from profi.inputs import ImageLike, Job, MaskLike, batches, jobs_of
from profi.method.inpainting import StableInpainting
from profi.method.methods import Build, compose
from profi.method.similarity_maps import SelfAttentionObserver, unobserved
from profi.method.trace import Trace
from profi.models.backbone import Backbone, load_backbone, memory_format
from profi.models.compiled import CompiledBlocks
from profi.models.devices import exclusive, quiet_libraries, resolve_device
from profi.painting import (
    Callback,
    Cancel,
    Choices,
    LowChoices,
    OnProgress,
    Painting,
    check_cancelled,
    reporter,
)
from profi.settings.evaluation import Evaluation, evaluation_of
from profi.settings.highres import HighRes, highres_of
from profi.settings.method import DEFAULT_READING, Reading, Sampling, reading_of
from profi.settings.presets import model_source, models
from profi.types import UserError


@dataclass(frozen=True, repr=False)
class Painter:
    """Paints images of any size with one model.

    Images are fitted to `long_side` pixels and padded to a multiple of `pad_multiple`. Of a list,
    up to `batch_size` images with the same padded size are painted at once. Each result equals
    that of the image alone, up to float rounding. Threads may share a painter or its model: they
    paint one after the other. Raises UserError if the UNet cannot halve `pad_multiple`.
    """

    backbone: Backbone
    long_side: int = 512
    pad_multiple: int = 64
    batch_size: int = 4

    def __post_init__(self) -> None:
        multiple = self.backbone.pixel_multiple
        if self.pad_multiple < 1 or self.pad_multiple % multiple:
            raise UserError(
                f"pad_multiple={self.pad_multiple}: this model needs a multiple of {multiple}"
            )
        if self.batch_size < 1:
            raise UserError(f"batch_size={self.batch_size}: must be at least 1")

    def __repr__(self) -> str:
        unet = self.backbone.unet
        return (
            f"Painter({type(unet).__name__} of {unet.num_parameters() / 1e6:.0f} M parameters, "
            f"{unet.dtype}, on {self.backbone.device}, long_side={self.long_side}, "
            f"pad_multiple={self.pad_multiple}, batch_size={self.batch_size})"
        )

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a text is a sequence of texts, too
        self,
        image: ImageLike,
        mask: MaskLike,
        prompt: str,
        *,
        seed: int = 0,
        **choices: Unpack[Choices],
    ) -> Image.Image: ...

    @overload
    def __call__(
        self,
        image: ImageLike | Sequence[ImageLike],
        mask: MaskLike | Sequence[MaskLike],
        prompt: str | Sequence[str],
        *,
        seed: int | Sequence[int] = 0,
        **choices: Unpack[Choices],
    ) -> list[Image.Image]: ...

    def __call__(
        self,
        image: ImageLike | Sequence[ImageLike],
        mask: MaskLike | Sequence[MaskLike],
        prompt: str | Sequence[str],
        *,
        seed: int | Sequence[int] = 0,
        ablation: str | Build = "profi",
        reading: str | Reading = DEFAULT_READING,
        evaluation: str | Evaluation = "ours",
        steps: int = Sampling.num_inference_steps,
        guidance_scale: float = Sampling.guidance_scale,
        positive: str = "",
        negative: str = "",
        long_side: int | None = None,
        crop: int | None = None,
        feather: int = 0,
        blended: bool = True,
        progress: bool | OnProgress = False,
        callback: Callback | None = None,
        cancel: Cancel | None = None,
        trace: Trace | None = None,
        observer: SelfAttentionObserver = unobserved,
    ) -> Image.Image | list[Image.Image]:
        """Paint `prompt` into the masked part of `image`.

        Any of `image`, `mask`, `prompt` and `seed` may be a list; all lists have the same length.
        A single value is used for every picture, so one image with a list of seeds gives variants.

        Args:
            image: a PIL image, numpy array or tensor (see `image_tensor`).
            mask: the same types, in the image's size (see `mask_tensor`); white or True is painted.
            prompt: what to paint.
            seed: of the start noise, from 0 to 2^32 - 1.
            ablation: profi, painta_only, rasg_only, base or vanilla_only; or your own method
                (`MethodBatch` -> `MethodParts`).
            reading: released, paper or your own `Reading`.
            evaluation: how images and masks are fitted, noise is drawn and pixels are rounded:
                ours, released (the authors' evaluation) or your own `Evaluation`.
            steps: number of sampling steps, from 1 to 1000.
            guidance_scale: of classifier-free guidance.
            positive: appended to the prompt ("prompt, positive").
            negative: replaces the empty unconditional text.
            long_side: size in pixels at which to paint; None is the painter's own.
            crop: paint only the mask's surroundings, this many pixels around its bounding box, at
                `long_side`, and put them back: finer detail in small masks of large images.
            feather: let the painted pixels come in over so many pixels inside of the mask's edge.
            blended: keep the given pixels outside the mask, bit for bit.
            progress: True for a progress bar, or a function of (steps done, all steps).
            callback: see `Callback`.
            cancel: a `threading.Event` or a function; it is checked before every step.
            trace: records what the method did in every step (`Trace`), for one batch of pictures.
            observer: gets all self-attention, such as `SimilarityMaps` (eq. 12).

        Returns:
            A PIL image (RGB, 8 bits) in the given image's size; for a list, a list of images.

        Raises:
            UserError: an invalid argument, an empty mask or a prompt that is too long.
            Cancelled: `cancel` asked for it; the model is restored.
        """
        side = self.long_side if long_side is None else long_side
        if not isinstance(side, Integral):
            raise UserError(f"long_side={side!r}: give a whole number of pixels")
        protocol = evaluation_of(evaluation)
        size = (side, self.pad_multiple)
        jobs, alone = jobs_of(image, mask, prompt, seed, *size, protocol, crop, feather)
        inpainter = self._inpainter(
            ablation=ablation,
            reading=reading,
            evaluation=protocol,
            steps=steps,
            guidance_scale=guidance_scale,
            positive=positive,
            negative=negative,
        )
        parts = batches(jobs, self.batch_size)
        if trace is not None and len(parts) > 1:
            raise UserError(f"trace: {len(jobs)} pictures make {len(parts)} batches; paint fewer")
        total = steps * len(parts)
        with exclusive(self.backbone.unet), reporter(progress, total) as report:
            call = Painting(
                inpainter, jobs, alone, blended, total, report, callback, cancel, trace, observer
            )
            for part in parts:
                call.paint(part)
        return call.result(call.done)

    def highres(
        self,
        image: ImageLike,
        mask: MaskLike,
        prompt: str,
        *,
        upscaler: str | Path | Upscaler = "x4",
        highres: str | HighRes = "ours",
        segmenter: str | Path | Segment | None = None,
        seed: int = 0,
        progress: bool | OnProgress = False,
        cancel: Cancel | None = None,
        **choices: Unpack[LowChoices],
    ) -> Image.Image:
        """Paint `prompt` into the masked part of a large `image` (appendix E).

        The picture is painted small, enlarged four times by an upscaler that sees the known region
        in every step (eq. 16), and blended into `image` by Poisson's equation.

        Args:
            image: see `__call__`.
            mask: see `__call__`.
            prompt: what to paint.
            upscaler: an `Upscaler`, or the `source` of `load_upscaler`: mini, x4, a folder or a
                repository. (A source is loaded anew in every call.)
            highres: ours, released, paper, or your own `HighRes`.
            segmenter: narrows the mask to the old and the new object before the enlarging, so that
                the background in the mask stays the given one: a `Segmenter`, the `source` of
                `load_segmenter`, or a function (see `Segment`). None: the mask stays as it is.
            seed: of the start noise of both models.
            progress: True for a progress bar, or a function of (steps done, all steps) of both.
            cancel: see `__call__`; it is checked before every step of both.
            choices: see `__call__`; they are of the small picture. `highres="released"` follows the
                authors' code with `evaluation="released"`.

        Returns:
            A PIL image (RGB, 8 bits), in the given image's size unless `HighRes.result` is worked.

        Raises:
            UserError: see `__call__`; the upscaler or the segmenter cannot be loaded, or the
                upscaler does not fit the settings.
            Cancelled: `cancel` asked for it.
        """
        settings, protocol = highres_of(highres), evaluation_of(choices.get("evaluation", "ours"))
        # All mistakes are found before the first step.
        (job,), _ = jobs_of([image], [mask], [prompt], [seed], self.long_side, 1, protocol)
        if not isinstance(upscaler, Upscaler):
            upscaler = self.upscaler(upscaler)
        check_settings(upscaler, settings, prompt)
        if isinstance(segmenter, str | Path):
            with quiet_libraries():
                segmenter = load_segmenter(segmenter, self.backbone.device)
        small = choices.get("steps", Sampling.num_inference_steps)
        total = small + settings.num_inference_steps
        with reporter(progress, total) as report:

            def after(step: int) -> None:
                report(step, total)
                if step < total:
                    check_cancelled(cancel, step, total)

            check_cancelled(cancel, 0, total)
            work = self._enlarging(job, prompt, settings, protocol, after, choices)
            if segmenter is not None:
                work = work.narrowed(segmenter)
            large = work.upscaled(upscaler, prompt, seed, lambda step, _: after(small + step))
            return Image.fromarray(work.finished(large))

    def enlarging(
        self,
        image: ImageLike,
        mask: MaskLike,
        prompt: str,
        *,
        highres: str | HighRes = "ours",
        seed: int = 0,
        after_step: Callable[[int], object] = lambda step: None,
        **choices: Unpack[LowChoices],
    ) -> Enlarging:
        """The first half of `highres`: the small picture, painted, and all that enlarging it needs.

        `after_step` is called with the number of steps done. See `highres` for the rest.
        """
        settings, protocol = highres_of(highres), evaluation_of(choices.get("evaluation", "ours"))
        (job,), _ = jobs_of([image], [mask], [prompt], [seed], self.long_side, 1, protocol)
        return self._enlarging(job, prompt, settings, protocol, after_step, choices)

    def _enlarging(
        self,
        job: Job,
        prompt: str,
        settings: HighRes,
        evaluation: Evaluation,
        after_step: Callable[[int], object],
        choices: LowChoices,
    ) -> Enlarging:
        paint_low = LowPainter(
            self._inpainter(**choices),
            prompt,
            job.seed,
            self.pad_multiple,
            settings.low,
            evaluation,
            after_step,
        )
        return Enlarging.of(job.image, job.mask, paint_low, self.long_side, settings, evaluation)

    def _inpainter(
        self,
        *,
        ablation: str | Build = "profi",
        reading: str | Reading = DEFAULT_READING,
        evaluation: str | Evaluation = "ours",
        steps: int = Sampling.num_inference_steps,
        guidance_scale: float = Sampling.guidance_scale,
        positive: str = "",
        negative: str = "",
    ) -> StableInpainting:
        """The model with a method, for the choices that `__call__` explains."""
        sampling = Sampling(
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            positive_prompt=positive or "",
            negative_prompt=negative or "",
        )
        method = compose(ablation, reading_of(reading))
        noise = evaluation_of(evaluation).noise
        return StableInpainting(self.backbone, method, sampling, noise)

    def upscaler(self, source: str | Path = "x4") -> Upscaler:
        """An upscaler (see `load_upscaler`) in the painter's dtype and on its device."""
        name = str(self.backbone.unet.dtype).removeprefix("torch.")
        with quiet_libraries():
            return load_upscaler(source, self.backbone.device, name)


def load(
    model: str | Path = "mini",
    device: str | torch.device = "auto",
    dtype: str = "float32",
    long_side: int | None = None,
    compile: bool = False,
    channels_last: bool = False,
    vae_dtype: str = "auto",
) -> Painter:
    """A painter with a pre-trained inpainting model.

    Args:
        model: mini (ships with the package), sd15, sd2, dreamshaper8 or sdxl; a local folder in
            the diffusers layout; or a repository of the Hugging Face Hub (owner/name).
        device: auto (the best available), cpu, cuda, cuda:N or mps.
        dtype: of the UNet: float32, bfloat16 or float16.
        long_side: size in pixels at which to paint; None is the model's training size.
        compile: compile the UNet's blocks (`CompiledBlocks`). The first picture of each size takes
            minutes longer, so this pays off only for many pictures of one size.
        channels_last: use the channels-last memory format for UNet and VAE; faster on most GPUs.
        vae_dtype: of the VAE: auto (see `auto_vae_dtype`), float32, bfloat16 or float16.

    Raises UserError, without a long wait, if the model is missing or cannot be loaded.
    """
    source, place = model_source(model), resolve_device("device", str(device))
    with quiet_libraries():
        backbone = load_backbone(source, place, dtype, memory_format(channels_last), vae_dtype)
    if compile:
        CompiledBlocks(backbone.unet).install()
    known = models().get(str(model))
    if known is not None:
        return Painter(backbone, long_side or known.long_side, known.pad_multiple, known.batch_size)
    if long_side is None:
        # diffusers allows a number, (height, width) or nothing.
        size = backbone.unet.config.sample_size
        if size is None:
            raise UserError(f"{source} does not say at which size it was trained: give long_side")
        trained_at = max(size) if isinstance(size, list | tuple) else int(size)
        long_side = trained_at * backbone.latent_factor
    return Painter(backbone, long_side, backbone.pixel_multiple)
