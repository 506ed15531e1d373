"""The inpainting UNet, wrapped to the sampling loop's convention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from profi.attention.capture import CrossAttentionCapture
from profi.attention.control import Branch, UNetPass
from profi.diffusion.ddim import classifier_free, to_x0_eps
from profi.diffusion.sampling import Denoised
from profi.guidance.attention_objective import AttentionClue
from profi.inpainters.backbone import Backbone
from profi.inpainters.text import Conditioning

# Of a float16 UNet: the power of two by which the objective's gradient is carried larger.
FLOAT16_LOSS_SCALE = 1024.0


@dataclass(frozen=True)
class InpaintingDenoiser:
    """eps_theta([x_t, down(M), E(I_M)], tau) with classifier-free guidance.

    Two runs of the UNet per step, the conditional one first: PAIntA's c comes from it, and only
    it ever has a graph. Latents and all that is made of them are float32; only the UNet's own
    inputs are cast to its dtype.

    Fields:
        condition: [B, 5, h, w], mask channel and masked image's latents.
        conditional, unconditional: the two branches' texts.
        guided: per step, whether a guidance will want the attention's gradient; only there a
            graph is built.
        capture: where the guidance's attention is read, already installed in the UNet; None
            without guidance.
    """

    backbone: Backbone
    condition: Tensor
    conditional: Conditioning
    unconditional: Conditioning
    guidance_scale: float
    guided: tuple[bool, ...]
    capture: CrossAttentionCapture | None

    def __call__(self, x_t: Tensor, t: int, step_index: int) -> Denoised[AttentionClue | None]:
        """x0_pred and eps of x_t [B, C, h, w]; in guided steps the attention with its graph."""
        guided = self.capture is not None and self.guided[step_index]
        leaf = x_t.detach().requires_grad_(guided)
        # The exit of this context also undoes the capture's cut (see CrossAttentionCapture).
        with torch.set_grad_enabled(guided):
            cond = self._run(leaf, t, step_index, Branch.CONDITIONAL).detach()
        logits = self.capture.take() if self.capture is not None else ()
        with torch.no_grad():
            uncond = self._run(x_t, t, step_index, Branch.UNCONDITIONAL)
            output = classifier_free(uncond, cond, self.guidance_scale)
            schedule = self.backbone.schedule
            x0_pred, eps = to_x0_eps(output, x_t, schedule.alpha(t), schedule.prediction_type)
        loss_scale = FLOAT16_LOSS_SCALE if self.backbone.unet.dtype == torch.float16 else 1.0
        return Denoised(x0_pred, eps, AttentionClue(leaf, logits, loss_scale) if guided else None)

    def _run(self, x_t: Tensor, t: int, step_index: int, branch: Branch) -> Tensor:
        unet = self.backbone.unet
        text = self.conditional if branch is Branch.CONDITIONAL else self.unconditional
        unet_pass = UNetPass(branch, t, step_index, len(self.guided))
        output: Tensor = unet(
            torch.cat([x_t, self.condition], dim=1).to(unet.dtype),
            t,
            **text.kwargs(),
            cross_attention_kwargs=unet_pass.kwargs(),
        ).sample
        return output.float()
