"""The method, read naively: the peer of the benchmarks and the oracle of the tests.

Everything is written out as the paper's formulas stand, with no regard for cost: attention by
materialised matrices, eq. 5 on the hw x hw logits, both branches of classifier-free guidance in one
batch, and the gradient of eq. 10 through that batch and the UNet's whole graph. It shares with
profi only what is not the method: the model's parts, the token indices and the masks' sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor

from profi.method.level_masks import mask_pyramid
from profi.models.backbone import Backbone
from profi.models.text import Conditioning
from profi.settings.method import Reading

SMALLEST = 2  # PAIntA at down-factors 2 and 4 of the latents
LOWEST = 4  # RASG at 4


@dataclass(frozen=True)
class Naive:
    """An inpainter `(images, masks, prompts, seeds) -> images` by the naive step."""

    backbone: Backbone
    reading: Reading
    painta: bool = True
    rasg: bool = True
    num_inference_steps: int = 50
    guidance_scale: float = 7.5

    def __call__(
        self, images: Tensor, masks: Tensor, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Tensor:
        """Paint [B, 3, H, W] in [0, 1]."""
        model, B = self.backbone, len(images)
        pyramid = mask_pyramid(
            masks.to(model.device),
            model.latent_factor,
            (SMALLEST, LOWEST),
            self.reading.mask_resizing,
            self.reading.masked_image,
        )
        words = model.text.words(prompts).to(model.device)
        masked_images = (2 * images.to(model.device) - 1) * ~pyramid.image[:, None]
        condition = torch.cat(
            [pyramid.latent[:, None].float(), model.encode_images(masked_images)], dim=1
        )
        size = (images.shape[2], images.shape[3])
        text = model.unconditional("", size, B).stacked(model.condition(prompts, size))
        step = NaiveStep(self, pyramid.levels, words, condition, text)
        x = torch.stack(
            [
                torch.randn(4, *condition.shape[2:], generator=torch.Generator().manual_seed(seed))
                for seed in seeds
            ]
        ).to(model.device)

        T, n = model.schedule.num_train_timesteps, self.num_inference_steps
        timesteps = [round(T - i * T / n) - 1 for i in range(n)]
        for i, t in enumerate(timesteps):
            last = i + 1 == n
            active = 2 * i < n if self.reading.active == "first_half" else t > 500
            output, g = step(x, t, painta_is_active=self.painta and active)
            alpha_t = float(model.schedule.alphas_cumprod[t])
            alpha_prev = 1.0 if last else float(model.schedule.alphas_cumprod[timesteps[i + 1]])
            if model.schedule.prediction_type == "v_prediction":
                eps = math.sqrt(alpha_t) * output + math.sqrt(1 - alpha_t) * x
            else:
                eps = output
            x0 = (x - math.sqrt(1 - alpha_t) * eps) / math.sqrt(alpha_t)
            sigma = 0.0
            if self.rasg and not last:
                a, a_prev = alpha_t, alpha_prev
                if self.reading.sigma == "per_step":
                    betas = model.schedule.betas
                    a, a_prev = 1 - float(betas[t]), 1 - float(betas[timesteps[i + 1]])
                sigma = math.sqrt((1 - a_prev) / (1 - a)) * math.sqrt(1 - a / a_prev)  # eq. 11
                sigma *= self.reading.eta
            x = math.sqrt(alpha_prev) * x0 + math.sqrt(1 - alpha_prev - sigma**2) * eps
            if sigma > 0:
                x = x + sigma * g / g.flatten(1).std(dim=1)[:, None, None, None]  # eq. 8
        return model.decode(x).cpu()


@dataclass
class NaiveStep:
    """One run of the UNet on the pair of branches, and the gradient of eq. 10.

    Args:
        naive: the choices.
        masks: per down-factor [B, h, w] bool.
        tokens: ind(tau), [B, L] bool.
        condition: [B, 5, h, w].
        text: of the pair, unconditional half first.
    """

    naive: Naive
    masks: dict[int, Tensor]
    tokens: Tensor
    condition: Tensor
    text: Conditioning
    painta_is_active: bool = False
    cross_logits: list[Tensor] = field(default_factory=list)

    def __call__(self, x_t: Tensor, t: int, painta_is_active: bool) -> tuple[Tensor, Tensor]:
        """The guided output and g = the gradient of S with respect to x_t (zeros without RASG)."""
        self.painta_is_active = painta_is_active
        self.cross_logits.clear()
        unet = self.naive.backbone.unet
        processors = unet.attn_processors
        hooks = []
        mine: dict[str, Any] = {}
        for path, module in unet.named_modules():
            if isinstance(module, BasicTransformerBlock):
                inputs: list[Tensor] = []

                def keep(block: Any, args: Any, kwargs: Any, inputs: list[Tensor] = inputs) -> None:
                    inputs[:] = [args[0] if args else kwargs["hidden_states"]]

                hooks.append(module.register_forward_pre_hook(keep, with_kwargs=True))
                for layer in ("attn1", "attn2"):
                    mine[f"{path}.{layer}.processor"] = _Processor(self, module, inputs)
        unet.set_attn_processor(mine)
        x_t = x_t.detach().requires_grad_(self.naive.rasg)
        try:
            with torch.set_grad_enabled(self.naive.rasg):
                inputs_of_unet = torch.cat([x_t, self.condition], dim=1)
                output = unet(
                    torch.cat([inputs_of_unet] * 2).to(unet.dtype), t, **self.text.kwargs()
                ).sample.float()
                g = self._gradient(x_t) if self.naive.rasg else torch.zeros_like(x_t)
        finally:
            unet.set_attn_processor(processors)
            for hook in hooks:
                hook.remove()
        uncond, cond = output.detach().chunk(2)
        return uncond + self.naive.guidance_scale * (cond - uncond), g

    def _gradient(self, x_t: Tensor) -> Tensor:
        """Ascending eq. 10, on eq. 9's mean over layers and heads."""
        A = torch.stack(self.cross_logits).mean(dim=(0, 2))  # [B, N, L]
        M = self.masks[LOWEST].flatten(1)[:, :, None].float()
        sigmoid = torch.sigmoid(A - self.naive.reading.offset)
        S = M * torch.log(sigmoid) + (1 - M) * torch.log(1 - sigmoid)
        (g,) = torch.autograd.grad((S * self.tokens[:, None, :]).sum(), x_t)
        return g.float()


