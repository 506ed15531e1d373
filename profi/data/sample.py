"""Which triplets a run paints, in which order, in which units of work."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from profi.types import Triplet, UserError


@dataclass(frozen=True)
class Candidates:
    """All triplets of a data set, and how many instances were left out, by reason."""

    triplets: tuple[Triplet, ...]
    skipped: Mapping[str, int]


def sample_triplets(
    triplets: Iterable[Triplet], limit: int | None, seed: int
) -> tuple[Triplet, ...]:
    """A sample without replacement that depends on the ids and the seed alone.

    The triplets are ordered by the hexadecimal SHA-256 of the text "<seed>:<annotation id>"
    ("<seed>:<triplet id>" where there are no annotations); the first `limit` are the sample, in
    that order (None: all of them). So neither the order of the file nor a version of any library
    matters, and a smaller sample is the start of a larger one.

    Raises:
        UserError: fewer than `limit` triplets.
    """
    ordered = sorted(triplets, key=lambda triplet: _rank(triplet, seed))
    if limit is not None and limit > len(ordered):
        raise UserError(
            f"data.limit={limit}: there are only {len(ordered)} usable triplets; lower it"
        )
    return tuple(ordered[:limit])


def in_order(candidates: Iterable[Triplet], limit: int | None, seed: int) -> tuple[Triplet, ...]:
    """The same sample as `sample_triplets`, in the order that the candidates have."""
    found = tuple(candidates)
    drawn = {triplet.triplet_id for triplet in sample_triplets(found, limit, seed)}
    return tuple(triplet for triplet in found if triplet.triplet_id in drawn)


def _rank(triplet: Triplet, seed: int) -> str:
    number = triplet.annotation_id
    name = triplet.triplet_id if number is None else number
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def parts(triplets: Sequence[Triplet], size: int) -> list[tuple[Triplet, ...]]:
    """The fixed slices of a manifest: units of work that depend on nothing but their place."""
    return [tuple(triplets[start : start + size]) for start in range(0, len(triplets), size)]
