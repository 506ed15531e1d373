"""The method as a diffusers pipeline."""

# No `from __future__ import annotations`: diffusers reads the components' classes off __init__.
from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders import (
    FromSingleFileMixin,
    StableDiffusionLoraLoaderMixin,
    TextualInversionLoaderMixin,
)
from diffusers.pipelines.pipeline_utils import StableDiffusionMixin
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from diffusers.schedulers import KarrasDiffusionSchedulers
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer

from profi.fitting import bytes_of
from profi.inpainter import check_inputs
from profi.inputs import pil_image
from profi.method.inpainting import Given, StableInpainting
from profi.method.methods import compose
from profi.method.sampling import StepState
from profi.models.backbone import Backbone, both_texts
from profi.models.devices import exclusive
from profi.models.schedule import Schedule
from profi.models.text import PromptEncoder, TextTower
from profi.pipeline_inputs import (
    Cropped,
    as_they_were,
    lora_scale,
    masked_of,
    pictures_of,
    plain,
    start_of,
    texts_of,
)
from profi.settings.evaluation import Evaluation, evaluation_of
from profi.settings.method import DEFAULT_READING, Reading, Sampling, reading_of
from profi.types import UserError

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


class _Interrupted(Exception):  # noqa: N818 (an outcome, not an error)
    """Ends the sampling early and carries the current latents."""

    def __init__(self, latents: Tensor) -> None:
        super().__init__()
        self.latents = latents


