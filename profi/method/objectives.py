"""What RASG ascends: objectives on cross-attention logits (paper, sec. 3.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from profi.settings.reading import Reduction


def mean_attention(logits: Sequence[Tensor]) -> Tensor:
    """A-bar [B, N, L] of eq. 9: mean over the heads and the layers of logits [B, heads, N, L].

    Every head weighs the same; the layers of one down-factor have equally many.
    """
    return torch.cat(list(logits), dim=1).float().mean(dim=1)


def bce_objective(
    A_bar: Tensor, mask: Tensor, tokens: Tensor, offset: float, reduction: Reduction
) -> Tensor:
    """S(x_t) of eq. 10, per sample [B]: minus the binary cross entropy of sigma(A - offset) to M.

    To be ASCENDED: a larger S means more attention to the prompt inside the mask and less
    outside. (The paper says "minimisation" of it beside a plus sign; only ascent does what it
    describes.)

    Args:
        A_bar: [B, N, L] mean cross-attention logits.
        mask: [B, N] bool, True = inpaint.
        tokens: ind(tau), [B, L] bool.
        offset: subtracted from the logits; 0 in the paper.
        reduction: over the N pixels; over the tokens it is a sum.
    """
    A = A_bar.float() - offset
    M = mask[:, :, None]
    # log sigma(a), and log(1 - sigma(a)) = log sigma(-a): stable for any a.
    S = torch.where(M, functional.logsigmoid(A), functional.logsigmoid(-A)) * tokens[:, None, :]
    pixels = S.sum(dim=2)
    return pixels.sum(dim=1) if reduction == "sum" else pixels.mean(dim=1)


def max_attention_objective(A_bar: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
    """Eq. 13 with the sign of ascent, per sample [B]: the Attend&Excite-style alternative (fig. 9).

    The mean over ind(tau) of the largest attention inside the mask. (The paper prints it negated,
    to be minimised.) A sample without a masked pixel gets 0, and so no gradient.

    Args:
        A_bar: [B, N, L] mean cross-attention logits.
        mask: [B, N] bool, True = inpaint.
        tokens: ind(tau), [B, L] bool.
    """
    lowest = torch.finfo(torch.float32).min
    inside = torch.where(mask[:, :, None], A_bar.float(), lowest)
    # Of several equal maxima `max` sends the whole gradient to one of them, `amax` an equal share
    # to each: nothing depends on an order.
    largest = inside.amax(dim=1)
    weight = (tokens & mask.any(dim=1, keepdim=True)).float()
    mean = torch.where(weight > 0, largest, 0.0).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
    return mean
