"""The settings of the metrics and their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from profi.catalogue import catalogue
from profi.settings.fields import check_fields, setting
from profi.types import UserError


@dataclass(frozen=True)
class ClipConfig:
    """The CLIP model of the CLIP score."""

    path: str | None = setting(None, "a local folder, a Hub repository, or open_clip:MODEL/WEIGHTS")


@dataclass(frozen=True)
class AccuracyConfig:
    """The detector of the accuracy (evaluation.channels sets its channel order)."""

    path: str | None = setting(None, "a detector of transformers: a local folder or Hub repository")
    threshold: float = setting(0.3, "a label counts as found if its score is above", at_least=0)
    backend: Literal["transformers", "mmdet"] = setting(
        "transformers", "the detector at path, or MMDetection's RTMDet-tiny at checkpoint"
    )
    checkpoint: str | None = setting(None, "RTMDet's weights: a file or a URL")
    sha256: str | None = setting(None, "the checkpoint's SHA-256 or its first digits")

    def __post_init__(self) -> None:
        check_fields("metric.accuracy", self)


@dataclass(frozen=True)
class AestheticConfig:
    """The aesthetic predictor's head and its CLIP model."""

    path: str | None = setting(None, "the head: a folder, a .pth file or its URL")
    clip_path: str | None = setting(None, "the CLIP model: a local folder or a Hub repository")
    sha256: str | None = setting(None, "SHA-256 of the head's file")


@dataclass(frozen=True)
class PickConfig:
    """PickScore's model."""

    path: str | None = setting(None, "a local folder or a Hub repository")
    processor: str | None = setting(
        None, "folder or repository of its tokenizer and preprocessing; null: the model's own"
    )


@dataclass(frozen=True)
class LPIPSConfig:
    """AlexNet's weights."""

    path: str | None = setting(None, "a .pth file or its URL")
    sha256: str | None = setting(None, "SHA-256 of the file")


@dataclass(frozen=True)
class MetricConfig:
    """The metrics, their order and their weights."""

    name: str = setting("mini", "label of this set of metrics")
    metrics: list[str] = setting(
        ["clip_score", "accuracy", "aesthetic", "known_region_psnr"], "metrics of the catalogue"
    )
    clip: ClipConfig = setting(ClipConfig, "settings of clip_score")
    accuracy: AccuracyConfig = setting(AccuracyConfig, "settings of accuracy")
    aesthetic: AestheticConfig = setting(AestheticConfig, "settings of aesthetic")
    pick: PickConfig = setting(PickConfig, "settings of pick_score")
    lpips: LPIPSConfig = setting(LPIPSConfig, "settings of known_region_lpips")
    batch_size: int = setting(16, "pictures scored at once", at_least=1)

    def __post_init__(self) -> None:
        check_fields("metric", self)
        for name in self.metrics:
            catalogue.metrics.get(name)
        if not self.metrics or len(set(self.metrics)) != len(self.metrics):
            raise UserError(
                f"metric.metrics=[{','.join(self.metrics)}]: name at least one metric, each once"
            )
