"""What all rows have in common whose model is a `Backbone`."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from profi.inpainters.backbone import Backbone


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
