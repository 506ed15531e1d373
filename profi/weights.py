"""Weight files by their hash: fetched once, checked each time, read without running anything."""

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
    """Whether `text` names a file on the network."""
    return urlsplit(text).scheme in ("http", "https")


def weights_cache() -> Path:
    """`$XDG_CACHE_HOME/profi/weights`, or the same under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "profi" / "weights"


def verified_file(source: str, sha256: str | None, key: str, folder: Path | None = None) -> Path:
    """The file at `source` once its bytes have the hash `sha256`.

    A URL is downloaded into `folder` unless a copy with this hash lies there.

    Args:
        source: a URL or a local path.
        sha256: the SHA-256 in hex, or the first 8 digits or more of it. A local file is
            taken as it is where it is None.
        key: the config key of `source`; `sha256` is beside it.
        folder: of the copies; `weights_cache()` if None.

    Raises:
        UserError: no such file, not reachable, no hash for a URL, or another hash.
    """
    beside = f"{key.rpartition('.')[0]}.sha256"
    if sha256 is not None and not _is_hash(sha256):
        raise UserError(f"{beside}={sha256}: give {_SHORTEST} to 64 hex digits of the SHA-256")
    if is_url(source):
        if sha256 is None:
            raise UserError(f"{key}={source}: a download needs its hash, set {beside}=...")
        return _fetched(source, sha256.lower(), key, folder or weights_cache())
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(f"{key}={source}: there is no such file")
    if sha256 is not None:
        found = Remote(source, "sha256", sha256).digest_of(path)
        if not found.startswith(sha256.lower()):
            raise UserError(
                f"{key}={source} is another file (its SHA-256 is {found}, not {sha256}): "
                f"set {beside}={found} if it is the one that is meant"
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
    """Stands for an object of a checkpoint that is no tensor; does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Whatever is given is dropped."""

    def __setstate__(self, state: Any) -> None:
        """Whatever is given is dropped."""


def read_checkpoint(path: Path) -> Any:
    """What `torch.save` wrote, with `Inert` objects in place of all that is no plain data.

    Old checkpoints hold logs and NumPy objects beside their tensors, which `weights_only=True`
    refuses. Naming every such class as one that does nothing lets the tensors be read and still
    runs no code that the file asks for.

    Raises:
        OSError, ValueError, RuntimeError, pickle.UnpicklingError: not such a file, or one that
            asks for what no checkpoint needs.
    """
    names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    stand_ins: list[Any] = [(Inert, name) for name in names]
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(path, map_location="cpu", weights_only=True)


#: What `read_checkpoint` and `torch.load` raise for files that are no checkpoints.
UNREADABLE = (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError)


def why_unreadable(error: Exception) -> str:
    """An error of UNREADABLE, or what it is caught with, in a line."""
    if isinstance(error, pickle.UnpicklingError):
        return "it is no file of tensors alone; what would run code is never loaded"
    return " ".join(str(error).split())[:160]
