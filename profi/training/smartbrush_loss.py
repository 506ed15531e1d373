"""SmartBrush's model and loss (Xie et al. 2023; paper, sec. 4.2), and its masks of a precision.

legend    latents   x_0    [B, 4, h, w]    encoded image
          mask      m_s    [B, 1, h, w]    the hole at precision level s, True = inpaint
          exact     m      [B, 1, h, w]    the object's own mask, within m_s
          levels    s      [B]             0 (exact) to S (box)
          known     E(I_M) [B, 4, h, w]    the masked image's latents

m_s = (blur(m, sigma_s) > threshold), united with the finer levels and kept within the box, so that
m = m_0, m_0 within m_1 within ... within m_S = box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor

from profi.baselines.smartbrush import unet_input
from profi.types import UserError


def boxes(masks: Tensor) -> Tensor:
    """The filled bounding boxes of masks [B, H, W] bool; an empty mask's is empty."""
    return _spans(masks.any(2))[:, :, None] & _spans(masks.any(1))[:, None, :]


def _spans(lines: Tensor) -> Tensor:
    """[B, N] bool: from the first True to the last, inclusive."""
    begun = lines.int().cumsum(1) > 0
    not_ended = lines.flip(1).int().cumsum(1).flip(1) > 0
    return begun & not_ended


