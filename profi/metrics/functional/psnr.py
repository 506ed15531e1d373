"""How much the known region changed."""

from __future__ import annotations

import math

import numpy as np

# An unchanged region has no error at all, hence an infinite PSNR, and one infinity makes a mean
# infinite. One level in one channel of a 4096 x 4096 image is 125 dB; nothing real comes near.
CAP_DB = 130.0


def known_region_psnr(image: np.ndarray, original: np.ndarray, mask: np.ndarray) -> float:
    """PSNR of `image` against `original` outside `mask`, dB in [0, 130]; 130 is "identical".

    Args:
        image: uint8 [H, W, 3].
        original: uint8 [H, W, 3].
        mask: bool [H, W]; True is painted, hence left out.

    Returns:
        10 log10(255^2 / MSE), or NaN where the mask leaves nothing to compare.
    """
    known = ~mask
    if not known.any():
        return math.nan
    difference = image[known].astype(np.float64) - original[known].astype(np.float64)
    error = float(np.mean(difference**2))
    return CAP_DB if error == 0 else min(CAP_DB, 10.0 * math.log10(255.0**2 / error))
