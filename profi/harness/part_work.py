"""A part that is being painted: what is there of it, what is new, and how it is written."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from profi.harness.provenance import APART, APART_SIZES, SEPARATOR, merged
from profi.harness.run_folder import RunFolder
from profi.store.generations import read_generations_part, write_generations
from profi.store.parts import part_facts
from profi.types import Generation, Triplet


@dataclass(frozen=True)
class Painted:
    """A picture, uint8 [3, H, W], that is not encoded yet; else a `Generation`."""

    triplet_id: str
    seed: int
    image: torch.Tensor
    seconds: float
    peak_memory_bytes: float

    def encoded(self) -> Generation:
        """As it is stored."""
        seconds, peak = self.seconds, self.peak_memory_bytes
        pixels = np.ascontiguousarray(self.image.permute(1, 2, 0).numpy())
        return Generation(self.triplet_id, self.seed, png_of(pixels), seconds, peak)


@dataclass
class PartWork:
    """`kept` was there before, `fresh` is new, both by triplet; `noted` the part's facts.

    `apart` are the triplets that were painted without their fixed company, and `sizes` in how
    large batches.
    """

    run: RunFolder
    index: int
    part: Sequence[Triplet]
    kept: dict[str, Generation]
    noted: Mapping[str, str]
    apart: set[str]
    sizes: set[str]
    fresh: dict[str, Painted] = field(default_factory=dict)

    @classmethod
    def of(cls, run: RunFolder, index: int, part: Sequence[Triplet]) -> PartWork:
        """A part as it lies in the store."""
        wanted = {triplet.triplet_id for triplet in part}
        there = read_generations_part(run.generations, index) or []
        kept = {item.triplet_id: item for item in there if item.triplet_id in wanted}
        noted = dict(part_facts(run.generations, index)) if kept else {}
        apart = set(noted.pop(APART, "").split(SEPARATOR))
        sizes = set(noted.pop(APART_SIZES, "").split(SEPARATOR)) - {""}
        return cls(run, index, part, kept, noted, apart, sizes)

    @property
    def n_missing(self) -> int:
        """How many triplets have no picture."""
        return len(self.part) - len(self.kept) - len(self.fresh)

    def has(self, batch: Sequence[Triplet]) -> bool:
        """All of a batch: one with a gap is painted as a whole, with its fixed company."""
        return all(triplet.triplet_id in self.kept for triplet in batch)

    def take(self, batch: Sequence[Triplet], items: Sequence[Painted], used: set[int]) -> None:
        """What was painted of a batch, `used` at once.

        What is there goes only when all of it is there again: a retry that fails, wholly or in
        part, fills gaps at most.
        """
        new = {item.triplet_id: item for item in items}
        old = {t.triplet_id for t in batch if t.triplet_id in self.kept}
        if old <= new.keys():
            self.kept = {name: item for name, item in self.kept.items() if name not in old}
        else:
            new = {name: item for name, item in new.items() if name not in old}
        self.fresh |= new
        if used == {len(batch)}:
            self.apart -= new.keys()
        elif new:
            self.apart |= new.keys()
            self.sizes |= {str(size) for size in used}

    def write(self, facts: Mapping[str, str]) -> None:
        """Into the store, with `facts` beside what was noted; nothing where nothing is new."""
        if self.kept and not self.fresh:
            return
        told = merged([self.noted, facts] if self.kept else [facts])
        found = self.kept | {name: item.encoded() for name, item in self.fresh.items()}
        apart = self.apart & found.keys()
        if apart:
            told[APART] = SEPARATOR.join(sorted(apart))
            told[APART_SIZES] = SEPARATOR.join(sorted(self.sizes, key=int))
        rows = [found[t.triplet_id] for t in self.part if t.triplet_id in found]
        write_generations(self.run.generations, self.index, rows, told)


def png_of(pixels: np.ndarray) -> bytes:
    """Lossless PNG of uint8 [H, W, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
