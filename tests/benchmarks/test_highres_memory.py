"""High resolution fits: counted on fake tensors with the x4 upscaler's architecture."""

from __future__ import annotations

import pytest
import torch

from benchmarks.highres import AT_ONCE, OURS, peaks

GIB = 2**30


@pytest.mark.slow
def test_tiles_keep_the_memory_flat() -> None:
    at_2048, at_4096 = (peaks(side, OURS, torch.float16) for side in (2048, 4096))
    at_once = peaks(2048, AT_ONCE, torch.float16)
    assert at_4096.total < 1.1 * at_2048.total
    assert at_2048.total < 4 * GIB < at_once.total < 16 * GIB
    # 473 M parameters of the UNet in half precision; 55 M of the VAE, which overflows in it, and
    # 340 M of the text encoder in full.
    assert at_2048.weights == pytest.approx(2 * 473.4e6 + 4 * (55.3e6 + 340.4e6), rel=0.01)
