"""The protocol of object detectors, and the detectors of transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from transformers import AutoModelForObjectDetection, PreTrainedModel

from profi.metrics.base import explained, preprocessor_config, weights_digest
from profi.metrics.functional import Detection
from profi.metrics.preprocess import Preprocessing, whole_image
from profi.types import UserError, digest

__all__ = ["Detection", "Detector", "TransformersDetector"]

_KEY = "metric.accuracy.path"

# One string per id, in order; "-" marks the ids that MSCOCO never used.
_NAMES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,-,"
    "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,-,"
    "backpack,umbrella,-,-,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,"
    "baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,-,wine glass,cup,fork,"
    "knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,"
    "couch,potted plant,bed,-,dining table,-,-,toilet,-,tv,laptop,mouse,remote,keyboard,"
    "cell phone,microwave,oven,toaster,sink,refrigerator,-,book,clock,vase,scissors,teddy bear,"
    "hair drier,toothbrush"
)

COCO_CATEGORIES: Mapping[str, int] = MappingProxyType(
    {name: number for number, name in enumerate(_NAMES.split(","), start=1) if name != "-"}
)

# Old names from Pascal VOC and Darknet that some detectors still use (RT-DETR is one).
COCO_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "motorbike": "motorcycle",
        "aeroplane": "airplane",
        "sofa": "couch",
        "pottedplant": "potted plant",
        "diningtable": "dining table",
        "tvmonitor": "tv",
        "hair dryer": "hair drier",
    }
)


class Detector(Protocol):
    """Finds objects; detections in an image do not depend on the other images in the call."""

    @property
    def categories(self) -> Mapping[str, int]:
        """The names of the categories that it can find, and their ids."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that changes its detections, as JSON values."""
        ...

    def detect(self, crops: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Detections per image (uint8 [H, W, 3], *RGB*), in any order.

        A detector that needs BGR swaps the channels itself.
        """
        ...


def read_detector(path: str) -> tuple[Preprocessing, Any]:
    """A detector's preprocessing and its model, from a folder or the Hub.

    Raises:
        UserError: the model is unreachable or not a detector.
    """
    what = "detector"
    config = preprocessor_config(path, what, _KEY)
    with explained(what, path, _KEY):
        return Preprocessing.from_config(config), AutoModelForObjectDetection.from_pretrained(
            path, dtype=torch.float32, weights_only=True
        )


class TransformersDetector:
    """Any `AutoModelForObjectDetection`, such as RT-DETR, DETR and YOLOS.

    Images are resized and normalised as the model's `preprocessor_config.json` says. If the model
    has one logit per label (RT-DETR), scores are sigmoids. If it has one more (DETR, YOLOS), scores
    are a softmax whose last entry is "no object".

    Args:
        model: the detector; `config.id2label` names its outputs.
        preprocessing: from the model's own preprocessor config.
        categories: names to ids. Labels are matched by name, also by older names of MSCOCO. Other
            labels are never reported.
        batch_size: images per forward pass if the input size is fixed; otherwise it is one.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        preprocessing: Preprocessing,
        *,
        categories: Mapping[str, int] = COCO_CATEGORIES,
        batch_size: int = 16,
    ) -> None:
        self._model: Any = model.eval().requires_grad_(False)
        self._preprocessing = preprocessing
        self._batch_size = batch_size
        labels: dict[int, str] = self._model.config.id2label
        names = {
            int(index): name if name in categories else COCO_ALIASES.get(name, name)
            for index, name in labels.items()
        }
        self._category_of = {
            index: categories[name] for index, name in names.items() if name in categories
        }
        if not self._category_of:
            raise UserError(
                f"the detector knows none of the categories (its first labels are "
                f"{sorted(set(names.values()))[:3]}): set {_KEY} to one that was trained on them"
            )
        self.categories: Mapping[str, int] = {
            name: categories[name] for name in names.values() if name in categories
        }

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        *,
        categories: Mapping[str, int] = COCO_CATEGORIES,
        device: str = "cpu",
        batch_size: int = 16,
    ) -> TransformersDetector:
        """Load a detector from a folder or the Hub.

        Raises:
            UserError: the model is unreachable, not a detector, or has other categories.
        """
        preprocessing, model = read_detector(path)
        return cls(model.to(device), preprocessing, categories=categories, batch_size=batch_size)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The model's kind and hashes of its weights, preprocessing and categories."""
        return {
            "type": self._model.config.model_type,
            "weights": weights_digest(self._model),
            "preprocessing": digest(vars(self._preprocessing)),
            "categories": digest(dict(self.categories)),
        }

    @torch.inference_mode()
    def detect(self, crops: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Detections per picture (uint8 [H, W, 3], RGB), best first."""
        step = 1 if self._preprocessing.input_size is None else self._batch_size
        found: list[list[Detection]] = []
        for start in range(0, len(crops), step):
            chunk = crops[start : start + step]
            pixels = torch.stack([whole_image(crop, self._preprocessing) for crop in chunk])
            output = self._model(pixel_values=pixels.to(self._model.device))
            for crop, logits, boxes in zip(
                chunk, output.logits.cpu(), output.pred_boxes.cpu(), strict=True
            ):
                found.append(self._read(logits, boxes, *crop.shape[:2]))
        return found

    def _read(
        self, logits: torch.Tensor, boxes: torch.Tensor, height: int, width: int
    ) -> list[Detection]:
        """One picture's logits [Q, C or C+1] and boxes [Q, 4] (cx, cy, w, h in [0, 1])."""
        n_labels = len(self._model.config.id2label)
        if logits.shape[1] == n_labels:
            scores = logits.sigmoid()
        else:
            scores = logits.softmax(dim=-1)[:, :n_labels]
            # A softmax answers one label per query.
            scores = scores * (scores == scores.amax(dim=1, keepdim=True))
        # As the models' own post-processing: no more (query, label) pairs than queries.
        top = scores.flatten().topk(min(logits.shape[0], scores.numel()))
        detections = []
        for score, index in zip(top.values.tolist(), top.indices.tolist(), strict=True):
            query, label = divmod(index, scores.shape[1])
            # A softmax query's other labels are zeros.
            if score <= 0 or label not in self._category_of:
                continue
            cx, cy, w, h = boxes[query].tolist()
            box = (
                (cx - w / 2) * width,
                (cy - h / 2) * height,
                (cx + w / 2) * width,
                (cy + h / 2) * height,
            )
            detections.append(Detection(self._category_of[label], score, box))
        return detections
