"""What all rows have in common whose model is a `Backbone`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from profi.attention.tokens import with_suffix
from profi.inpainters.backbone import Backbone
from profi.inpainters.base import Sampling
from profi.inpainters.text import Conditioning


def both_texts(
    backbone: Backbone, sampling: Sampling, prompts: Sequence[str], size: tuple[int, int]
) -> tuple[Conditioning, Conditioning]:
    """What the UNet is told in the conditional and in the unconditional branch, for B prompts.

    `size` is the pictures' (height, width) in pixels. Raises UserError for a prompt that does not
    fit.
    """
    full = [with_suffix(prompt, sampling.positive) for prompt in prompts]
    conditional = backbone.condition(full, size)
    return conditional, backbone.unconditional(sampling.negative, size, len(full))


@dataclass(frozen=True)
class OnBackbone:
    """The part of a `Row` (see `base.py`) that its backbone answers."""

    backbone: Backbone

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.backbone.device

    @property
    def pixel_multiple(self) -> int:
        """The images' sides must be multiples of this."""
        return self.backbone.pixel_multiple
