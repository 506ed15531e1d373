"""The metrics and their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from profi.catalogue import catalogue
from profi.settings.fields import check_fields, setting
from profi.types import UserError


@dataclass(frozen=True)
class ClipConfig:
    """The CLIP model of the CLIP score."""

    path: str | None = setting(
        None, "a local folder, a repository, or open_clip:MODEL/WEIGHTS for a model of open_clip"
    )


@dataclass(frozen=True)
class AccuracyConfig:
    """The detector of the accuracy (the order of its channels is evaluation.channels)."""

    path: str | None = setting(None, "of transformers' detector: a local folder or a repository")
    threshold: float = setting(0.3, "a label counts as found above it", at_least=0)
    backend: Literal["transformers", "mmdet"] = setting(
        "transformers", "the detector at path, or MMDetection's RTMDet-tiny at checkpoint"
    )
    checkpoint: str | None = setting(None, "RTMDet's weights: a file or a URL")
    sha256: str | None = setting(None, "what the checkpoint's SHA-256 starts with")

    def __post_init__(self) -> None:
        check_fields("metric.accuracy", self)


@dataclass(frozen=True)
class AestheticConfig:
    """The aesthetic predictor's head and the CLIP model whose image embedding it reads."""

    path: str | None = setting(None, "of the head: a folder, a .pth file or its URL")
    clip_path: str | None = setting(None, "of the CLIP model: a local folder or a repository")
    sha256: str | None = setting(None, "of the head's file")


@dataclass(frozen=True)
class PickConfig:
    """PickScore's model."""

    path: str | None = setting(None, "a local folder or a repository")
    processor: str | None = setting(
        None, "where its tokenizer and preprocessing lie; null: with the model"
    )


@dataclass(frozen=True)
class LPIPSConfig:
    """AlexNet's weights."""

    path: str | None = setting(None, "a .pth file or its URL")
    sha256: str | None = setting(None, "its hash")


@dataclass(frozen=True)
class MetricConfig:
    """Which metrics are scored, in which order, with which weights."""

    name: str = setting("mini", "labels the set")
    metrics: list[str] = setting(
        ["clip_score", "accuracy", "aesthetic", "known_region_psnr"], "metrics of the catalogue"
    )
    clip: ClipConfig = setting(ClipConfig, "of clip_score")
    accuracy: AccuracyConfig = setting(AccuracyConfig, "of accuracy")
    aesthetic: AestheticConfig = setting(AestheticConfig, "of aesthetic")
    pick: PickConfig = setting(PickConfig, "of pick_score")
    lpips: LPIPSConfig = setting(LPIPSConfig, "of known_region_lpips")
    batch_size: int = setting(16, "pictures scored at once", at_least=1)

    def __post_init__(self) -> None:
        check_fields("metric", self)
        for name in self.metrics:
            catalogue.metrics.get(name)
        if not self.metrics or len(set(self.metrics)) != len(self.metrics):
            raise UserError(
                f"metric.metrics=[{','.join(self.metrics)}]: name each wanted metric once"
            )
