"""The method as a diffusers pipeline."""

# No `from __future__ import annotations`: diffusers reads the components' classes off __init__.
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from diffusers.schedulers import KarrasDiffusionSchedulers
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer

from profi.fitting import Extent, bytes_of, fit_mask, fit_picture
from profi.inpainter import check_inputs, precise
from profi.inputs import (
    image_tensor,
    mask_tensor,
    pil_image,
    several,
    several_masks,
)
from profi.method.inpainting import StableInpainting
from profi.method.methods import compose
from profi.method.sampling import StepState
from profi.models.backbone import Backbone
from profi.models.schedule import Schedule
from profi.models.text import PromptEncoder, TextTower
from profi.settings.evaluation import Evaluation, evaluation_of
from profi.settings.method import Sampling
from profi.settings.reading import DEFAULT_READING, Reading, reading_of
from profi.types import UserError

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


class _Interrupted(Exception):  # noqa: N818 (an outcome, not an error)
    """Ends the sampling early and carries the current latents."""

    def __init__(self, latents: Tensor) -> None:
        super().__init__()
        self.latents = latents


class ProFIPainterPipeline(DiffusionPipeline):  # type: ignore[misc]  # diffusers has no types
    """Stable Diffusion inpainting with PAIntA and RASG, as a diffusers pipeline.

    It has the components of a `StableDiffusionInpaintPipeline`: `from_pretrained` reads the same
    folders and repositories, and `from_pipe` shares the models of one. It saves, moves and offloads
    as other pipelines do, and it paints with the code of `StableInpainting`. The scheduler gives
    only the noise schedule and the prediction type; the sampler is always the paper's own DDIM.
    A call sets the models to inference mode. It runs the safety checker, if there is one.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"
    _optional_components = ["safety_checker", "feature_extractor"]
    _exclude_from_cpu_offload = ["safety_checker"]
    _callback_tensor_inputs = ["latents"]

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

    def __call__(
        self,
        prompt: str | list[str],
        image: Any,
        mask_image: Any,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = Sampling.num_inference_steps,
        guidance_scale: float = Sampling.guidance_scale,
        negative_prompt: str = "",
        positive_prompt: str = "",
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
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
            guidance_scale: of classifier-free guidance.
            negative_prompt: one text for all, in place of the empty one.
            positive_prompt: appended to every prompt.
            num_images_per_prompt: number of paintings per prompt.
            generator: of the start noise; a list has one per painting, and each painting then
                depends only on its own generator.
            latents: the start noise itself [B, C, h, w], N(0, 1).
            ablation: profi, painta_only, rasg_only, base or vanilla_only.
            reading: released, paper or your own `Reading`.
            evaluation: how images and masks are resized and pixels are rounded: ours, released or
                your own `Evaluation`; with noise=run the start noise is rounded to half precision.
            blended: put the resized image's pixels back outside the mask.
            output_type: pil, np, pt or latent.
            return_dict: False for a tuple (images, nsfw_content_detected).
            callback_on_step_end: called with (pipeline, step, t, {"latents": x_{t-1}}). If it
                returns latents, sampling continues from these. It may set `pipeline._interrupt`.
            callback_on_step_end_tensor_inputs: names of the tensors that the callback gets.

        Raises:
            UserError: invalid inputs, or components that do not fit together.
        """
        if output_type not in OUTPUT_TYPES:
            raise UserError(f"output_type={output_type}: choose one of {', '.join(OUTPUT_TYPES)}")
        if isinstance(callback_on_step_end, PipelineCallback | MultiPipelineCallbacks):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise UserError(
                f"callback_on_step_end_tensor_inputs: {', '.join(sorted(unknown))} is not "
                f"available; choose among {', '.join(self._callback_tensor_inputs)}"
            )
        chosen = reading_of(reading)
        protocol = evaluation_of(evaluation)
        self._interrupt = False
        self._guidance_scale, self._num_timesteps = guidance_scale, num_inference_steps
        inpainter = StableInpainting(
            self._backbone(),
            compose(ablation, chosen),
            Sampling(
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                positive_prompt=positive_prompt,
                negative_prompt=negative_prompt,
                output="blended" if blended else "unblended",
            ),
        )
        multiple = inpainter.backbone.pixel_multiple
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        texts = [text for text in texts for _ in range(num_images_per_prompt)]
        images, masks = _inputs(image, mask_image, (height, width), multiple, len(texts), protocol)
        check_inputs(images, masks, texts, range(len(texts)), multiple)
        shape = (len(texts), *inpainter.latent_shape(images))
        if latents is None:
            drawn = randn_tensor(shape, generator, inpainter.backbone.device, torch.float32)
            x_T = precise(drawn, protocol.noise)
        elif tuple(latents.shape) != shape:
            raise UserError(f"latents have the shape {tuple(latents.shape)}, not {shape}")
        else:
            x_T = latents

        with self.progress_bar(total=num_inference_steps) as bar:

            def after_step(state: StepState[object], x_prev: Tensor) -> Tensor:
                if callback_on_step_end is not None:
                    given = {"latents": x_prev} if callback_on_step_end_tensor_inputs else {}
                    returned = callback_on_step_end(self, state.step_index, state.t, given)
                    x_prev = (returned or {}).get("latents", x_prev)
                bar.update()
                if self._interrupt:
                    raise _Interrupted(x_prev)
                return x_prev

            try:
                x_0 = inpainter.latents(images, masks, texts, x_T, after_step)
            except _Interrupted as interrupted:
                x_0 = interrupted.latents

        found: list[bool] | None = None
        result: Any = x_0
        if output_type != "latent":
            result, found = self._checked(inpainter.decode(x_0, images, masks))
            if output_type == "np":
                result = VaeImageProcessor.pt_to_numpy(result)
            elif output_type == "pil":
                result = [pil_image(bytes_of(picture, protocol.bytes)) for picture in result]
        self.maybe_free_model_hooks()
        if not return_dict:
            return result, found
        return StableDiffusionPipelineOutput(images=result, nsfw_content_detected=found)

    def _backbone(self) -> Backbone:
        """The current components; each may have been replaced, moved or hooked since __init__."""
        device = self._execution_device
        return Backbone.from_parts(
            self.unet,
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


def _inputs(
    image: Any,
    mask_image: Any,
    requested: tuple[int | None, int | None],
    multiple: int,
    count: int,
    evaluation: Evaluation,
) -> tuple[Tensor, Tensor]:
    """Images [count, 3, H, W] in [0, 1] and masks [count, H, W] bool.

    `requested` is (height, width); None is the first image's. Both are rounded down to `multiple`.
    """
    images = [image_tensor(item) for item in several(image)]
    masks = [mask_tensor(item, "mask_image") for item in several_masks(mask_image)]
    for name, given in (("image", images), ("mask_image", masks)):
        if not given or count % len(given):
            raise UserError(
                f"{name}: {len(given)} given for {count} paintings; give one, or one per painting"
            )
    height, width = (
        (own if side is None else side) // multiple * multiple
        for side, own in zip(requested, images[0].shape[1:], strict=True)
    )
    if height < 1 or width < 1:
        raise UserError(
            f"image: this model paints images of at least {multiple}x{multiple} pixels; "
            "give a larger image, or height and width"
        )
    size: Extent = (height, width)
    fitted = torch.stack([fit_picture(item, size, evaluation.picture) for item in images])
    holes = torch.stack([fit_mask(item, size, evaluation.mask) for item in masks])
    return (
        fitted.repeat_interleave(count // len(fitted), dim=0),
        holes.repeat_interleave(count // len(holes), dim=0),
    )
