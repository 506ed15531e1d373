"""From the metrics' settings to the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub import HfApi, try_to_load_from_cache

from profi.catalogue import catalogue, loaded
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
from profi.settings import MetricConfig, shipped_path
from profi.settings.evaluation import Evaluation
from profi.types import UserError
from profi.weights import is_url


@dataclass(frozen=True)
class MetricContext:
    """What a metric of the catalogue is built of; `own` are a plugin's own settings."""

    name: str
    settings: MetricConfig
    evaluation: Evaluation
    device: str = "cpu"
    own: Any = None


def load_metrics(
    settings: MetricConfig,
    device: str,
    evaluation: Evaluation,
    sections: Mapping[str, Any] | None = None,
) -> list[Metric]:
    """The wanted metrics in the wanted order, by the evaluation's rules for scores.

    Raises:
        UserError: naming the key of what is not set, not there or not installed.
    """
    device = resolve_device("model.device", device)
    return [
        catalogue.metrics.get(name).load()(
            MetricContext(name, settings, evaluation, device, (sections or {}).get(name))
        )
        for name in settings.metrics
    ]


def required_identity(
    settings: MetricConfig, evaluation: Evaluation
) -> dict[str, Mapping[str, Any]]:
    """Per metric what its scores' identity must hold to be of these settings.

    For the report stage, which loads no model and so knows no hashes. A dot goes one level down.
    """
    required = {}
    for name in settings.metrics:
        target = catalogue.metrics.get(name).identity
        if target is not None:
            required[name] = loaded(target)(MetricContext(name, settings, evaluation))
    return required


def clip_score(context: MetricContext) -> Metric:
    """The CLIP score."""
    path = context.settings.clip.path
    # open_clip has names of its own, which are no repositories.
    if path is None or not path.startswith(OPEN_CLIP):
        path = _weights("metric.clip.path", path)
    return CLIPScore.from_pretrained(
        path,
        box=context.evaluation.box,
        resizing=context.evaluation.clip_resizing,
        clamp=context.evaluation.clip_clamp,
        device=context.device,
        batch_size=context.settings.batch_size,
    )


def clip_identity(context: MetricContext) -> dict[str, Any]:
    """Of the CLIP score, see `required_identity`."""
    evaluation = context.evaluation
    return {
        "box": evaluation.box,
        "resizing": evaluation.clip_resizing,
        "clamp": evaluation.clip_clamp,
    }


def accuracy(context: MetricContext) -> Metric:
    """The accuracy by one of the two detectors."""
    detect = _mmdet if _backend(context) == "mmdet" else _transformers
    return GenerationAccuracy(
        detect(context),
        context.settings.accuracy.threshold,
        name=context.name,
        box=context.evaluation.box,
    )


def accuracy_identity(context: MetricContext) -> dict[str, Any]:
    """Of the accuracies, see `required_identity`."""
    found = {"threshold": context.settings.accuracy.threshold, "box": context.evaluation.box}
    if _backend(context) == "mmdet":
        channels = context.evaluation.channels
        return found | {"detector.backend": "mmdet", "detector.channels": channels}
    # A detector of transformers notes no backend.
    return found | {"detector.backend": None}


def _backend(context: MetricContext) -> str:
    """Of `accuracy` the one that is set; the two others are named after theirs."""
    _, named, backend = context.name.partition("accuracy_")
    return backend if named else context.settings.accuracy.backend


def _mmdet(context: MetricContext) -> Detector:
    settings = context.settings.accuracy
    return MMDetDetector.from_checkpoint(
        _file("metric.accuracy.checkpoint", settings.checkpoint),
        settings.sha256,
        channels=context.evaluation.channels,
        device=context.device,
        batch_size=context.settings.batch_size,
    )


def _transformers(context: MetricContext) -> Detector:
    # Their models read RGB: there is no wrong order to repeat.
    path = _weights("metric.accuracy.path", context.settings.accuracy.path)
    return TransformersDetector.from_pretrained(
        path, device=context.device, batch_size=context.settings.batch_size
    )


def aesthetic(context: MetricContext) -> Metric:
    """The aesthetic score."""
    settings = context.settings.aesthetic
    return AestheticScore.from_pretrained(
        _file("metric.aesthetic.path", settings.path),
        _weights("metric.aesthetic.clip_path", settings.clip_path),
        crop=context.evaluation.aesthetic_crop,
        sha256=settings.sha256,
        device=context.device,
        batch_size=context.settings.batch_size,
    )


def aesthetic_identity(context: MetricContext) -> dict[str, Any]:
    """Of the aesthetic score, see `required_identity`."""
    return {"crop": context.evaluation.aesthetic_crop}


def pick_score(context: MetricContext) -> Metric:
    """PickScore."""
    settings = context.settings.pick
    processor = settings.processor
    return PickScore.from_pretrained(
        _weights("metric.pick.path", settings.path),
        None if processor is None else _weights("metric.pick.processor", processor),
        device=context.device,
        batch_size=context.settings.batch_size,
    )


def known_region_psnr(context: MetricContext) -> Metric:
    """How well the known region was kept, in dB."""
    return KnownRegionPSNR()


def known_region_lpips(context: MetricContext) -> Metric:
    """How well the known region was kept, by LPIPS."""
    settings = context.settings.lpips
    return KnownRegionLPIPS.from_pretrained(
        _file("metric.lpips.path", settings.path),
        settings.sha256,
        device=context.device,
        batch_size=context.settings.batch_size,
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
