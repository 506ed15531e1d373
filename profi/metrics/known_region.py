"""PSNR outside the mask: the task demands an output equal to the input there (paper, sec. 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from profi.metrics.base import Sample
from profi.metrics.functional.psnr import CAP_DB, known_region_psnr


class KnownRegionPSNR:
    """dB in [0, 130], 130 for identical; NaN without `Sample.original` or a known region."""

    name = "known_region_psnr"
    higher_is_better = True
    needs_original = True
    identity: Mapping[str, Any] = {"cap_db": CAP_DB}

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """One value per sample."""
        return [
            math.nan
            if sample.original is None
            else known_region_psnr(sample.image, sample.original, sample.mask)
            for sample in samples
        ]
