"""Weight files: downloaded once, checked by hash, and read without running any code."""

from __future__ import annotations

import logging
import os
import pickle
import re
import string
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import torch

from profi.download import Remote, download, only_one
from profi.types import UserError

log = logging.getLogger(__name__)

#: The shortest prefix of a SHA-256 that names a file, as PyTorch's and MMDetection's names do.
_SHORTEST = 8


def is_url(text: str) -> bool:
    """Whether `text` is an http(s) URL."""
    return urlsplit(text).scheme in ("http", "https")


def weights_cache() -> Path:
    """`$XDG_CACHE_HOME/profi/weights`, or the same under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "profi" / "weights"


def verified_file(source: str, sha256: str | None, key: str, folder: Path | None = None) -> Path:
    """The local path of the file at `source`, after its hash was checked against `sha256`.

    A URL is downloaded into `folder` unless a copy with this hash is there.

    Args:
        source: a URL or a local path.
        sha256: the SHA-256 in hex, or at least its first 8 digits. None: a local file is not
            checked.
        key: the config key of `source`; that of `sha256` is in the same section.
        folder: the folder of the copies; None is `weights_cache()`.

    Raises:
        UserError: the file is missing or unreachable, a URL has no hash, or the hash differs.
    """
    hash_key = f"{key.rpartition('.')[0]}.sha256"
    if sha256 is not None and not _is_hash(sha256):
        raise UserError(f"{hash_key}={sha256}: give {_SHORTEST} to 64 hex digits of the SHA-256")
    if is_url(source):
        if sha256 is None:
            raise UserError(f"{key}={source}: a download needs its hash, set {hash_key}=...")
        return _fetched(source, sha256.lower(), key, folder or weights_cache())
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(f"{key}={source}: there is no such file")
    if sha256 is not None:
        found = Remote(source, "sha256", sha256).digest_of(path)
        if not found.startswith(sha256.lower()):
            raise UserError(
                f"{key}={source} is another file (its SHA-256 is {found}, not {sha256}): "
                f"set {hash_key}={found} to use it anyway"
            )
    return path


def _is_hash(text: str) -> bool:
    return _SHORTEST <= len(text) <= 64 and set(text) <= set(string.hexdigits)


def _fetched(url: str, sha256: str, key: str, folder: Path) -> Path:
    remote = Remote(url, "sha256", sha256)
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    safe = re.sub(r"[^A-Za-z0-9._+-]", "_", name).lstrip(".") or "weights"
    path = folder / f"{sha256[:16]}-{safe}"
    with only_one(folder / f".{path.name}.lock"):
        if not path.is_file() or not remote.digest_of(path).startswith(sha256):
            log.info("fetching %s", url)
            remedy = f"give a local file with {key}=..."
            download(remote, path, remedy=remedy, progress=lambda _done, _total: None)
    return path


class Inert:
    """A placeholder for a non-tensor object of a checkpoint; it does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Ignore all arguments."""

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""


def read_checkpoint(path: Path) -> Any:
    """Read a file of `torch.save`, with `Inert` objects in place of everything but plain data.

    Old checkpoints contain logs and NumPy objects in addition to tensors, and `weights_only=True`
    refuses these. Here every such class is replaced by one that does nothing, so the tensors can
    be read and no code of the file runs.

    Raises:
        OSError, ValueError, RuntimeError, pickle.UnpicklingError: the file is not a checkpoint,
            or it needs something that no checkpoint needs.
    """
    names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    stand_ins: list[Any] = [(Inert, name) for name in names]
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(path, map_location="cpu", weights_only=True)


#: The errors of `read_checkpoint` and `torch.load` for files that are not checkpoints.
UNREADABLE = (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError)


def why_unreadable(error: Exception) -> str:
    """The reason of an error of UNREADABLE (or of one caught with them) in one line."""
    if isinstance(error, pickle.UnpicklingError):
        return "it contains more than tensors; code is never loaded"
    return " ".join(str(error).split())[:160]
