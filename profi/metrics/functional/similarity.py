"""Angles between embeddings."""

from __future__ import annotations

import torch


def l2_normalised(embeds: torch.Tensor) -> torch.Tensor:
    """`embeds` ([..., D]) scaled to unit length along the last axis."""
    return embeds / embeds.norm(dim=-1, keepdim=True)


def cosine(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """cos(one, two), row by row: [N, D] and [N, D] give [N], in [-1, 1]."""
    return (l2_normalised(one) * l2_normalised(two)).sum(dim=-1)


def clip_score(image_embeds: torch.Tensor, text_embeds: torch.Tensor) -> torch.Tensor:
    """100 cos(image, text), row by row: [N, D] and [N, D] give [N], in [-100, 100].

    Negative cosines are kept; torchmetrics, and so the released code, cuts them at 0.
    """
    return 100.0 * cosine(image_embeds, text_embeds)
