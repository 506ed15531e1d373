"""Builds the metrics from their settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub import HfApi, try_to_load_from_cache
from torch import Tensor

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
from profi.metrics.lpips import LPIPS, FeatureDistance, check_heads
from profi.metrics.mmdet_detector import installed_config
from profi.metrics.open_clip_encoder import OPEN_CLIP
from profi.models.devices import resolve_device
from profi.models.model_folder import HUB_ERRORS, HUB_TIMEOUT_SECONDS
from profi.settings import MetricConfig, shipped_path
from profi.settings.evaluation import Evaluation
from profi.types import UserError
from profi.weights import is_url

#: From two batches of pictures [N, 3, H, W] in [0, 1] to their distances [N].
Compare = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class MetricContext:
    """The arguments of a metric's builder; `own` are a plugin's own settings."""

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
    """The metrics of `metric.metrics` in their order, with the evaluation's rules for scores.

    Raises:
        UserError: a setting is missing, or its file or package is; the message names the key.
    """
    device = resolve_device("model.device", device)
    return [
        catalogue.metrics.get(name).load()(
            MetricContext(name, settings, evaluation, device, (sections or {}).get(name))
        )
        for name in settings.metrics
    ]


def check_packages(settings: MetricConfig, evaluation: Evaluation) -> None:
    """UserError for a package that a metric needs and that is not installed.

    To be called first of all: it is found before data are downloaded.
    """
    for name in settings.metrics:
        accuracy = name.partition("_")[0] == "accuracy"
        if accuracy and _backend(MetricContext(name, settings, evaluation)) == "mmdet":
            installed_config()
        if name == "known_region_lpips":
            check_heads()


def required_identity(
    settings: MetricConfig, evaluation: Evaluation
) -> dict[str, Mapping[str, Any]]:
    """Per metric the values that the identity of its scores must have under these settings.

    For the report stage, which loads no models and so has no hashes. A dot in a name separates two
    levels.
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
    # Names of open_clip are not repositories.
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
    """The CLIP score's part of `required_identity`."""
    evaluation = context.evaluation
    return {
        "box": evaluation.box,
        "resizing": evaluation.clip_resizing,
        "clamp": evaluation.clip_clamp,
    }


def accuracy(context: MetricContext) -> Metric:
    """The accuracy with one of the two detectors."""
    return GenerationAccuracy(
        _detector(context),
        context.settings.accuracy.threshold,
        name=context.name,
        box=context.evaluation.box,
    )


def load_detector(settings: MetricConfig, device: str, evaluation: Evaluation) -> Detector:
    """The detector of the metric `accuracy`; raises like `load_metrics`."""
    device = resolve_device("model.device", device)
    return _detector(MetricContext("accuracy", settings, evaluation, device))


def accuracy_identity(context: MetricContext) -> dict[str, Any]:
    """The accuracies' part of `required_identity`."""
    found = {"threshold": context.settings.accuracy.threshold, "box": context.evaluation.box}
    if _backend(context) == "mmdet":
        channels = context.evaluation.channels
        return found | {"detector.backend": "mmdet", "detector.channels": channels}
    # The identity of a detector of transformers has no backend.
    return found | {"detector.backend": None}


def _backend(context: MetricContext) -> str:
    """The detector's backend: in the metric's name, or for `accuracy` in the settings."""
    _, named, backend = context.name.partition("accuracy_")
    return backend if named else context.settings.accuracy.backend


def _detector(context: MetricContext) -> Detector:
    return (_mmdet if _backend(context) == "mmdet" else _transformers)(context)


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
    # These models read RGB, so `evaluation.channels` does not apply.
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
    """The aesthetic score's part of `required_identity`."""
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
    """PSNR of the known region, in dB."""
    return KnownRegionPSNR()


def known_region_lpips(context: MetricContext) -> Metric:
    """LPIPS of the known region."""
    settings = context.settings.lpips
    return KnownRegionLPIPS.from_pretrained(
        _file("metric.lpips.path", settings.path),
        settings.sha256,
        device=context.device,
        batch_size=context.settings.batch_size,
    )


def picture_distance(settings: MetricConfig, device: str) -> tuple[str, Compare] | None:
    """What compares pictures, and its name; by the metrics of the settings.

    LPIPS, if known_region_lpips is one of them; else the features (`FeatureDistance`) of the
    detector of transformers that scores the accuracy, as the embedded world has no other network;
    else None. Raises like `load_metrics`.
    """
    if "known_region_lpips" in settings.metrics:
        path = _file("metric.lpips.path", settings.lpips.path)
        return "LPIPS", LPIPS.from_pretrained(path, settings.lpips.sha256).to(device)
    accuracy = settings.accuracy
    if "accuracy" not in settings.metrics or accuracy.backend != "transformers":
        return None
    path = _weights("metric.accuracy.path", accuracy.path)
    model = FeatureDistance.from_pretrained(path)
    if model is None:
        return None
    return f"distance of the features of {accuracy.path}", model.to(device)


def _given(key: str, text: str | None) -> str:
    if not text:
        raise UserError(f"{key} is not set: give a local folder, or leave the metric out")
    return text


def _file(key: str, text: str | None) -> str:
    """A URL as given, or the path of a local file; UserError if it is not set or does not exist."""
    given = _given(key, text)
    if is_url(given):
        return given
    local = shipped_path(given)
    if not local.exists():
        raise UserError(f"{key}={given}: {local} does not exist; give a local file or a URL")
    return str(local)


def _weights(key: str, text: str | None) -> str:
    """A folder or a repository id; UserError if it is not set or does not exist."""
    given = _given(key, text)
    local = shipped_path(given)
    # A path that does not exist must not be looked up on the network.
    looks_local = given.startswith(("shipped:", "/", ".", "~")) or given.count("/") > 1
    if looks_local and not local.exists():
        raise UserError(f"{key}={given}: {local} does not exist; give a local folder")
    if local.exists():
        return str(local)
    _check_hub(key, given)
    return given


def _check_hub(key: str, repository: str) -> None:
    """UserError for a repository that is neither cached nor reachable.

    The download itself would retry for half a minute before it fails.
    """
    try:
        # This also refuses text that cannot be the name of a repository.
        if isinstance(try_to_load_from_cache(repository, "config.json"), str):
            return
        HfApi().model_info(repository, timeout=HUB_TIMEOUT_SECONDS)
    except HUB_ERRORS as error:
        raise UserError(
            f"{key}={repository} is neither a local folder nor to be had from the Hugging Face Hub "
            f"({type(error).__name__}): give a local folder with {key}=..."
        ) from error
