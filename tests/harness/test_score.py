from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from experiment_calls import resolved

from profi.harness.build_data import load_triplets
from profi.harness.part_work import png_of
from profi.harness.plan import Plan
from profi.harness.progress import Meter
from profi.harness.run_folder import RunFolder
from profi.harness.score import originals_of, score, scores_folder
from profi.metrics import KnownRegionPSNR, Sample
from profi.settings import Config
from profi.settings.evaluation import OURS
from profi.store.generations import write_generations
from profi.store.parts import part_facts, read_lines
from profi.store.scores import BATCH_SIZES, read_scores
from profi.types import Generation, Triplet, UserError

METER = Meter("test", 0, None)


@dataclass
class MaskedMean:
    """The mean brightness under the mask; fails for a prompt, counts its samples."""

    poison: str = ""
    version: int = 1
    name: str = "brightness"
    higher_is_better: bool = True
    needs_original: bool = False
    seen: list[str] = field(default_factory=list)

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"version": self.version}

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        if any(sample.prompt == self.poison for sample in samples):
            raise ValueError("cannot score this")
        self.seen += [sample.prompt for sample in samples]
        return [float(sample.image[sample.mask].mean()) for sample in samples]


@pytest.fixture
def triplets(settings: Callable[..., Config]) -> tuple[Triplet, ...]:
    return load_triplets(settings().data)[0]


@pytest.fixture
def plan(settings: Callable[..., Config]) -> Plan:
    return resolved(settings())["profi", 0].plan