def blurred(masks: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of masks [B, H, W], each with its own sigma [B] > 0 in pixels; float32.

    A pixel's value is the blur of the mask as an area, at the pixel's centre, and outside of the
    image nothing is masked: a half plane's is the normal distribution function of the distance to
    its edge over sigma.
    """
    H, W = masks.shape[1:]
    return _kernel(H, sigma) @ masks.float() @ _kernel(W, sigma)


def _kernel(n: int, sigma: Tensor) -> Tensor:
    """[B, n, n], symmetric: what pixel j adds to pixel i."""
    axis = torch.arange(n, device=sigma.device, dtype=torch.float32)
    distance = (axis[:, None] - axis)[None] / (sigma[:, None, None] * math.sqrt(2))
    half = 0.5 / (sigma[:, None, None] * math.sqrt(2))
    return 0.5 * (torch.erf(distance + half) - torch.erf(distance - half))


def at_precision(exact: Tensor, levels: Tensor, blurs: Sequence[float], threshold: float) -> Tensor:
    """Masks of the levels [B] (0 exact, len(blurs) + 1 the box), of masks [B, H, W] bool.

    `blurs` are the sigmas of the levels between, in shares of the box's longer side.
    """
    box = boxes(exact)
    side = torch.maximum(box.any(2).sum(1), box.any(1).sum(1)).clamp(min=1).float()
    grown = exact
    for level, share in enumerate(blurs, start=1):
        wider = grown | ((blurred(exact, share * side) > threshold) & box)
        grown = torch.where((levels >= level)[:, None, None], wider, grown)
    return torch.where((levels > len(blurs))[:, None, None], box, grown)


@dataclass(frozen=True)
class Batch:
    """What one forward pass learns from (see the legend); `ids` [B, L] are the texts' tokens.

    Where `inpainting` [B] is False the sample is text-to-image: all is hole, `known` is an encoded
    grey image and the level is S (the whole picture is its own box).
    """

    latents: Tensor
    known: Tensor
    mask: Tensor
    exact: Tensor
    levels: Tensor
    ids: Tensor
    inpainting: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    def rows(self, rows: Tensor) -> Batch:
        """The samples of these indices."""
        return Batch(**{spec.name: getattr(self, spec.name)[rows] for spec in fields(self)})

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        moved = {spec.name: getattr(self, spec.name).to(device) for spec in fields(self)}
        return Batch(**moved)

    @staticmethod
    def joined(parts: list[Batch]) -> Batch:
        """Several batches as one."""
        if len(parts) == 1:
            return parts[0]
        names = [spec.name for spec in fields(Batch)]
        return Batch(**{name: torch.cat([getattr(p, name) for p in parts]) for name in names})


def from_text_to_image(source: UNet2DConditionModel, coarsest: int) -> UNet2DConditionModel:
    """A SmartBrush UNet that at first computes what the text-to-image UNet `source` does.

    It takes 9 channels (x_t, mask, known) and the level as a class label, and gives one channel
    more, the mask prediction's logits. All that is new starts at zero.

    Raises UserError for a UNet that is no text-to-image one.
    """
    channels = source.config.in_channels
    if channels != source.config.out_channels or source.config.class_embed_type is not None:
        raise UserError(
            f"the UNet takes {channels} channels and gives {source.config.out_channels}; "
            "SmartBrush starts from a text-to-image model such as Lykon/dreamshaper-8"
        )
    if source.config.num_class_embeds is not None:
        raise UserError("the UNet is conditioned on classes already; give a text-to-image model")
    # (among the private keys is a list of those that `from_config` would set to defaults)
    config = {key: value for key, value in source.config.items() if not key.startswith("_")}
    config |= {
        "in_channels": 2 * channels + 1,
        "out_channels": channels + 1,
        "num_class_embeds": coarsest + 1,
    }
    unet = UNet2DConditionModel.from_config(config)
    state = source.state_dict()
    new = unet.state_dict()
    for name in ("conv_in.weight", "conv_out.weight", "conv_out.bias"):
        wide = torch.zeros_like(new[name])
        wide[tuple(slice(n) for n in state[name].shape)] = state[name]
        state[name] = wide
    state["class_embedding.weight"] = torch.zeros_like(new["class_embedding.weight"])
    unet.load_state_dict(state)
    return unet


def dice(probs: Tensor, target: Tensor) -> Tensor:
    """The DICE loss [B] of probabilities [B, ...] against a mask [B, ...] that is not empty.

    1 - 2 sum(p m) / (sum(p) + sum(m)) (Milletari et al. 2016, with the sums unsquared): 0 where
    p = m, 1 where they share nothing.
    """
    p, m = probs.flatten(1), target.flatten(1).to(probs.dtype)
    return 1 - 2 * (p * m).sum(1) / (p.sum(1) + m.sum(1))


def losses(
    unet: torch.nn.Module,
    batch: Batch,
    context: Tensor,
    scheduler: DDPMScheduler,
    noise: Tensor,
    t: Tensor,
    dice_weight: float,
) -> dict[str, Tensor]:
    """The diffusion loss and the weighted DICE term, to be summed.

    The first is the squared error of what the model predicts (eps or v, by the scheduler's
    config), the mean over the hole of each sample: elsewhere there is no noise to predict. The
    second is over the inpainted samples alone: a text-to-image sample has no object's mask.

    Args:
        unet: as `from_text_to_image` gives it.
        batch: B samples.
        context: [B, L, D], their encoded texts.
        scheduler: of the model that the training starts from.
        noise: [B, 4, h, w], N(0, 1).
        t: [B], timesteps.
        dice_weight: of the second term.
    """
    x_t = scheduler.add_noise(batch.latents, noise, t)
    inputs = unet_input(x_t, batch.known, batch.mask)
    output = unet(inputs, t, context, class_labels=batch.levels).sample.float()
    channels = batch.latents.shape[1]
    is_v = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(batch.latents, noise, t) if is_v else noise
    hole = batch.mask.float()
    error = ((output[:, :channels] - target).square() * hole).flatten(1).sum(1)
    diffusion = (error / (channels * hole.flatten(1).sum(1))).mean()
    per_sample = dice(output[:, channels:].sigmoid(), batch.exact)
    painted = batch.inpainting.float()
    mask_term = (per_sample * painted).sum() / painted.sum().clamp(min=1)
    return {"diffusion": diffusion, "dice": dice_weight * mask_term}
