"""Metrics of the known region, which must stay unchanged (paper, sec. 3): PSNR and LPIPS."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.resources import as_file, files
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import nn

from profi.metrics.base import Sample, weights_digest
from profi.metrics.functional import CAP_DB, known_region_psnr
from profi.types import UserError
from profi.weights import UNREADABLE, verified_file, why_unreadable

_KEY = "metric.lpips.path"
#: The heads in torchmetrics; the bytes equal those of the authors' package.
_HEADS = ("functional", "image", "lpips_models", "alex.pth")
_HEADS_SHA256 = "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
_WIDTHS = (64, 192, 384, 256, 256)
#: The layers whose five activations are used.
_TAPS = (1, 4, 7, 9, 11)
# ImageNet's mean and standard deviation, converted from [0, 1] to [-1, 1].
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class LPIPS(nn.Module):
    """The weighted squared difference of AlexNet's normalised activations, over five layers.

    d(x, y) = sum_l 1/(H_l W_l) sum_hw || w_l * (x^_l - y^_l) ||^2 (eq. 1 of that paper), where x^
    are activations scaled to unit length over the channels. The heads are w_l^2.

    `features` has the structure and the keys of torchvision's `alexnet().features`.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        one, two, three, four, five = _WIDTHS
        self.features = nn.Sequential(
            nn.Conv2d(3, one, kernel_size=11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(one, two, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(two, three, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(three, four, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(four, five, kernel_size=3, padding=1),
            nn.ReLU(),
        )
        self.heads = nn.ParameterList(nn.Parameter(torch.zeros(width)) for width in _WIDTHS)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def from_pretrained(cls, source: str, sha256: str | None) -> LPIPS:
        """Load AlexNet's published weights at `source` (a URL or a file) and torchmetrics' heads.

        Raises:
            UserError: torchmetrics is not installed, the file has another network's weights, or
                an error of `verified_file`.
        """
        model = cls()
        path = verified_file(source, sha256, _KEY)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            prefix = "features."
            model.features.load_state_dict(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )
        except (*UNREADABLE, AttributeError, TypeError) as error:
            reason = why_unreadable(error)
            raise UserError(
                f"{_KEY}={source} does not hold AlexNet's weights ({reason}): give torchvision's "
                "file"
            ) from error
        for head, weights in zip(model.heads, _published_heads(), strict=True):
            head.data.copy_(weights)
        return model.eval().requires_grad_(False)

    def forward(self, one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        """Distances [N] of pictures [N, 3, H, W] in [0, 1], H and W at least 32."""
        x, y = ((2 * images - 1 - self.shift) / self.scale for images in (one, two))
        distance = torch.zeros(len(one), device=one.device)
        heads = iter(self.heads)
        for index, layer in enumerate(self.features):
            x, y = layer(x), layer(y)
            if index in _TAPS:
                squares = (_unit(x) - _unit(y)) ** 2
                distance = distance + (squares * next(heads).view(1, -1, 1, 1)).sum(1).mean((1, 2))
        return distance


def _unit(activations: torch.Tensor) -> torch.Tensor:
    """[N, C, H, W] scaled to unit length over C; zeros stay zeros."""
    return activations / (activations.norm(dim=1, keepdim=True) + 1e-10)


def _published_heads() -> list[torch.Tensor]:
    """The five heads' weights, [C] each."""
    if find_spec("torchmetrics") is None:
        raise UserError(
            "known_region_lpips needs torchmetrics, which is not installed: "
            "pip install -c constraints.txt -e '.[lpips]', or remove the metric from metric.metrics"
        )
    with as_file(files("torchmetrics").joinpath(*_HEADS)) as path:
        state = torch.load(
            verified_file(str(path), _HEADS_SHA256, "torchmetrics"),
            map_location="cpu",
            weights_only=True,
        )
    return [state[f"lin{index}.model.1.weight"].flatten() for index in range(len(_WIDTHS))]


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
