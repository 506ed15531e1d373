"""Scores of painted images: pure functions in `functional/` and thin classes over them."""

from profi.metrics.accuracy import GenerationAccuracy
from profi.metrics.aesthetic import AestheticScore
from profi.metrics.base import Metric, Sample
from profi.metrics.clip_encoder import ClipEncoder, ImageTextEncoder
from profi.metrics.clip_score import CLIPScore
from profi.metrics.detectors import Detection, Detector, TransformersDetector
from profi.metrics.known_region import KnownRegionLPIPS, KnownRegionPSNR
from profi.metrics.mmdet_detector import MMDetDetector
from profi.metrics.pick_score import PickScore

__all__ = [
    "AestheticScore",
    "CLIPScore",
    "ClipEncoder",
    "Detection",
    "Detector",
    "GenerationAccuracy",
    "ImageTextEncoder",
    "KnownRegionLPIPS",
    "KnownRegionPSNR",
    "MMDetDetector",
    "Metric",
    "PickScore",
    "Sample",
    "TransformersDetector",
]
