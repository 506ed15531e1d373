"""A part while it is painted: its stored images, its new ones, and how it is written."""

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
    """A `Generation` before encoding: its image is uint8 [3, H, W]."""

    triplet_id: str
    seed: int
    image: torch.Tensor
    seconds: float
    peak_memory_bytes: float

    def encoded(self) -> Generation:
        """The `Generation` to store, with a PNG image."""
        seconds, peak = self.seconds, self.peak_memory_bytes
        pixels = np.ascontiguousarray(self.image.permute(1, 2, 0).numpy())
        return Generation(self.triplet_id, self.seed, png_of(pixels), seconds, peak)


@dataclass
class PartWork:
    """A part while it is painted.

    `kept` are the stored images and `fresh` the new ones, by triplet; `noted` are the stored facts.
    `apart` are the triplets that were painted in another batch than planned, and `sizes` the sizes
    of those batches.
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
        """The part with its images from the store."""
        names = {triplet.triplet_id for triplet in part}
        stored = read_generations_part(run.generations, index) or []
        kept = {item.triplet_id: item for item in stored if item.triplet_id in names}
        noted = dict(part_facts(run.generations, index)) if kept else {}
        apart = set(noted.pop(APART, "").split(SEPARATOR))
        sizes = set(noted.pop(APART_SIZES, "").split(SEPARATOR)) - {""}
        return cls(run, index, part, kept, noted, apart, sizes)

    @property
    def n_missing(self) -> int:
        """How many triplets have no picture."""
        return len(self.part) - len(self.kept) - len(self.fresh)

    def has(self, batch: Sequence[Triplet]) -> bool:
        """Whether a whole batch is stored; a batch with a gap is painted as a whole."""
        return all(triplet.triplet_id in self.kept for triplet in batch)

    def take(self, batch: Sequence[Triplet], items: Sequence[Painted], used: set[int]) -> None:
        """Add the painted images of a batch; `used` are the sizes in which they were painted.

        They replace the batch's stored images only if all of these were painted again. Otherwise
        they fill gaps only.
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
        """Write the part with `facts` added to the stored ones; does nothing without new images."""
        if self.kept and not self.fresh:
            return
        noted = merged([self.noted, facts] if self.kept else [facts])
        found = self.kept | {name: item.encoded() for name, item in self.fresh.items()}
        apart = self.apart & found.keys()
        if apart:
            noted[APART] = SEPARATOR.join(sorted(apart))
            noted[APART_SIZES] = SEPARATOR.join(sorted(self.sizes, key=int))
        rows = [found[t.triplet_id] for t in self.part if t.triplet_id in found]
        write_generations(self.run.generations, self.index, rows, noted)


def png_of(pixels: np.ndarray) -> bytes:
    """Lossless PNG of uint8 [H, W, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
