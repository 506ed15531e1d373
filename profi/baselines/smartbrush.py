"""SmartBrush (Xie et al. 2023), reproduced: noise only in the hole, masks of a given precision.

Its UNet takes x_t with clean latents around the hole, the mask, the masked image's latents, and the
mask's precision level s as a class label. In addition to its prediction it gives the logits of a
mask of the painted object. `profi.training` trains such UNets.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from profi.baselines.baseline import Baseline, Inputs
from profi.inpainter import Progress, start_noise
from profi.method.ddim import classifier_free, to_x0_eps, trailing_timesteps
from profi.method.sampling import Denoised, StepState, sample
from profi.models.backbone import Backbone, OnBackbone, backbone_identity, both_texts
from profi.models.text import Conditioning
from profi.models.unet_role import UNetRole
from profi.settings.evaluation import Noise
from profi.settings.method import Sampling
from profi.types import UserError

SMARTBRUSH = UNetRole(
    2,
    1,
    "latents, mask, masked image",
    "a SmartBrush UNet (docs/smartbrush.md says how to train one)",
    masks_out=1,
    conditions=("num_class_embeds",),
)
Composition = Literal["given_mask", "predicted_mask"]


def to_latents(masks: Tensor, factor: int) -> Tensor:
    """[B, H, W] bool -> [B, 1, H / factor, W / factor] bool: a cell with a masked pixel is masked.

    So no object vanishes, and cells outside the mask contain only known pixels.
    """
    return functional.max_pool2d(masks[:, None].float(), factor) > 0.5


def noised_inside(x_t: Tensor, known: Tensor, mask: Tensor) -> Tensor:
    """x_t inside the mask [B, 1, h, w], the clean known latents outside: [B, C, h, w]."""
    return torch.where(mask, x_t, known)


def unet_input(x_t: Tensor, known: Tensor, mask: Tensor) -> Tensor:
    """[B, 2 C + 1, h, w]: x_t (with noise only inside the mask), mask, known."""
    return torch.cat([noised_inside(x_t, known, mask), mask.to(x_t.dtype), known], dim=1)


@dataclass(frozen=True)
class SmartBrushDenoiser:
    """eps_theta([x_t, m, E(I_M)], tau, s) with classifier-free guidance.

    The clue of a step is the mask predicted in the conditional branch: probabilities [B, 1, h, w].

    Fields:
        known: E(I_M) [B, C, h, w].
        mask: [B, 1, h, w] bool.
        level: s.
        conditional, unconditional: the two branches' texts.
    """

    backbone: Backbone
    known: Tensor
    mask: Tensor
    level: int
    conditional: Conditioning
    unconditional: Conditioning
    guidance_scale: float

    def __call__(self, x_t: Tensor, t: int, step_index: int) -> Denoised[Tensor]:
        """x0_pred and eps of x_t [B, C, h, w]; they have no meaning outside the mask."""
        unet, schedule = self.backbone.unet, self.backbone.schedule
        inputs = unet_input(x_t, self.known, self.mask).to(unet.dtype)
        text = self.unconditional.stacked(self.conditional)
        levels = torch.full((2 * len(x_t),), self.level, device=x_t.device)
        output = unet(torch.cat([inputs, inputs]), t, **text.kwargs(), class_labels=levels).sample
        uncond, cond = output.float().chunk(2)
        C = x_t.shape[1]
        # Up to 1 the prompt's branch alone counts, as in every row.
        combined = classifier_free(uncond[:, :C], cond[:, :C], max(1.0, self.guidance_scale))
        x0_pred, eps = to_x0_eps(combined, x_t, schedule.alpha(t), schedule.prediction_type)
        return Denoised(x0_pred, eps, cond[:, C:].sigmoid())


@dataclass(frozen=True)
class SmartBrush(OnBackbone, Baseline):
    """A `Row`: SmartBrush with one precision level for all masks and a composition.

    `level` is the masks' precision, from 0 (the object's outline) to S (its box). `composition` is
    the region that is replaced in the final latents. "given_mask": the whole mask.
    "predicted_mask": only the part in which the model predicts the object in the last step; the
    rest of the hole shows the given image. In a benchmark whose images still contain the masked
    object this would reveal the answer, so use "given_mask" there.
    """

    sampling: Sampling = field(default_factory=Sampling)
    level: int = 2
    composition: Composition = "given_mask"
    noise: Noise = "picture"

    def __post_init__(self) -> None:
        if self.composition not in get_args(Composition):
            raise UserError(
                f"composition {self.composition!r} is unknown; "
                f"choose {' or '.join(get_args(Composition))}"
            )
        coarsest = int(self.backbone.unet.config.num_class_embeds) - 1
        if not 0 <= self.level <= coarsest:
            raise UserError(
                f"level={self.level}: this SmartBrush knows the precisions 0 (exact) to "
                f"{coarsest} (box)"
            )
        self._timesteps()

    @property
    def identity(self) -> dict[str, Any]:
        """See `Row`."""
        return {
            **backbone_identity(self.backbone),
            "smartbrush": {"level": self.level, "composition": self.composition},
            "sampling": asdict(self.sampling),
        }

    def paint(self, inputs: Inputs, progress: Progress) -> Tensor:
        """See `Baseline`."""
        x_0, predicted = self.latents(inputs, progress)
        painted = to_latents(inputs.masks.to(self.device), self.backbone.latent_factor)
        if self.composition == "predicted_mask":
            painted = painted & (predicted > 0.5)
        # The UNet gets the masked image's latents. The picture gets those of the given image, which
        # have no grey at the hole's edge.
        z_init = self.backbone.encode_images(inputs.signed(self.device))
        return self.backbone.decode(torch.where(painted, x_0, z_init))

    def latents(self, inputs: Inputs, progress: Progress) -> tuple[Tensor, Tensor]:
        """Paint the latents.

        Returns:
            x_0 [B, C, h, w], which is E(I_M) outside the mask, and the predicted mask of the last
            step, probabilities [B, 1, h, w]. Neither depends on the images' content in the holes.
        """
        masks = inputs.masks.to(self.device)
        mask = to_latents(masks, self.backbone.latent_factor)
        known = self.backbone.encode_images(inputs.signed(self.device) * ~masks[:, None])
        denoise = SmartBrushDenoiser(
            self.backbone,
            known,
            mask,
            self.level,
            *both_texts(self.backbone, self.sampling, inputs.prompts, inputs.size),
            self.sampling.guidance_scale,
        )
        timesteps = self._timesteps()
        predicted = [mask.float()]

        def keep_known(state: StepState[Tensor], x_prev: Tensor) -> Tensor:
            predicted[0] = state.clue
            progress(state.step_index + 1, len(timesteps))
            return noised_inside(x_prev, known, mask)

        shape = tuple(known.shape[1:])
        noise = start_noise(inputs.seeds, shape, self.noise).to(self.device)
        x_T = noised_inside(noise, known, mask)
        sigmas = (0.0,) * len(timesteps)
        schedule = self.backbone.schedule
        x_0 = sample(denoise, x_T, timesteps, schedule, sigmas, after_step=keep_known)
        return x_0, predicted[0]

    def _timesteps(self) -> tuple[int, ...]:
        T = self.backbone.schedule.num_train_timesteps
        return trailing_timesteps(T, self.sampling.num_inference_steps)
