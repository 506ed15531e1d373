"""The plan of a run: parts of the manifest, and batches within them.

The unit of work is the part, a fixed slice of the manifest. Its batches are fixed too: triplets of
one padded size, in the manifest's order, `batch_size` at a time. So the batches depend only on the
manifest and the settings, not on shards, restarts or order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from profi.data.manifest import parts
from profi.data.masks import triplet_mask
from profi.data.pictures import load_image
from profi.fitting import Extent, Fitted, fit, padded_size, working_size
from profi.settings.evaluation import Evaluation
from profi.types import Triplet, noise_seed


@dataclass(frozen=True)
class Plan:
    """What decides a run's batches and pictures, apart from the inpainter.

    `seed` is the run's, `shard` is (index from 0, count).
    """

    root: Path
    seed: int
    long_side: int
    pad_multiple: int
    batch_size: int
    part_size: int
    evaluation: Evaluation
    shard: tuple[int, int] = (0, 1)

    def fitted(self, triplet: Triplet) -> Fitted:
        """A triplet's image and mask at the model's size."""
        image = torch.from_numpy(load_image(self.root, triplet)).permute(2, 0, 1) / 255.0
        mask = torch.from_numpy(triplet_mask(triplet))
        return fit(image, mask, self.long_side, self.pad_multiple, self.evaluation)

    def noise_seed(self, triplet: Triplet) -> int:
        """The seed of the triplet's start noise: one per triplet, or the run's seed for all."""
        of_run = self.evaluation.noise == "run"
        if of_run:
            return self.seed
        return noise_seed(self.seed, triplet.triplet_id)

    def padded_size(self, triplet: Triplet) -> Extent:
        """(height, width) of `fitted`, without reading the image."""
        size = working_size((triplet.height, triplet.width), self.long_side, self.evaluation.size)
        return padded_size(size, self.pad_multiple)

    def batches(self, part: Sequence[Triplet]) -> list[list[Triplet]]:
        """The fixed batches of a part."""
        groups: dict[tuple[int, int], list[Triplet]] = {}
        for triplet in part:
            groups.setdefault(self.padded_size(triplet), []).append(triplet)
        return [
            group[start : start + self.batch_size]
            for group in groups.values()
            for start in range(0, len(group), self.batch_size)
        ]

    def share(self, triplets: Sequence[Triplet]) -> list[tuple[int, tuple[Triplet, ...]]]:
        """This shard's parts with their numbers: i, i + n, i + 2n, ..."""
        index, count = self.shard
        return list(enumerate(parts(triplets, self.part_size)))[index::count]
