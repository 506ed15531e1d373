"""The records that travel between the stages. A leaf: imports nothing of profi.

triplets -> inpainter -> generations store -> metrics -> scores store -> report
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class UserError(Exception):
    """A mistake that the user can mend: one line that names the thing and the remedy.

    `run.py` prints the message alone (no traceback) and exits with status 2.
    """


class MachineError(UserError):
    """What the machine does not allow, whatever the sample: a run ends, and sets nothing aside."""


class MissingRowError(UserError):
    """Of one row only, such as weights that are not there: the others of a table or sweep go on."""


def is_text(value: str) -> bool:
    """Whether a text can be written as UTF-8.

    Python reads a byte that is no UTF-8, and JSON's half of a character, as a lone surrogate.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_text(name: str, value: str) -> None:
    """UserError that names a text which is not UTF-8; the bad byte is shown as \\xNN."""
    if not is_text(value):
        shown = value.encode("utf-8", "surrogateescape" if _only_bytes(value) else "replace")
        raise UserError(
            f"{name} is not UTF-8 text ({shown!r}): set the terminal or the file to UTF-8"
        )


def _only_bytes(value: str) -> bool:
    return all(not "\ud800" <= c <= "\udfff" or "\udc80" <= c <= "\udcff" for c in value)


@dataclass(frozen=True)
class Triplet:
    """One (image, mask, prompt) of the benchmark (paper, sec. 4.2).

    The mask is `hull`, filled: the convex hull of the instance's polygons as a flat tuple
    (x0, y0, x1, y1, ...) in pixels of the stored image; `filling` is the rule by which it is
    filled (`Evaluation.hull`). Where it is not one hull, `rle` is the mask (MSCOCO's compressed run
    lengths) and `hull` is empty. A mask that was given as a picture is in pixels of the upright
    image, and there is neither annotation nor category (None).
    """

    triplet_id: str
    image_id: int
    annotation_id: int | None
    category_id: int | None
    prompt: str
    file_name: str
    height: int
    width: int
    hull: tuple[float, ...]
    rle: str | None = None
    filling: str = "exact"


@dataclass(frozen=True)
class Generation:
    """One painted image.

    `image` holds the bytes of a lossless PNG (RGB); `seconds` is the batch's wall time
    divided by its size; `peak_memory_bytes` is NaN where the device does not report one.
    """

    triplet_id: str
    seed: int
    image: bytes
    seconds: float
    peak_memory_bytes: float


@dataclass(frozen=True)
class Score:
    """One metric of one painted image; `value` is NaN when it could not be computed."""

    triplet_id: str
    seed: int
    metric: str
    value: float


def canonical_json(value: Any) -> str:
    """The same text for equal values, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(value: Any, length: int = 16) -> str:
    """The first `length` hex digits of the SHA-256 of `canonical_json(value)`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


#: PyTorch's CPU generators use 32 bits of a seed: a larger one would repeat a smaller one.
MAX_SEED = 2**32 - 1


def sample_seed(run_seed: int, triplet_id: str) -> int:
    """A 63-bit seed for one sample, from the run's seed and the triplet's id alone.

    So a sample starts from the same noise in any batch, shard or order.
    """
    text = f"{run_seed}:{triplet_id}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def noise_seed(run_seed: int, triplet_id: str) -> int:
    """`sample_seed` in the bits that a generator of PyTorch uses."""
    return sample_seed(run_seed, triplet_id) & MAX_SEED


@dataclass(frozen=True)
class RunSpec:
    """What a run is.

    `pixels` holds everything that changes a pixel (model and the hashes of its weights,
    method, reading, sampling, seed, data and the hash of its manifest, batch size); the run id
    is its hash, so different settings never share a folder and equal ones always do.
    `environment` (commit, dirty flag, versions, device) is recorded with it.
    """

    pixels: Mapping[str, Any]
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """16 hex digits."""
        return digest(self.pixels)
