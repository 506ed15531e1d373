"""Scores of painted images: pure functions in `functional/`, thin classes over them."""

from profi.metrics.accuracy import GenerationAccuracy
from profi.metrics.aesthetic import AestheticScore
from profi.metrics.base import Metric, Sample
from profi.metrics.clip_encoder import ClipEncoder
from profi.metrics.clip_score import CLIPScore
from profi.metrics.detectors import Detection, Detector, TransformersDetector
from profi.metrics.known_region import KnownRegionPSNR

__all__ = [
    "AestheticScore",
    "CLIPScore",
    "ClipEncoder",
    "Detection",
    "Detector",
    "GenerationAccuracy",
    "KnownRegionPSNR",
    "Metric",
    "Sample",
    "TransformersDetector",
]