def painted(root: Path, triplets: Sequence[Triplet], size: int = 4) -> RunFolder:
    """Parts of flat pictures: the i-th triplet's has the grey i."""
    run = RunFolder(root)
    for index in range(0, len(triplets), size):
        rows = [
            Generation(t.triplet_id, 0, png_of(np.full((t.height, t.width, 3), i, np.uint8)), 1, 1)
            for i, t in enumerate(triplets[index : index + size], index)
        ]
        write_generations(run.generations, index // size, rows)
    return run


def absent(_: Triplet) -> np.ndarray:
    raise UserError("gone.png does not exist: set data.root to the images' folder")


def test_each_picture_is_scored_with_its_own_mask(
    tmp_path: Path, triplets: tuple[Triplet, ...]
) -> None:
    run, metric = painted(tmp_path, triplets), MaskedMean()
    tally = score(run, [metric], triplets, absent, OURS, 3, METER)
    assert (tally.computed, tally.kept, tally.n_nan) == (len(triplets), 0, 0)
    frame = read_scores([scores_folder(run, metric)])
    assert frame["triplet_id"].tolist() == [t.triplet_id for t in triplets]
    assert frame["value"].tolist() == [float(i) for i in range(len(triplets))]


def test_scoring_again_does_only_what_is_new(tmp_path: Path, triplets: tuple[Triplet, ...]) -> None:
    run = painted(tmp_path, triplets)
    score(run, [MaskedMean()], triplets, absent, OURS, 3, METER)
    idle = MaskedMean()
    assert score(run, [idle], triplets, absent, OURS, 3, METER).kept == len(triplets)
    assert idle.seen == []
    # Another version of the metric scores all, and the old scores stay.
    newer = MaskedMean(version=2)
    assert score(run, [newer], triplets, absent, OURS, 3, METER).computed == len(triplets)
    assert len(list(run.scores.iterdir())) == 2
    # A part painted anew is scored anew.
    first = triplets[0]
    picture = png_of(np.full((first.height, first.width, 3), 200, np.uint8))
    write_generations(run.generations, 0, [Generation(first.triplet_id, 0, picture, 1, 1)])
    assert score(run, [MaskedMean()], triplets, absent, OURS, 3, METER).computed == 1
    values = read_scores([scores_folder(run, idle)]).set_index("triplet_id")["value"]
    assert values[first.triplet_id] == 200.0


def test_what_cannot_be_scored_is_nan_counted_and_noted(
    tmp_path: Path, triplets: tuple[Triplet, ...]
) -> None:
    run, metric = painted(tmp_path, triplets), MaskedMean(poison="cat")
    bad = [t.triplet_id for t in triplets if t.prompt == "cat"]
    assert score(run, [metric], triplets, absent, OURS, 3, METER).n_nan == len(bad)
    frame = read_scores([scores_folder(run, metric)])
    assert sorted(frame[frame["value"].isna()]["triplet_id"]) == sorted(bad)
    assert {line["triplet_id"] for line in read_lines(run.quarantine)} == set(bad)
    # Again, and it fails again: what is there stays.
    assert score(run, [metric], triplets, absent, OURS, 3, METER).n_nan == len(bad)
    # Later, when the failure is over: the batches with a gap are scored, and a third start is idle.
    healthy = MaskedMean()
    tally = score(run, [healthy], triplets, absent, OURS, 3, METER)
    parts = [triplets[start : start + 4] for start in range(0, len(triplets), 4)]
    batches = [part[start : start + 3] for part in parts for start in (0, 3)]
    again = [t for batch in batches if any(t.prompt == "cat" for t in batch) for t in batch]
    assert healthy.seen == [t.prompt for t in again]
    assert (tally.computed, tally.n_nan) == (len(again), 0)
    assert len(again) < len(triplets)
    frame = read_scores([scores_folder(run, metric)])
    assert frame["value"].tolist() == [float(i) for i in range(len(triplets))]
    assert score(run, [MaskedMean()], triplets, absent, OURS, 3, METER).computed == 0


def test_a_metric_that_does_not_fit_is_asked_for_fewer_at_once(
    tmp_path: Path, triplets: tuple[Triplet, ...]
) -> None:
    class Large(MaskedMean):
        def __call__(self, samples: Sequence[Sample]) -> list[float]:
            if len(samples) > 2:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
            return super().__call__(samples)

    run, metric = painted(tmp_path, triplets), Large()
    assert score(run, [metric], triplets, absent, OURS, 8, METER).n_nan == 0
    values = read_scores([scores_folder(run, metric)])["value"]
    assert values.tolist() == [float(i) for i in range(len(triplets))]
    assert not run.quarantine.exists()
    noted = [part_facts(scores_folder(run, metric), index)[BATCH_SIZES] for index in range(3)]
    assert noted == ["[2]"] * 3


def test_shards_score_all_between_them_bit_for_bit(
    tmp_path: Path, triplets: tuple[Triplet, ...]
) -> None:
    whole, cut = painted(tmp_path / "1", triplets), painted(tmp_path / "3", triplets)
    metric = MaskedMean()
    score(whole, [metric], triplets, absent, OURS, 3, METER)
    for index in (1, 2, 0):
        score(cut, [metric], triplets, absent, OURS, 3, METER, (index, 3))
    frames = [read_scores([scores_folder(run, metric)]) for run in (whole, cut)]
    assert frames[0].equals(frames[1])


def test_originals_are_what_the_model_was_given(
    tmp_path: Path, triplets: tuple[Triplet, ...], plan: Plan
) -> None:
    """Painting nothing at all keeps the known region: the cap of the PSNR."""
    run, originals = RunFolder(tmp_path), originals_of(plan)
    rows = [
        Generation(t.triplet_id, 0, png_of(image), 1, 1)
        for t in triplets
        for image in (originals(t),)
    ]
    write_generations(run.generations, 0, rows)
    metric = KnownRegionPSNR()
    score(run, [metric], triplets, originals, OURS, 4, METER)
    values = read_scores([scores_folder(run, metric)])["value"]
    assert len(values) == len(triplets)
    assert values.min() == values.max() == metric.identity["cap_db"]
    other = RunFolder(tmp_path / "other")
    write_generations(other.generations, 0, rows)
    with pytest.raises(UserError, match=r"gone\.png.*metric\.metrics"):
        score(other, [metric], triplets, absent, OURS, 4, METER)
    assert score(other, [metric], triplets, originals, OURS, 4, METER).n_nan == 0


def test_a_picture_of_no_triplet_is_refused(tmp_path: Path, triplets: tuple[Triplet, ...]) -> None:
    run = painted(tmp_path, triplets)
    with pytest.raises(UserError, match="not in the run's manifest"):
        score(run, [MaskedMean()], triplets[1:], absent, OURS, 3, METER)


def test_images_of_the_plan_are_in_range(triplets: tuple[Triplet, ...], plan: Plan) -> None:
    image = plan.fitted(triplets[0]).image
    assert image.dtype == torch.float32
    assert 0 <= float(image.min()) <= float(image.max()) <= 1
