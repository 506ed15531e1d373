"""RASG, Reweighting Attention Score Guidance (paper, sec. 3.4, eq. 8)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from profi.diffusion.sampling import StepState
from profi.diffusion.schedule import SigmaFormula
from profi.guidance.objectives import Reduction, bce_objective, mean_attention

VanishedMask = Literal["unguided", "literal"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RASGSettings:
    """The choices of RASG; the defaults are what the paper prints.

    `offset` and `reduction` of the objective (eq. 10), `sigma` and `eta` of sigma_t (eq. 11), and
    `down_factor` of the latents where attention is read (4 is the paper's H/32). `vanished_mask`:
    what happens to a sample whose mask has no pixel left at that level. Taken literally, eq. 10
    then lowers attention to the prompt everywhere, in the hole too; "unguided" lets the sample
    step by eq. 4 instead.
    """

    offset: float = 0.0
    reduction: Reduction = "sum"
    sigma: SigmaFormula = "cumulative"
    eta: float = 0.15
    down_factor: int = 4
    vanished_mask: VanishedMask = "unguided"


@dataclass(frozen=True)
class AttentionClue:
    """What a guided denoiser hands to RASG.

    `x_t` [B, C, h, w] is the leaf that the conditional pass started from, and `logits` the
    cross-attention logits [B, heads, N, L] which that pass computed from it, with their graph.
    """

    x_t: Tensor
    logits: tuple[Tensor, ...]


@dataclass(frozen=True)
class RASG:
    """The step noise of eq. 8: the gradient of S(x_t) over its own standard deviation.

    Args:
        settings: the choices.
        mask: [B, N] bool at the settings' down-factor, True = inpaint.
        tokens: ind(tau), [B, L] bool.
    """

    settings: RASGSettings
    mask: Tensor
    tokens: Tensor

    def __call__(self, state: StepState[AttentionClue | None]) -> Tensor:
        """g / std(g), [B, C, h, w], float32: the direction that raises S."""
        if state.clue is None:
            raise RuntimeError(f"RASG: the denoiser gave no attention at t={state.t}")
        # The sampling loop around has no gradients; the objective extends the clue's graph.
        with torch.enable_grad():
            A_bar = mean_attention(state.clue.logits)  # eq. 9
            S = bce_objective(
                A_bar, self.mask, self.tokens, self.settings.offset, self.settings.reduction
            )  # eq. 10
            total = S.sum()
        # A factor does not survive /std; this one keeps the gradient of a mean in half
        # precision's range.
        factor = A_bar.shape[1] if self.settings.reduction == "mean" else 1
        # Samples do not mix in the UNet, so the gradient of the sum is that of each.
        (g,) = torch.autograd.grad(total, state.clue.x_t, total.new_tensor(float(factor)))
        noise = standardised(g)
        dead = [i for i, flat in enumerate(noise.flatten(1)) if not flat.any()]
        if dead:
            log.warning("RASG: no usable gradient at t=%d for samples %s", state.t, dead)
        if self.settings.vanished_mask == "unguided":
            there = self.mask.any(dim=1).view(-1, *[1] * (noise.ndim - 1))
            noise = torch.where(there, noise, 0.0)
        return noise


def standardised(g: Tensor) -> Tensor:
    """g / std(g) per sample [B, ...], float32; the mean is not subtracted (app. C.3).

    The std is the unbiased one over a sample's own elements. A sample whose gradient is constant
    or not finite has no direction: it gets zeros, and the loop steps it by eq. 4.
    """
    g = g.float()
    std = g.flatten(1).std(dim=1).view(-1, *[1] * (g.ndim - 1))
    usable = torch.isfinite(std) & (std > 0)
    return torch.where(usable, g / torch.where(usable, std, 1.0), 0.0)
