"""GLIDE (Nichol et al. 2021): inpainting at 64 pixels, then from 64 to 256.

OpenAI's package `glide_text2im` provides the models, their tokenizer and their noise schedules. The
sampling loop is here, because the package's loop draws the noise of a whole batch at once. Images
are in [-1, 1]. The models' masks are 1 where the image is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from profi.baselines.baseline import Baseline, Inputs
from profi.baselines.glide_stage import Diffusion, ModelFn, Stage
from profi.inpainter import Progress, noise_of
from profi.method.ddim import classifier_free
from profi.method.level_masks import nearest
from profi.models.tokens import with_suffix
from profi.settings.evaluation import Noise
from profi.settings.method import Sampling
from profi.types import UserError

SMALL, LARGE = 64, 256


@dataclass(frozen=True)
class GLIDE(Baseline):
    """A `Row`: GLIDE's inpainting model and its upsampler, for images of 256 x 256 pixels.

    `guidance_scale` is that of the 64-pixel model; `temperature` scales the upsampler's start
    noise. From `sampling` only the texts and `output` are used; the two diffusions have their own
    steps. The known part (by a mask of 64 x 64 cells, `nearest`) replaces that of every x0_pred,
    so it does not change.
    """

    #: `sampling`'s number of steps does not count.
    own_steps: ClassVar[bool] = True

    base: Stage
    upsampler: Stage
    device: torch.device
    sampling: Sampling = field(default_factory=Sampling)
    guidance_scale: float = 5.0
    temperature: float = 0.997
    noise: Noise = "picture"

    @property
    def pixel_multiple(self) -> int:
        """The images' sides must be multiples of this; 256 x 256 is the only size."""
        return LARGE

    @property
    def identity(self) -> dict[str, Any]:
        """See `Row`."""
        counting = ("positive_prompt", "negative_prompt", "output")
        stages = (self.base, self.upsampler)
        return {
            "backbone": {"weights": "+".join(stage.sha256 for stage in stages)},
            "glide": {
                "steps": [stage.steps for stage in stages],
                "guidance_scale": self.guidance_scale,
                "temperature": self.temperature,
            },
            "sampling": {name: asdict(self.sampling)[name] for name in counting},
        }

    def paint(self, inputs: Inputs, progress: Progress) -> Tensor:
        """See `Baseline`; UserError for sizes other than 256 x 256."""
        if inputs.size != (LARGE, LARGE):
            H, W = inputs.size
            raise UserError(
                f"images: {H}x{W}, and GLIDE paints {LARGE}x{LARGE}; fit them "
                f"(run.py: model.long_side={LARGE} model.pad_multiple={LARGE})"
            )
        steps = self.base.diffusion.num_timesteps
        total = steps + self.upsampler.diffusion.num_timesteps
        given = inputs.signed(self.device)
        small = functional.interpolate(
            given, size=(SMALL, SMALL), mode="bicubic", antialias=True
        ).clamp(-1.0, 1.0)
        holes = nearest(inputs.masks.to(self.device), LARGE // SMALL)
        keep = (~holes[:, None]).float()
        draw = noise_of(inputs.seeds, self.noise, self.device)
        full = [with_suffix(prompt, self.sampling.positive_prompt) for prompt in inputs.prompts]
        painted = self._paint_small(full, small, keep, draw, lambda done: progress(done, total))
        painted = self._enlarge(
            full,
            given,
            functional.interpolate(keep, scale_factor=LARGE // SMALL, mode="nearest"),
            painted,
            draw,
            lambda done: progress(steps + done, total),
        )
        return (painted / 2.0 + 0.5).clamp(0.0, 1.0)

    def _paint_small(
        self,
        prompts: Sequence[str],
        known: Tensor,
        keep: Tensor,
        draw: Callable[[tuple[int, ...]], Tensor],
        report: Callable[[int], None],
    ) -> Tensor:
        """[B, 3, 64, 64], with classifier-free guidance."""
        texts = self.base.tokens(
            [*prompts, *[self.sampling.negative_prompt] * len(prompts)], self.device
        )
        # The arguments of both branches, conditional first.
        pair = {
            **texts,
            "inpaint_image": torch.cat([known * keep] * 2),
            "inpaint_mask": torch.cat([keep] * 2),
        }
        model = guided(self.base.model, self.guidance_scale)
        start = draw((3, SMALL, SMALL))
        return p_sample_loop(model, self.base.diffusion, start, known, keep, pair, draw, report)

    def _enlarge(
        self,
        prompts: Sequence[str],
        known: Tensor,
        keep: Tensor,
        small: Tensor,
        draw: Callable[[tuple[int, ...]], Tensor],
        report: Callable[[int], None],
    ) -> Tensor:
        """[B, 3, 256, 256] from the small pictures, which are rounded to 8 bits as in training."""
        conditions = {
            **self.upsampler.tokens(prompts, self.device),
            "low_res": ((small + 1.0) * 127.5).round() / 127.5 - 1.0,
            "inpaint_image": known * keep,
            "inpaint_mask": keep,
        }
        start = draw((3, LARGE, LARGE)) * self.temperature
        return p_sample_loop(
            self.upsampler.model,
            self.upsampler.diffusion,
            start,
            known,
            keep,
            conditions,
            draw,
            report,
        )


def guided(model: ModelFn, guidance_scale: float) -> ModelFn:
    """The model with classifier-free guidance of eps and the variance of the conditional branch.

    The keyword arguments are for a pair of batches, conditional first.
    """

    def model_fn(x_t: Tensor, t: Tensor, **pair: Tensor) -> Tensor:
        output = model(torch.cat([x_t, x_t]), torch.cat([t, t]), **pair)
        cond, uncond = output.chunk(2)
        eps = classifier_free(uncond[:, :3], cond[:, :3], guidance_scale)
        return torch.cat([eps, cond[:, 3:]], dim=1)

    return model_fn


@torch.no_grad()
def p_sample_loop(
    model: ModelFn,
    diffusion: Diffusion,
    x_T: Tensor,
    known: Tensor,
    keep: Tensor,
    model_kwargs: Mapping[str, Tensor],
    draw: Callable[[tuple[int, ...]], Tensor],
    report: Callable[[int], None],
) -> Tensor:
    """x_0 [B, 3, H, W] by ancestral sampling (Ho et al. 2020, algorithm 2) from x_T.

    Where `keep` [B, 1, H, W] is 1, `known` replaces every x0_pred.
    """

    def denoised_fn(x0_pred: Tensor) -> Tensor:
        return x0_pred * (1.0 - keep) + known * keep

    x_t, shape = x_T, tuple(x_T.shape[1:])
    for i in reversed(range(diffusion.num_timesteps)):
        t = torch.full((len(x_t),), i, device=x_t.device, dtype=torch.long)
        step = diffusion.p_mean_variance(
            model,
            x_t,
            t,
            clip_denoised=True,
            denoised_fn=denoised_fn,
            model_kwargs=model_kwargs,
        )
        x_t = step["mean"]
        if i > 0:
            x_t = x_t + torch.exp(0.5 * step["log_variance"]) * draw(shape)
        report(diffusion.num_timesteps - i)
    return x_t
