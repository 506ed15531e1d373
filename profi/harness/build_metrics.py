"""From the metrics' settings to the metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from huggingface_hub import HfApi, try_to_load_from_cache

from profi.metrics import (
    AestheticScore,
    CLIPScore,
    Detector,
    GenerationAccuracy,
    KnownRegionLPIPS,
    KnownRegionPSNR,
    Metric,
    MMDetDetector,
    PickScore,
    TransformersDetector,
)
from profi.metrics.open_clip_encoder import OPEN_CLIP
from profi.models.devices import resolve_device
from profi.models.folder import HUB_ERRORS, HUB_TIMEOUT_SECONDS
from profi.settings import AccuracyConfig, MetricConfig, shipped_path
from profi.settings.evaluation import Evaluation
from profi.types import UserError
from profi.weights import is_url


def load_metrics(config: MetricConfig, device: str, evaluation: Evaluation) -> list[Metric]:
    """The wanted metrics in the wanted order, by the evaluation's rules for scores.

    Raises:
        UserError: naming the key of what is not set, not there or not installed.
    """
    device = resolve_device("model.device", device)

    def accuracy(backend: str, suffix: str = "") -> Metric:
        detect = _mmdet if backend == "mmdet" else _transformers
        detector = detect(config.accuracy, device, config.batch_size, evaluation)
        name, threshold = f"accuracy{suffix}", config.accuracy.threshold
        return GenerationAccuracy(detector, threshold, name=name, box=evaluation.box)

    builders: dict[str, Callable[[], Metric]] = {
        "clip_score": lambda: _clip_score(config, device, evaluation),
        "accuracy": lambda: accuracy(config.accuracy.backend),
        "aesthetic": lambda: _aesthetic(config, device, evaluation),
        "known_region_psnr": KnownRegionPSNR,
        "known_region_lpips": lambda: _known_region_lpips(config, device),
        "pick_score": lambda: _pick_score(config, device),
        "accuracy_mmdet": lambda: accuracy("mmdet", "_mmdet"),
        "accuracy_transformers": lambda: accuracy("transformers", "_transformers"),
    }
    return [builders[name]() for name in config.metrics]


def required_identity(config: MetricConfig, evaluation: Evaluation) -> dict[str, Mapping[str, Any]]:
    """Per metric what its scores' identity must hold to be of these settings.

    For the report stage, which loads no model and so knows no hashes. A dot goes one level down.
    """
    accuracy = config.accuracy
    found = {"threshold": accuracy.threshold, "box": evaluation.box}
    mmdet = found | {"detector.backend": "mmdet", "detector.channels": evaluation.channels}
    # A detector of transformers notes no backend.
    transformers = found | {"detector.backend": None}
    return {
        "clip_score": {
            "box": evaluation.box,
            "resizing": evaluation.clip_resizing,
            "clamp": evaluation.clip_clamp,
        },
        "aesthetic": {"crop": evaluation.aesthetic_crop},
        "accuracy": mmdet if accuracy.backend == "mmdet" else transformers,
        "accuracy_mmdet": mmdet,
        "accuracy_transformers": transformers,
    }


def _clip_score(config: MetricConfig, device: str, evaluation: Evaluation) -> Metric:
    path = config.clip.path
    # open_clip has names of its own, which are no repositories.
    if path is None or not path.startswith(OPEN_CLIP):
        path = _weights("metric.clip.path", path)
    return CLIPScore.from_pretrained(
        path,
        box=evaluation.box,
        resizing=evaluation.clip_resizing,
        clamp=evaluation.clip_clamp,
        device=device,
        batch_size=config.batch_size,
    )


def _mmdet(
    config: AccuracyConfig, device: str, batch_size: int, evaluation: Evaluation
) -> Detector:
    return MMDetDetector.from_checkpoint(
        _file("metric.accuracy.checkpoint", config.checkpoint),
        config.sha256,
        channels=evaluation.channels,
        device=device,
        batch_size=batch_size,
    )


def _transformers(
    config: AccuracyConfig, device: str, batch_size: int, _evaluation: Evaluation
) -> Detector:
    # Their models read RGB: there is no wrong order to repeat.
    path = _weights("metric.accuracy.path", config.path)
    return TransformersDetector.from_pretrained(path, device=device, batch_size=batch_size)


def _aesthetic(config: MetricConfig, device: str, evaluation: Evaluation) -> Metric:
    path = _file("metric.aesthetic.path", config.aesthetic.path)
    clip = _weights("metric.aesthetic.clip_path", config.aesthetic.clip_path)
    return AestheticScore.from_pretrained(
        path,
        clip,
        crop=evaluation.aesthetic_crop,
        sha256=config.aesthetic.sha256,
        device=device,
        batch_size=config.batch_size,
    )


def _pick_score(config: MetricConfig, device: str) -> Metric:
    path = _weights("metric.pick.path", config.pick.path)
    processor = config.pick.processor
    return PickScore.from_pretrained(
        path,
        None if processor is None else _weights("metric.pick.processor", processor),
        device=device,
        batch_size=config.batch_size,
    )


def _known_region_lpips(config: MetricConfig, device: str) -> Metric:
    return KnownRegionLPIPS.from_pretrained(
        _file("metric.lpips.path", config.lpips.path),
        config.lpips.sha256,
        device=device,
        batch_size=config.batch_size,
    )


def _given(key: str, text: str | None) -> str:
    if not text:
        raise UserError(f"{key} is not set: give a local folder, or leave the metric out")
    return text


def _file(key: str, text: str | None) -> str:
    """A URL as it is, or a local path; UserError naming the key where neither is set or there."""
    given = _given(key, text)
    if is_url(given):
        return given
    local = shipped_path(given)
    if not local.exists():
        raise UserError(f"{key}={given}: {local} does not exist; give a local file or a URL")
    return str(local)


def _weights(key: str, text: str | None) -> str:
    """A folder or a repository id; UserError naming the key where neither is set."""
    given = _given(key, text)
    local = shipped_path(given)
    # What looks like a path and is not there must not be asked for on the network.
    looks_local = given.startswith(("shipped:", "/", ".", "~")) or given.count("/") > 1
    if looks_local and not local.exists():
        raise UserError(f"{key}={given}: {local} does not exist; give a local folder")
    if local.exists():
        return str(local)
    _check_hub(key, given)
    return given


def _check_hub(key: str, repository: str) -> None:
    """UserError, soon, for a repository that is neither cached nor reachable.

    Left to itself the download asks again for half a minute.
    """
    try:
        # Refuses what cannot be the name of a repository, too.
        if isinstance(try_to_load_from_cache(repository, "config.json"), str):
            return
        HfApi().model_info(repository, timeout=HUB_TIMEOUT_SECONDS)
    except HUB_ERRORS as error:
        raise UserError(
            f"{key}={repository} is neither a local folder nor to be had from the Hugging Face Hub "
            f"({type(error).__name__}): give a local folder with {key}=..."
        ) from error
