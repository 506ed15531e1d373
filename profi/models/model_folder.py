"""A model's folder in the diffusers layout, local or from the Hugging Face Hub."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase as fnmatch
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from profi.download import sha256_of
from profi.types import UserError, digest

log = logging.getLogger(__name__)

# Weights next to the plain ones: in half precision, or without the averaging of training; a file
# may be one of several (model.fp16-00001-of-00002.safetensors).
HALF = "fp16"
VARIANT = re.compile(rf"\.({HALF}|non_ema)(?=[.-])")
# Text encoders and their tokenizers: one of each, or SDXL's two.
TEXT_FOLDERS = (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2"))
SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
# The file with a pipeline's own settings; it is optional.
PIPELINE_CONFIG = "model_index.json"
HUB_TIMEOUT_SECONDS = 10.0
# The second is the base class of the HTTP library's errors (the library depends on the version of
# huggingface_hub). Connection errors belong to it and are not always OSErrors.
HUB_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    cast(type[Exception], HfHubHTTPError.__bases__[0]),
    ValueError,
)

T = TypeVar("T")


def text_folders(folder: Path) -> tuple[tuple[str, str], ...]:
    """The subfolders of each text encoder and its tokenizer.

    Only the UNet's config decides whether there is a second pair.
    """
    two = read_json(folder, "unet/config.json").get("addition_embed_type") == "text_time"
    return TEXT_FOLDERS if two else TEXT_FOLDERS[:1]


def weight_folders(folder: Path) -> tuple[str, ...]:
    """The subfolders whose weights are loaded."""
    return ("unet", "vae", *(encoder for encoder, _ in text_folders(folder)))


def weight_hashes(folder: Path, parts: Sequence[str] | None = None) -> dict[str, str]:
    """SHA-256 of every weight file that is loaded, by its path in the folder.

    `parts` are the subfolders; None: all that are loaded.
    """
    hashes: dict[str, str] = {}
    for part in weight_folders(folder) if parts is None else parts:
        hashes |= file_hashes(folder / part, part)
    return hashes


def file_hashes(folder: Path, part: str) -> dict[str, str]:
    """SHA-256 of the weight files in one folder, by `part/` and their names."""
    loaded = weight_files([path.name for path in folder.glob("*.safetensors")])
    return {f"{part}/{name}": sha256_of(folder / name) for name in loaded}


def weight_files(names: Sequence[str]) -> list[str]:
    """The weight files of one folder that are loaded, sorted: those without a variant's name.

    Some repositories hold their safetensors in half precision alone: then the variant fp16.
    """
    weights = sorted(name for name in names if name.endswith(".safetensors"))
    plain = [name for name in weights if not VARIANT.search(name)]
    return plain or [name for name in weights if HALF in VARIANT.findall(name)]


def needed_files(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The files of a repository that match a pattern, with `weight_files` of each folder."""
    matching = [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]
    folders: dict[str, list[str]] = {}
    for name in matching:
        folder, _, file = name.rpartition("/")
        folders.setdefault(folder, []).append(file)
    kept = {f"{folder}/{file}" for folder, files in folders.items() for file in weight_files(files)}
    return [name for name in matching if not name.endswith(".safetensors") or name in kept]


def weights_digest(folder: Path) -> str:
    """One digest of the weight files of a folder in the diffusers layout."""
    return digest(weight_hashes(folder))


def missing_file(folder: Path) -> str | None:
    """The first missing file or subfolder; None if the folder looks complete."""
    if not (folder / "unet/config.json").is_file():
        return "unet/config.json"
    files = [*(f"{part}/config.json" for part in weight_folders(folder)), SCHEDULER_CONFIG]
    tokenizers = [f"{tokenizer}/" for _, tokenizer in text_folders(folder)]
    return next((name for name in files + tokenizers if not (folder / name).exists()), None)


def load_part(folder: Path, part: str, model_class: Any) -> Any:
    """A model of a diffusers or transformers class from a subfolder, float32, on the CPU.

    Raises UserError for files that are missing, damaged or lack some of the model's weights.
    """

    return loading(folder, f"{part}/", partial(load_weights, model_class))


def load_weights(model_class: Any, folder: Path) -> Any:
    """A model of a diffusers or transformers class from its own folder, as `load_part`.

    Raises the libraries' errors, or ValueError if the file lacks some of the weights.
    """
    loaded = weight_files([path.name for path in folder.glob("*.safetensors")])
    variant = HALF if loaded and VARIANT.search(loaded[0]) else None
    if variant is not None:
        log.info("%s has weights in half precision alone: its variant %s is loaded", folder, HALF)
    model, info = model_class.from_pretrained(
        folder,
        use_safetensors=True,
        variant=variant,
        torch_dtype=torch.float32,
        local_files_only=True,
        output_loading_info=True,
    )
    # Both libraries fill missing weights with random numbers.
    if info["missing_keys"]:
        raise ValueError(f"its file lacks {min(info['missing_keys'])}, among others")
    return model


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object; raises UserError if the file has no JSON object."""

    def read(path: Path) -> dict[str, Any]:
        value = json.loads(path.read_text("utf-8"))
        if not isinstance(value, dict):
            raise ValueError("no JSON object")
        return value

    return loading(folder, name, read)


def loading(folder: Path, part: str, load: Callable[[Path], T], key: str = "model.path") -> T:
    """`load` a part of the folder; errors of missing or damaged files become one UserError."""
    try:
        return load(folder / part)
    except UserError:
        raise
    # Libraries report a damaged config by whatever its wrong value leads to.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"model folder {folder}: {part} cannot be loaded ({type(error).__name__}: {reason}); "
            f"give a complete folder in the diffusers layout with safetensors (run.py: {key}=...)"
        ) from error


def from_hub(repo_id: str) -> Path:
    """The local snapshot of a Hub repository, downloaded if needed."""
    encoders, tokenizers = zip(*TEXT_FOLDERS, strict=True)
    patterns = [PIPELINE_CONFIG, "scheduler/*", *(f"{part}/*" for part in tokenizers)]
    for part in ("unet", "vae", *encoders):
        patterns += [f"{part}/*.json", f"{part}/*.safetensors"]

    def complete(folder: Path) -> bool:
        return missing_file(folder) is None and all(
            any((folder / part).glob("*.safetensors")) for part in weight_folders(folder)
        )

    return hub_snapshot(repo_id, patterns, complete, "model.path")


def hub_snapshot(
    repo_id: str, patterns: Sequence[str], complete: Callable[[Path], bool], key: str
) -> Path:
    """The local snapshot of a repository's files of these patterns; downloaded if incomplete."""
    patterns = list(patterns)
    try:
        cached = Path(snapshot_download(repo_id, allow_patterns=patterns, local_files_only=True))
        if complete(cached):
            return cached
    except (OSError, ValueError):
        pass  # Not in the cache, or not a valid id; then the Hub reports it below.
    try:
        # A short request first: a download from an unreachable Hub retries for minutes.
        found = HfApi().model_info(repo_id, timeout=HUB_TIMEOUT_SECONDS).siblings or []
        files = needed_files([file.rfilename for file in found], patterns)
        return Path(snapshot_download(repo_id, allow_patterns=files or patterns))
    except HUB_ERRORS as error:
        raise UserError(
            f"the model {repo_id!r} is neither a local folder nor to be had from the Hugging Face "
            f"Hub ({type(error).__name__}); "
            f"give a local folder in the diffusers layout (run.py: {key}=...)"
        ) from error
