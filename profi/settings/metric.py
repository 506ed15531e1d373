"""The metrics and their weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from profi.settings.fields import check_fields, choice, number
from profi.types import UserError

METRICS = (
    "clip_score",
    "accuracy",
    "aesthetic",
    "known_region_psnr",
    "known_region_lpips",
    "pick_score",
    "accuracy_mmdet",
    "accuracy_transformers",
)


@dataclass
class ClipConfig:
    """The CLIP model of the CLIP score.

    A local folder, a repository id, or `open_clip:MODEL/WEIGHTS` for a model of open_clip.
    """

    path: str | None = None


@dataclass
class AccuracyConfig:
    """The detector of the accuracy: a label counts as found above `threshold`.

    `backend` is the detector of `accuracy`: the one of transformers at `path` (a local folder or
    a repository id), or MMDetection's RTMDet-tiny with the weights at `checkpoint` (a file or a
    URL, whose SHA-256 starts with `sha256`); the order of its channels is `evaluation.channels`.
    """

    path: str | None = None
    threshold: float = number(0.3, at_least=0)
    backend: str = choice("transformers", "mmdet")
    checkpoint: str | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        check_fields("metric.accuracy", self)


@dataclass
class AestheticConfig:
    """The aesthetic predictor's head and the CLIP model whose image embedding it reads.

    `path` is a folder, a `.pth` file or its URL; `sha256` the hash of the file, if it is one.
    """

    path: str | None = None
    clip_path: str | None = None
    sha256: str | None = None


@dataclass
class PickConfig:
    """PickScore's model, and where its tokenizer and preprocessing lie (null: with the model)."""

    path: str | None = None
    processor: str | None = None


@dataclass
class LPIPSConfig:
    """AlexNet's weights, a `.pth` file or its URL; `sha256` is its hash."""

    path: str | None = None
    sha256: str | None = None


@dataclass
class MetricConfig:
    """Which metrics are scored, in which order, with which weights; `name` labels the set."""

    name: str = "mini"
    metrics: list[str] = field(default_factory=lambda: list(METRICS[:4]))
    clip: ClipConfig = field(default_factory=ClipConfig)
    accuracy: AccuracyConfig = field(default_factory=AccuracyConfig)
    aesthetic: AestheticConfig = field(default_factory=AestheticConfig)
    pick: PickConfig = field(default_factory=PickConfig)
    lpips: LPIPSConfig = field(default_factory=LPIPSConfig)
    batch_size: int = number(16, at_least=1)

    def __post_init__(self) -> None:
        check_fields("metric", self)
        for name in self.metrics:
            if name not in METRICS:
                raise UserError(f"metric.metrics={name}: choose among {', '.join(METRICS)}")
        if not self.metrics or len(set(self.metrics)) != len(self.metrics):
            raise UserError(
                f"metric.metrics=[{','.join(self.metrics)}]: name each wanted metric once"
            )
