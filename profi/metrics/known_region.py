"""Metrics of the known region, which must stay unchanged (paper, sec. 3): PSNR and LPIPS."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from profi.metrics.base import Sample, weights_digest
from profi.metrics.functional import CAP_DB, known_region_psnr
from profi.metrics.lpips import LPIPS

#: Smaller images leave nothing of AlexNet's last activation.
_SHORTEST_SIDE = 32


class KnownRegionPSNR:
    """PSNR in dB, in [0, 130]; 130 is identical. NaN without `Sample.original` or known region."""

    name = "known_region_psnr"
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


class KnownRegionLPIPS:
    """LPIPS between the painted image and the original in the known region; 0 is unchanged.

    The hole is filled with the original's pixels, so the images differ only in the known region.
    LPIPS is a mean over the whole image, so a larger hole gives a smaller value. NaN without
    `Sample.original`, without a known region, and if a side has fewer than 32 pixels.
    """

    name = "known_region_lpips"
    needs_original = True

    def __init__(self, model: LPIPS, *, device: str = "cpu", batch_size: int = 16) -> None:
        self._model = model.eval().requires_grad_(False).to(device)
        self._device = device
        self._batch_size = batch_size

    @classmethod
    def from_pretrained(
        cls, source: str, sha256: str | None, *, device: str = "cpu", batch_size: int = 16
    ) -> KnownRegionLPIPS:
        """See `LPIPS.from_pretrained`."""
        model = LPIPS.from_pretrained(source, sha256)
        return cls(model, device=device, batch_size=batch_size)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The network's hash and how the hole is filled."""
        return {"weights": weights_digest(self._model), "hole": "original"}

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """One value per sample."""
        values = [math.nan] * len(samples)
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, sample in enumerate(samples):
            shape = sample.image.shape
            if sample.original is None or sample.mask.all() or min(shape[:2]) < _SHORTEST_SIDE:
                continue
            groups.setdefault(shape, []).append(index)
        for group in groups.values():
            for start in range(0, len(group), self._batch_size):
                chosen = group[start : start + self._batch_size]
                for index, value in zip(
                    chosen, self._distances([samples[i] for i in chosen]), strict=True
                ):
                    values[index] = value
        return values

    @torch.inference_mode()
    def _distances(self, samples: Sequence[Sample]) -> list[float]:
        originals = [sample.original for sample in samples if sample.original is not None]
        painted = [
            np.where(sample.mask[..., None], original, sample.image)
            for sample, original in zip(samples, originals, strict=True)
        ]
        one, two = (self._tensor(pictures) for pictures in (painted, originals))
        values: list[float] = self._model(one, two).tolist()
        return values

    def _tensor(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        return stacked.to(self._device).float() / 255.0
