"""What a part keeps when some of its pictures are painted again."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from profi.harness.build_data import load_triplets
from profi.harness.part_work import Painted, PartWork
from profi.harness.run_folder import RunFolder
from profi.settings import Config
from profi.store.generations import read_generations
from profi.types import Triplet

OLD, NEW = 0.2, 0.8


@pytest.fixture
def part(settings: Callable[..., Config]) -> list[Triplet]:
    return list(load_triplets(settings().data)[0][:3])


def painted(triplet: Triplet, level: float) -> Painted:
    size = (3, triplet.height, triplet.width)
    picture = torch.full(size, round(level * 255), dtype=torch.uint8)
    return Painted(triplet.triplet_id, 0, picture, 1.0, float("nan"))


def levels(run: RunFolder) -> dict[str, float]:
    """What stands in the store: the grey level of every picture."""
    return {
        item.triplet_id: float(np.asarray(Image.open(io.BytesIO(item.image))).mean() / 255)
        for item in read_generations(run.generations)
    }


@pytest.fixture
def run(tmp_path: Path, part: list[Triplet]) -> RunFolder:
    """A run whose part lacks its last picture: the batch has a gap."""
    run = RunFolder(tmp_path)
    work = PartWork.of(run, 0, part)
    work.take(part, [painted(triplet, OLD) for triplet in part[:2]], {3})
    work.write({})
    return run


def test_a_retry_of_a_batch_that_fails_in_part_keeps_what_was_there(
    run: RunFolder, part: list[Triplet]
) -> None:
    first, second, third = (triplet.triplet_id for triplet in part)
    work = PartWork.of(run, 0, part)
    assert not work.has(part)
    # The whole batch is painted again with its fixed company, but the second picture fails.
    work.take(part, [painted(part[0], NEW), painted(part[2], NEW)], {1})
    work.write({})
    assert levels(run) == pytest.approx({first: OLD, second: OLD, third: NEW}, abs=0.01)


def test_a_retry_that_succeeds_replaces_all_of_its_batch(
    run: RunFolder, part: list[Triplet]
) -> None:
    work = PartWork.of(run, 0, part)
    work.take(part, [painted(triplet, NEW) for triplet in part], {3})
    work.write({})
    assert levels(run) == pytest.approx(dict.fromkeys(levels(run), NEW), abs=0.01)
    assert len(levels(run)) == 3


def test_a_retry_that_fails_wholly_leaves_the_store_as_it_was(
    run: RunFolder, part: list[Triplet]
) -> None:
    before = levels(run)
    work = PartWork.of(run, 0, part)
    work.take(part, [], set())
    work.write({})
    assert levels(run) == before
