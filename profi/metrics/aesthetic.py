"""LAION aesthetic score of the whole image (paper, sec. 4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from profi.metrics.aesthetic_predictor import AestheticPredictor
from profi.metrics.base import Sample
from profi.metrics.clip_encoder import ClipEncoder
from profi.metrics.functional.accuracy import l2_normalised
from profi.metrics.loading import weights_digest
from profi.settings.evaluation import AestheticCrop
from profi.types import UserError


class AestheticScore:
    """The predictor on the L2-normalised CLIP embedding of the whole image.

    The paper's encoder is `openai/clip-vit-large-patch14`, which needs quick_gelu. Usual scores are
    4 to 6. Embeddings that are not normalised score 20 to 30; with a wrong activation scores are
    about 0.7 lower.
    """

    name = "aesthetic"
    needs_original = False

    def __init__(
        self,
        encoder: ClipEncoder,
        predictor: AestheticPredictor,
        crop: AestheticCrop = "floored",
    ) -> None:
        if encoder.embedding_dim != predictor.input_dim:
            raise UserError(
                f"the aesthetic predictor takes {predictor.input_dim} numbers, but its CLIP model "
                f"gives {encoder.embedding_dim}: set metric.aesthetic.clip_path to the CLIP model "
                "that it was trained with"
            )
        self._encoder = encoder
        self._predictor = predictor.cpu().eval()
        self._crop: AestheticCrop = crop

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        clip_path: str,
        *,
        crop: AestheticCrop = "floored",
        sha256: str | None = None,
        device: str = "cpu",
        batch_size: int = 32,
    ) -> AestheticScore:
        """Load the predictor at `path` and the CLIP model at `clip_path` (a folder or a Hub id).

        See `AestheticPredictor.from_pretrained` for `path` and `sha256`, and `Evaluation` for
        `crop`.

        Raises:
            UserError: one of them cannot be loaded, or they do not fit together.
        """
        predictor = AestheticPredictor.from_pretrained(path, sha256)
        encoder = ClipEncoder.from_pretrained(
            clip_path, "metric.aesthetic.clip_path", device=device, batch_size=batch_size
        )
        return cls(encoder, predictor, crop)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Hashes of the encoder and the predictor, and how the image is cropped."""
        return {
            "clip": dict(self._encoder.identity),
            "predictor": weights_digest(self._predictor),
            "region": "whole image",
            "crop": self._crop,
        }

    @torch.inference_mode()
    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """One score per sample."""
        embeds = self._encoder.embed_whole([sample.image for sample in samples], self._crop)
        values: list[float] = self._predictor(l2_normalised(embeds)).tolist()
        return values
