"""Masks of an object at levels of precision: from its outline (0) to its bounding box (S).

m_s = (blur(m, sigma_s) > threshold), united with the finer levels and kept within the box, so that
m = m_0, m_0 within m_1 within ... within m_S = box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


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
