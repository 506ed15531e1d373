"""What holds of every row of a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from profi.inpainter import Row
from profi.types import UserError, canonical_json


def check_row(row: Row, batch: Any, steps: int, tolerance: float) -> Tensor:
    """A row on a batch of several, `tolerance` of pixels in [0, 1] between sizes of batch.

    Returns what it paints.
    """
    calls: list[tuple[int, int]] = []
    painted = row(*batch.args(), progress=lambda *item: calls.append(item))
    assert calls == [(i + 1, steps) for i in range(steps)]
    assert painted.shape == batch.images.shape
    assert (painted.dtype, painted.device.type) == (torch.float32, "cpu")
    assert 0.0 <= float(painted.min()) <= float(painted.max()) <= 1.0
    assert torch.equal(row(*batch.args()), painted)

    ones = [row(*batch.only(i).args()) for i in range(len(painted))]
    torch.testing.assert_close(torch.cat(ones), painted, rtol=0, atol=tolerance)
    for i, seed in enumerate(batch.seeds):
        other = row(*replace(batch, seeds=[s + (s == seed) for s in batch.seeds]).args())
        changed = (other - painted).abs().flatten(1).amax(1) > 10 * tolerance
        assert changed.tolist() == [j == i for j in range(len(painted))]
    canonical_json(row.identity)
    assert isinstance(row.identity["backbone"]["weights"], str)
    with pytest.raises(UserError, match="is not a multiple of"):
        row(batch.images[..., 1:, :], batch.masks[..., 1:, :], batch.prompts, batch.seeds)
    return painted
