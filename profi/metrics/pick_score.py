"""PickScore (Kirstain et al., 2023): a CLIP model fine-tuned on people's choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from profi.metrics.base import Sample
from profi.metrics.clip_encoder import ClipEncoder
from profi.metrics.functional import cosine


class PickScore:
    """exp(logit_scale) cos(image, prompt) of the whole image: a logit, usually 15 to 25.

    A single score says little. The softmax of the scores of two images for one prompt is the
    probability that people prefer the first (`profi.reports.preference`).
    """

    name = "pick_score"
    needs_original = False

    def __init__(self, encoder: ClipEncoder) -> None:
        self._encoder = encoder

    @classmethod
    def from_pretrained(
        cls, path: str, processor: str | None, *, device: str = "cpu", batch_size: int = 32
    ) -> PickScore:
        """Load the model at `path`, and tokenizer and preprocessing at `processor` (None: `path`).

        Both are folders or Hub ids: `yuvalkirstain/PickScore_v1` and
        `laion/CLIP-ViT-H-14-laion2B-s32B-b79K`, the model before fine-tuning.

        Raises:
            UserError: one of them cannot be loaded; the message names its key `metric.pick...`.
        """
        return cls(
            ClipEncoder.from_pretrained(
                path,
                "metric.pick.path",
                processor=processor,
                processor_key="metric.pick.processor",
                device=device,
                batch_size=batch_size,
            )
        )

    @property
    def identity(self) -> Mapping[str, Any]:
        """The encoder's hashes and the region."""
        return {"clip": dict(self._encoder.identity), "region": "whole image"}

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """One logit per sample."""
        images = self._encoder.embed_whole([sample.image for sample in samples])
        texts = self._encoder.embed_texts([sample.prompt for sample in samples])
        values: list[float] = (self._encoder.logit_scale * cosine(images, texts)).tolist()
        return values
