"""CLIP score of the painted region (paper, sec. 4.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from profi.metrics.base import Sample
from profi.metrics.clip_encoder import ClipEncoder, ImageTextEncoder
from profi.metrics.functional.crop import masked_crop, pad_to_square
from profi.metrics.functional.similarity import clip_score
from profi.metrics.open_clip_encoder import OPEN_CLIP, OpenClipEncoder


class CLIPScore:
    """100 cos(image, label) of the mask's bounding box, zero-padded to a square.

    The paper's model is `openai/clip-vit-base-patch16`. NaN for an empty mask.
    """

    name = "clip_score"
    higher_is_better = True
    needs_original = False

    def __init__(self, encoder: ImageTextEncoder) -> None:
        self._encoder = encoder

    @classmethod
    def from_pretrained(cls, path: str, *, device: str = "cpu", batch_size: int = 32) -> CLIPScore:
        """The score by the CLIP model at `path`: a folder, a hub id or `open_clip:MODEL/WEIGHTS`.

        Raises:
            UserError: the model cannot be loaded; the line names `metric.clip.path`.
        """
        key = "metric.clip.path"
        if path.startswith(OPEN_CLIP):
            return cls(OpenClipEncoder.from_name(path, key, device=device, batch_size=batch_size))
        return cls(ClipEncoder.from_pretrained(path, key, device=device, batch_size=batch_size))

    @property
    def identity(self) -> Mapping[str, Any]:
        """The encoder's hashes and what is embedded."""
        return {
            "clip": dict(self._encoder.identity),
            "region": "mask bounding box, centred on black square, bicubic",
        }

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """One score per sample, in [-100, 100]."""
        values = [math.nan] * len(samples)
        chosen = [index for index, sample in enumerate(samples) if sample.mask.any()]
        crops = [
            pad_to_square(masked_crop(samples[index].image, samples[index].mask))
            for index in chosen
        ]
        images = self._encoder.embed_squares(crops)
        texts = self._encoder.embed_texts([samples[index].prompt for index in chosen])
        for index, value in zip(chosen, clip_score(images, texts).tolist(), strict=True):
            values[index] = value
        return values