class ProFIPainterPipeline(  # type: ignore[misc]  # diffusers has no types
    DiffusionPipeline,
    StableDiffusionMixin,
    TextualInversionLoaderMixin,
    StableDiffusionLoraLoaderMixin,
    FromSingleFileMixin,
):
    """Stable Diffusion inpainting with PAIntA and RASG, as a diffusers pipeline.

    It has the components of a `StableDiffusionInpaintPipeline`: `from_pretrained` reads the same
    folders and repositories, and `from_pipe` shares the models of one. It saves, moves and offloads
    as other pipelines do, and it paints with the code of `StableInpainting`. The scheduler gives
    only the noise schedule and the prediction type; the sampler is always the paper's own DDIM.
    A call restores what it changes of the models. It runs the safety checker, if there is one.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"
    _optional_components = ["safety_checker", "feature_extractor"]
    _exclude_from_cpu_offload = ["safety_checker"]
    _callback_tensor_inputs = ["latents", "prompt_embeds"]

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: KarrasDiffusionSchedulers,
        safety_checker: StableDiffusionSafetyChecker = None,
        feature_extractor: CLIPImageProcessor = None,
    ) -> None:
        super().__init__()
        if safety_checker is not None and feature_extractor is None:
            raise UserError("the safety checker needs a feature_extractor; give both or neither")
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            safety_checker=safety_checker,
            feature_extractor=feature_extractor,
        )
        self._interrupt = False
        self._guidance_scale = Sampling.guidance_scale
        self._num_timesteps = 0

    @property
    def interrupt(self) -> bool:
        """Whether the run ends after this step; a callback sets `_interrupt`."""
        return self._interrupt

    @property
    def guidance_scale(self) -> float:
        """The guidance scale of the last call."""
        return self._guidance_scale

    @property
    def num_timesteps(self) -> int:
        """The number of steps of the last call."""
        return self._num_timesteps

    @torch.inference_mode(False)
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        image: Any = None,
        mask_image: Any = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = Sampling.num_inference_steps,
        guidance_scale: float = Sampling.guidance_scale,
        negative_prompt: str | list[str] | None = None,
        positive_prompt: str = "",
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        prompt_words: Tensor | None = None,
        masked_image_latents: Tensor | None = None,
        padding_mask_crop: int | None = None,
        clip_skip: int | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        ablation: str = "profi",
        reading: str | Reading = DEFAULT_READING,
        evaluation: str | Evaluation = "ours",
        blended: bool = False,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: (
            Callable[[Any, int, int, dict[str, Tensor]], dict[str, Tensor] | None] | None
        ) = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> StableDiffusionPipelineOutput | tuple[Any, list[bool] | None]:
        """Paint.

        Args:
            prompt: a text, or a list of B texts.
            image: as in other diffusers pipelines: a PIL image, an array [B, H, W, 3] or a tensor
                [B, 3, H, W] with floats in [0, 1], or a list; one for all prompts, or B.
            mask_image: the same types with one channel or no channel axis, of any size; white is
                painted.
            height, width: image and mask are resized to these; None is the image's own size,
                rounded down to a multiple that the UNet can halve (64 in Stable Diffusion).
            num_inference_steps: DDIM steps.
            guidance_scale: of classifier-free guidance; up to 1 the prompt's branch runs alone. A
                callback may set `pipeline._guidance_scale` for the steps that follow.
            negative_prompt: one text for all or one per prompt, in place of the empty one.
            positive_prompt: appended to every prompt.
            num_images_per_prompt: number of paintings per prompt.
            generator: of the start noise; a list has one per painting, and each painting then
                depends only on its own generator.
            latents: the start noise itself [B, C, h, w], N(0, 1).
            prompt_embeds, negative_prompt_embeds: the text encoder's outputs [N, L, D], in place of
                the texts.
            prompt_words: ind(tau) [N, L] bool of the embeddings, True at the words that guide;
                without it they are those of `prompt`.
            masked_image_latents: E(I_M) [B, C, h, w], scaled; None: encoded from the image.
            padding_mask_crop: paint only the mask's surroundings, this many pixels around it, at
                the full size, and paste them back; one PIL image and mask, output "pil".
            clip_skip: take the text encoder's states this many layers before the last.
            cross_attention_kwargs: {"scale": s}, the scale of LoRA weights.
            ablation: profi, painta_only, rasg_only, base or vanilla_only.
            reading: released, paper or your own `Reading`.
            evaluation: how images and masks are resized and pixels are rounded: ours, released or
                your own `Evaluation`; with noise=run the start noise is rounded to half precision.
            blended: put the resized image's pixels back outside the mask.
            output_type: pil, np, pt or latent.
            return_dict: False for a tuple (images, nsfw_content_detected).
            callback_on_step_end: called with (pipeline, step, t, {"latents": x_{t-1}}). If it
                returns latents, sampling continues from these. It may set `pipeline._interrupt`.
                `prompt_embeds`, [2 B, L, D] of both branches, can be looked at, not changed.
            callback_on_step_end_tensor_inputs: names of the tensors that the callback gets.

        Raises:
            UserError: invalid inputs, or components that do not fit together.
        """
        self._check(output_type, num_images_per_prompt, padding_mask_crop, (height, width))
        positive_prompt = positive_prompt or ""
        generator = list(generator) if isinstance(generator, tuple) else generator
        callback_on_step_end_tensor_inputs = callback_on_step_end_tensor_inputs or ()
        if isinstance(callback_on_step_end, PipelineCallback | MultiPipelineCallbacks):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise UserError(
                f"callback_on_step_end_tensor_inputs: {', '.join(sorted(unknown))} is not "
                f"available; choose among {', '.join(self._callback_tensor_inputs)}"
            )
        chosen, protocol = reading_of(reading), evaluation_of(evaluation)
        models = [self.unet, self.vae, self.text_encoder]
        scale = (cross_attention_kwargs or {}).get("scale")
        if set(cross_attention_kwargs or {}) - {"scale"}:
            raise UserError("cross_attention_kwargs: only scale (of LoRA weights) is supported")
        with exclusive(plain(self.unet)), as_they_were(models), lora_scale(models, scale):
            self._interrupt = False
            self._guidance_scale, self._num_timesteps = guidance_scale, num_inference_steps
            backbone = self._backbone()
            texts = texts_of(
                backbone,
                lambda text: self.maybe_convert_prompt(text, self.tokenizer),
                prompt,
                negative_prompt,
                positive_prompt,
                prompt_embeds,
                negative_prompt_embeds,
                prompt_words,
                num_images_per_prompt,
                clip_skip,
                lambda: self._guidance_scale,
            )
            inpainter = StableInpainting(
                backbone,
                compose(ablation, chosen),
                Sampling(
                    num_inference_steps=num_inference_steps,
                    guidance_scale=guidance_scale,
                    positive_prompt=positive_prompt,
                    negative_prompt=texts.negative,
                    output="blended" if blended else "unblended",
                ),
            )
            multiple, count = backbone.pixel_multiple, len(texts.prompts)
            cropped = Cropped.of(image, mask_image, (height, width), padding_mask_crop)
            images, masks = pictures_of(
                cropped.image,
                cropped.mask,
                cropped.size,
                multiple,
                (count // num_images_per_prompt, count),
                protocol,
            )
            check_inputs(images, masks, texts.prompts, range(count), multiple)
            shape = (count, *inpainter.latent_shape(images))
            x_T = start_of(shape, generator, latents, backbone.device, protocol.noise)
            both = texts.given.texts or both_texts(
                backbone, inpainter.sampling, texts.prompts, (images.shape[2], images.shape[3])
            )
            masked = masked_of(masked_image_latents, shape)
            given = replace(texts.given, texts=both, masked=masked)
            run = (inpainter, images, masks, texts.prompts, x_T, given)
            x_0 = self._sampled(*run, callback_on_step_end, callback_on_step_end_tensor_inputs)
            found: list[bool] | None = None
            result: Any = x_0
            if output_type != "latent":
                result, found = self._checked(inpainter.decode(x_0, images, masks))
                if output_type == "np":
                    result = VaeImageProcessor.pt_to_numpy(result)
                elif output_type == "pil":
                    pictures = [pil_image(bytes_of(one, protocol.bytes)) for one in result]
                    result = [cropped.pasted(one) for one in pictures]
            self.maybe_free_model_hooks()
        if not return_dict:
            return result, found
        return StableDiffusionPipelineOutput(images=result, nsfw_content_detected=found)

    def _check(
        self,
        output_type: str,
        per_prompt: int,
        crop: int | None,
        size: tuple[int | None, int | None],
    ) -> None:
        if output_type not in OUTPUT_TYPES:
            raise UserError(f"output_type={output_type}: choose one of {', '.join(OUTPUT_TYPES)}")
        if crop is not None and output_type != "pil":
            raise UserError(
                f"output_type={output_type}: padding_mask_crop pastes into PIL images; choose pil"
            )
        for name, side in zip(("height", "width"), size, strict=True):
            if side is not None and not isinstance(side, Integral):
                raise UserError(f"{name}={side!r}: give a whole number of pixels")
        if not isinstance(per_prompt, int) or per_prompt < 1:
            raise UserError(f"num_images_per_prompt={per_prompt}: give a whole number from 1")
        if not isinstance(self.vae, AutoencoderKL):
            raise UserError(
                f"the VAE is of class {type(self.vae).__name__}; this pipeline decodes with an "
                "AutoencoderKL, so give the model's usual one"
            )

    def _sampled(
        self,
        inpainter: StableInpainting,
        images: Tensor,
        masks: Tensor,
        prompts: Sequence[str],
        x_T: Tensor,
        given: Given,
        callback: Callable[[Any, int, int, dict[str, Tensor]], dict[str, Tensor] | None] | None,
        tensors: Sequence[str],
    ) -> Tensor:
        """x_0, or the latents at which a callback interrupted."""
        assert given.texts is not None
        conditional, unconditional = given.texts
        embeds = torch.cat([unconditional.context, conditional.context])
        with self.progress_bar(total=inpainter.sampling.num_inference_steps) as bar:

            def after_step(state: StepState[object], x_prev: Tensor) -> Tensor:
                if callback is not None:
                    available = {"latents": x_prev, "prompt_embeds": embeds}
                    shown = {name: available[name] for name in tensors}
                    returned = callback(self, state.step_index, state.t, shown)
                    x_prev = (returned or {}).get("latents", x_prev)
                bar.update()
                if self._interrupt:
                    raise _Interrupted(x_prev)
                return x_prev

            try:
                return inpainter.latents(images, masks, prompts, x_T, after_step, given=given)
            except _Interrupted as interrupted:
                return interrupted.latents

    def _backbone(self) -> Backbone:
        """The current components; each may have been replaced, moved or hooked since __init__."""
        device = self._execution_device
        return Backbone.from_parts(
            plain(self.unet),
            self.vae,
            PromptEncoder(TextTower(self.text_encoder, self.tokenizer, device)),
            Schedule.from_config(self.scheduler.config),
            execution_device=device,
        )

    def _checked(self, painted: Tensor) -> tuple[Tensor, list[bool] | None]:
        """Images [B, 3, H, W] after the safety checker, and its verdicts; it blackens some."""
        if self.safety_checker is None:
            return painted, None
        device = self._execution_device
        pictures = VaeImageProcessor.numpy_to_pil(VaeImageProcessor.pt_to_numpy(painted))
        pixels = self.feature_extractor(pictures, return_tensors="pt").pixel_values
        dtype = next(self.safety_checker.parameters()).dtype
        return self.safety_checker(images=painted, clip_input=pixels.to(device, dtype))
