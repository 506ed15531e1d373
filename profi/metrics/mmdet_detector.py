"""MMDetection's RTMDet-tiny, the detector of the paper's generation accuracy."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from profi.metrics.base import weights_digest
from profi.metrics.detectors import COCO_CATEGORIES
from profi.metrics.functional import Detection
from profi.settings.evaluation import Channels
from profi.types import UserError, digest
from profi.weights import UNREADABLE, read_checkpoint, verified_file

#: The config of the paper's checkpoint; it is part of mmdet.
CONFIG = "rtmdet/rtmdet_tiny_8xb32-300e_coco.py"
_KEY = "metric.accuracy.checkpoint"


def installed_config() -> Path:
    """The installed file of `CONFIG`.

    Raises:
        UserError: MMDetection is not installed or cannot be imported.
    """
    try:
        spec = find_spec("mmdet")
        if spec is None or spec.origin is None:
            raise ImportError("no module named mmdet")
        import mmdet.apis  # noqa: F401
    # mmdet raises AssertionError for wrong versions of mmcv and mmengine.
    except (ImportError, AssertionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"MMDetection cannot be used ({reason}): install it with `make mmdet` (docs/metrics.md)"
            " or use another detector with metric.accuracy.backend=transformers"
        ) from error
    return Path(spec.origin).parent / ".mim" / "configs" / CONFIG


class MMDetDetector:
    """MMDetection's RTMDet-tiny with MMDetection's own test pipeline.

    Images are fitted to 640 x 640 and padded with grey 114, so they can share a batch.

    Args:
        model: a model of `mmdet.apis.init_detector`.
        channels: "bgr", the order of the model's training, or "rgb_as_bgr", the order of the
            paper's released code, which gives it RGB.
        batch_size: images per forward pass.
    """

    def __init__(
        self,
        model: Any,
        *,
        channels: Channels = "bgr",
        batch_size: int = 16,
    ) -> None:
        from mmcv.transforms import Compose
        from mmdet.datasets import CocoDataset
        from mmdet.utils import get_test_pipeline_cfg

        self._model = model.eval().requires_grad_(False)
        self._channels: Channels = channels
        self._batch_size = batch_size
        self._steps = deepcopy(get_test_pipeline_cfg(model.cfg))
        # Images come from memory, not from files.
        self._steps[0].type = "mmdet.LoadImageFromNDArray"
        self._pipeline = Compose(self._steps)
        # Not the model's own names: without a checkpoint they are written with underscores.
        names = CocoDataset.METAINFO["classes"]
        self._category_of = [COCO_CATEGORIES[name] for name in names]
        self.categories: Mapping[str, int] = dict(zip(names, self._category_of, strict=True))

    @classmethod
    def from_checkpoint(
        cls,
        source: str,
        sha256: str | None,
        *,
        channels: Channels = "bgr",
        device: str = "cpu",
        batch_size: int = 16,
    ) -> MMDetDetector:
        """Load a checkpoint of `CONFIG` without running any code in it.

        Args:
            source: a URL or a local path.
            sha256: its SHA-256 or the first digits (MMDetection's file names end in eight digits).
                It is required.
            channels: see the class.
            device: a torch device.
            batch_size: images per forward pass.

        Raises:
            UserError: MMDetection is not installed, the file has another model's weights, or an
                error of `verified_file`.
        """
        config = installed_config()
        if sha256 is None:
            raise UserError(
                f"{_KEY}={source}: a checkpoint is a pickle and needs a hash, "
                "set metric.accuracy.sha256=..."
            )
        path = verified_file(source, sha256, _KEY)
        from mmdet.apis import init_detector

        # Without a checkpoint, mmdet warns that the classes are COCO's. They are: drop the warning.
        with warnings.catch_warnings(record=True):
            model = init_detector(str(config), None, device=device)
        try:
            state = read_checkpoint(path)["state_dict"]
            missing = model.load_state_dict(state, strict=False).missing_keys
        except (*UNREADABLE, KeyError, TypeError, AttributeError) as error:
            raise _wrong_checkpoint(source, error) from error
        if missing:
            raise _wrong_checkpoint(source, f"it lacks {missing[0]} and {len(missing) - 1} more")
        return cls(model, channels=channels, batch_size=batch_size)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The backend, the channel order, and hashes of weights, config and categories."""
        config = self._model.cfg
        return {
            "backend": "mmdet",
            "channels": self._channels,
            "weights": weights_digest(self._model),
            "config": digest([repr(self._steps), repr(config.model)]),
            "categories": digest(dict(self.categories)),
        }

    @torch.inference_mode()
    def detect(self, crops: Sequence[np.ndarray]) -> list[list[Detection]]:
        """Detections per image (uint8 [H, W, 3], RGB), best first."""
        found: list[list[Detection]] = []
        for start in range(0, len(crops), self._batch_size):
            prepared = [self._prepared(crop) for crop in crops[start : start + self._batch_size]]
            results = self._model.test_step(
                {name: [item[name] for item in prepared] for name in ("inputs", "data_samples")}
            )
            found += [self._read(result.pred_instances) for result in results]
        return found

    def _prepared(self, crop: np.ndarray) -> dict[str, Any]:
        image = crop if self._channels == "rgb_as_bgr" else crop[..., ::-1]
        prepared: dict[str, Any] = self._pipeline({"img": np.ascontiguousarray(image), "img_id": 0})
        return prepared

    def _read(self, instances: Any) -> list[Detection]:
        return [
            Detection(self._category_of[label], score, (box[0], box[1], box[2], box[3]))
            for label, score, box in zip(
                instances.labels.tolist(),
                instances.scores.tolist(),
                instances.bboxes.tolist(),
                strict=True,
            )
        ]


def _wrong_checkpoint(source: str, reason: object) -> UserError:
    shown = " ".join(str(reason).split())[:160]
    return UserError(
        f"{_KEY}={source} is not a checkpoint of {CONFIG} ({shown}): give the published one"
    )
