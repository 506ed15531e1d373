"""The `Metric` protocol, its input, the `Sample`, and the loading of the metrics' models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from transformers.utils import cached_file

from profi.metrics.functional import Box, bounding_box
from profi.settings.evaluation import BoxOf
from profi.types import UserError


@dataclass(frozen=True, eq=False)
class Sample:
    """One painted image with its mask and prompt.

    Attributes:
        image: uint8 [H, W, 3], RGB; the painted image.
        mask: bool [H, W]; True where the image was painted.
        prompt: the prompt; in the benchmark it is the label.
        original: uint8 [H, W, 3], RGB, the image before painting. Only metrics that compare with
            it (`Metric.needs_original`) get it; without it they score NaN.
        bicubic_mask: bool [H, W]; the given mask, resized by PIL's bicubic filter; `box` may use it
            in place of `mask`. None: there is only `mask`.

    Raises:
        ValueError: a shape or a type is wrong.
    """

    image: np.ndarray
    mask: np.ndarray
    prompt: str
    original: np.ndarray | None = None
    bicubic_mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, array in (("image", self.image), ("original", self.original)):
            if array is None:
                continue
            if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
                raise ValueError(f"{name} must be uint8 [H, W, 3], not {array.dtype} {array.shape}")
        if self.mask.dtype != np.bool_ or self.mask.shape != self.image.shape[:2]:
            raise ValueError(
                f"mask must be bool {self.image.shape[:2]}, not {self.mask.dtype} {self.mask.shape}"
            )
        if self.bicubic_mask is not None and self.bicubic_mask.shape != self.mask.shape:
            raise ValueError(f"bicubic_mask {self.bicubic_mask.shape} is not {self.mask.shape}")
        if self.original is not None and self.original.shape != self.image.shape:
            raise ValueError(f"original {self.original.shape} is not image {self.image.shape}")

    def box(self, rule: BoxOf) -> Box:
        """The bounding box of the mask that `rule` names; ValueError if that mask is empty."""
        if rule == "painted_mask" or self.bicubic_mask is None:
            return bounding_box(self.mask)
        return bounding_box(self.bicubic_mask)


class Metric(Protocol):
    """One score per sample; a score does not depend on the other samples in the call.

    A score that cannot be computed is NaN; reports count it and never drop it.
    """

    @property
    def name(self) -> str:
        """The metric's name in the scores store."""
        ...

    @property
    def needs_original(self) -> bool:
        """Whether the metric needs `Sample.original`."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """All settings that change scores (hashes of weights, thresholds, ...), as JSON values.

        It is recorded with the scores.
        """
        ...

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """One value per sample, in order."""
        ...


@contextmanager
def explained(what: str, path: str, key: str) -> Iterator[None]:
    """Turn the errors of transformers for a missing or broken model into one UserError.

    Raises:
        UserError: with `path` and its config key `key`.
    """
    try:
        yield
    # transformers raises OSError if the model is missing or unreachable; ValueError, TypeError or
    # KeyError if it is another kind of model; RuntimeError for weights of other shapes. safetensors
    # has its own error for a truncated file.
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{what} '{path}' cannot be loaded ({reason}): "
            f"download it first or give a local folder with {key}=<folder>"
        ) from error


def preprocessor_config(path: str, what: str, key: str) -> dict[str, Any]:
    """The `preprocessor_config.json` of a local folder or a Hub repository.

    It is a small file, so reading it first shows quickly whether the repository exists.

    Raises:
        UserError: the file cannot be read.
    """
    with explained(what, path, key):
        found = cached_file(path, "preprocessor_config.json")
        if found is None:
            raise FileNotFoundError("preprocessor_config.json")
        config: dict[str, Any] = json.loads(Path(found).read_text())
    return config


def weights_digest(model: torch.nn.Module, length: int = 16) -> str:
    """The first `length` hex digits of a SHA-256 of all tensors: names, dtypes, shapes, bytes."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        total.update(raw.numpy().data)
    return total.hexdigest()[:length]
