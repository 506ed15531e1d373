"""Loading of the metrics' models, with error messages that name the remedy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers.utils import cached_file

from profi.types import UserError


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
