"""CLIP score of the painted region (paper, sec. 4.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from profi.metrics.base import Sample
from profi.metrics.clip_encoder import ClipEncoder, ImageTextEncoder
from profi.metrics.functional import clip_score, crop, pad_to_square
from profi.metrics.open_clip_encoder import OPEN_CLIP, OpenClipEncoder
from profi.settings.evaluation import BoxOf, ClipClamp, ClipResizing


class CLIPScore:
    """100 cos(image, label) of the mask's bounding box, zero-padded to a square.

    The paper's model is `openai/clip-vit-base-patch16`. NaN for an empty mask.

    Args:
        encoder: embeds the crop and the label.
        box, resizing, clamp: the mask of the bounding box, how the crop is resized, and whether
            negative scores count as 0 (`Evaluation`).
    """

    name = "clip_score"
    needs_original = False

    def __init__(
        self,
        encoder: ImageTextEncoder,
        *,
        box: BoxOf = "painted_mask",
        resizing: ClipResizing = "antialiased",
        clamp: ClipClamp = "none",
    ) -> None:
        self._encoder = encoder
        self._box: BoxOf = box
        self._resizing: ClipResizing = resizing
        self._clamp: ClipClamp = clamp

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        *,
        box: BoxOf = "painted_mask",
        resizing: ClipResizing = "antialiased",
        clamp: ClipClamp = "none",
        device: str = "cpu",
        batch_size: int = 32,
    ) -> CLIPScore:
        """Load the CLIP model at `path`: a folder, a Hub id or `open_clip:MODEL/WEIGHTS`.

        Raises:
            UserError: the model cannot be loaded; the message names `metric.clip.path`.
        """
        key = "metric.clip.path"
        is_open_clip = path.startswith(OPEN_CLIP)
        load = OpenClipEncoder.from_name if is_open_clip else ClipEncoder.from_pretrained
        encoder = load(path, key, device=device, batch_size=batch_size)
        return cls(encoder, box=box, resizing=resizing, clamp=clamp)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The encoder's hashes, the region and the rules of the evaluation."""
        return {
            "clip": dict(self._encoder.identity),
            "region": "mask bounding box, centred on black square, bicubic",
            "box": self._box,
            "resizing": self._resizing,
            "clamp": self._clamp,
        }

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """One score per sample, in [-100, 100]."""
        values = [math.nan] * len(samples)
        chosen = [index for index, sample in enumerate(samples) if sample.mask.any()]
        crops = [pad_to_square(crop(samples[i].image, samples[i].box(self._box))) for i in chosen]
        images = self._encoder.embed_squares(crops, self._resizing)
        texts = self._encoder.embed_texts([samples[index].prompt for index in chosen])
        scores = clip_score(images, texts)
        if self._clamp == "at_zero":
            scores = scores.clamp(min=0.0)
        for index, value in zip(chosen, scores.tolist(), strict=True):
            values[index] = value
        return values