class _Processor:
    def __init__(self, step: NaiveStep, block: BasicTransformerBlock, inputs: list[Tensor]) -> None:
        self.step, self.block, self.inputs = step, block, inputs

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        is_self = encoder_hidden_states is None
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        B, N = len(hidden_states) // 2, hidden_states.shape[1]
        A = _similarity(attn, attn.to_q(hidden_states), attn.to_k(context))
        v = _heads(attn, attn.to_v(context))
        factor = self._factor(N)
        if not is_self and factor == LOWEST:
            self.step.cross_logits.append(A[B:])
        if is_self and self.step.painta_is_active and factor in (SMALLEST, LOWEST):
            c = self._c(attn, A, v)
            M = self.step.masks[factor].flatten(1)
            unknown_to_known = M[:, :, None] & ~M[:, None, :]
            weight = torch.where(unknown_to_known, c[:, None, :], 1.0)  # eq. 5
            A = A * torch.cat([weight, weight])[:, None]
        return self._output(attn, A, v)

    def _c(self, attn: Any, A: Tensor, v: Tensor) -> Tensor:
        """[B, N]."""
        reading, B = self.step.naive.reading, len(A) // 2
        X = self.inputs[0][B:]
        if reading.query == "after_self_attention":
            X = X + self._output(attn, A, v)[B:]
        attn2 = self.block.attn2
        probs = _similarity(
            attn2, attn2.to_q(self.block.norm2(X)), attn2.to_k(self.step.text.context[B:])
        ).softmax(dim=-1)
        c = (probs.mean(dim=1) * self.step.tokens[:, None, :]).sum(dim=-1)
        if reading.smoothing == "zero_padded_3x3":
            h, w = self.step.masks[self._factor(A.shape[-1])].shape[1:]
            c = c @ _smoothing(h, w).to(c)
        median, largest = c.median(dim=1).values[:, None], c.max(dim=1).values[:, None]
        c = ((c - median) / largest).clamp(0, 1)
        return c.detach() if reading.c_gradient == "stops" else c

    def _factor(self, N: int) -> int:
        for factor, mask in self.step.masks.items():
            if mask[0].numel() == N:
                return factor
        return 1

    def _output(self, attn: Any, A: Tensor, v: Tensor) -> Tensor:
        joined = (A.softmax(dim=-1).to(v.dtype) @ v).transpose(1, 2).flatten(2)
        output: Tensor = attn.to_out[0](joined)
        return output


def _smoothing(h: int, w: int) -> Tensor:
    """[N, N]: how much of pixel i comes into pixel j. Neighbours at distance d weigh exp(-d^2).

    A pixel gives away what nine neighbours of it would take; those outside of the picture take
    their share along.
    """
    place = torch.cartesian_prod(torch.arange(h), torch.arange(w)).double()
    distance = (place[:, None] - place).abs()
    weight = torch.exp(-distance.square().sum(dim=-1)) * (distance.amax(dim=-1) <= 1)
    return weight / (1 + 4 * math.exp(-1) + 4 * math.exp(-2))


def _heads(attn: Any, x: Tensor) -> Tensor:
    return x.unflatten(2, (attn.heads, -1)).transpose(1, 2)


def _similarity(attn: Any, q: Tensor, k: Tensor) -> Tensor:
    """Q K^T / sqrt(d), [2B, heads, N, K], float32."""
    q, k = _heads(attn, q).float(), _heads(attn, k).float()
    return q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
