from __future__ import annotations

import io
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from experiment_calls import resolved
from PIL import Image
from rich.console import Console
from torch import Tensor

from profi.data.masks import triplet_mask
from profi.fitting import Extent, fit
from profi.harness.build_data import load_triplets
from profi.harness.generate import Tally, generate
from profi.harness.plan import Plan
from profi.harness.progress import Meter, meter
from profi.harness.provenance import APART, APART_SIZES
from profi.harness.run_folder import RunFolder
from profi.harness.score import painted_mask
from profi.inpainter import Progress
from profi.settings import Config, ModelConfig
from profi.settings.evaluation import OURS, RELEASED, Evaluation
from profi.store.generations import read_generations
from profi.store.parts import part_facts, part_indices, part_path, read_lines
from profi.types import MAX_SEED, MachineError, Triplet, UserError, sample_seed

CPU = torch.device("cpu")
METER = Meter("test", 0, None)


class Painter:
    """An inpainter whose picture shows its seed, and that remembers its batches.

    `poison` fails every batch with such a prompt; more than `fits` are too many for the memory.
    `contents` is the padding that the last batch was given.
    """

    contents: Sequence[Extent] | None = None

    def __init__(self, poison: str = "", fits: int = 1000) -> None:
        self.batches: list[list[int]] = []
        self.refused: list[int] = []
        self.poison, self.fits = poison, fits

    def __call__(
        self,
        images: Tensor,
        masks: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        progress: Progress | None = None,
        contents: Sequence[Extent] | None = None,
    ) -> Tensor:
        self.contents = contents
        if self.poison in prompts:
            raise RuntimeError("poisoned")
        if progress is not None:
            progress(1, 2)
        if len(prompts) > self.fits:
            self.refused.append(len(prompts))
            raise torch.OutOfMemoryError("too many")
        self.batches.append(list(seeds))
        flat = torch.tensor([(seed % 251) / 255 for seed in seeds])
        return torch.where(masks[:, None], flat[:, None, None, None], images)


@pytest.fixture
def triplets(settings: Callable[..., Config]) -> tuple[Triplet, ...]:
    return load_triplets(settings().data)[0]


@pytest.fixture
def plan(settings: Callable[..., Config]) -> Plan:
    return resolved(settings(seed=5))["profi", 5].plan


def pictures(run: RunFolder) -> dict[str, bytes]:
    return {item.triplet_id: item.image for item in read_generations(run.generations)}


def test_pictures_are_the_fitted_ones_without_padding(
    tmp_path: Path, triplets: tuple[Triplet, ...], plan: Plan
) -> None:
    run, painter = RunFolder(tmp_path), Painter()
    assert generate(run, painter, triplets, plan, CPU, METER).painted == len(triplets)
    stored = pictures(run)
    assert list(stored) == [t.triplet_id for t in triplets]
    for triplet in triplets:
        picture = np.array(Image.open(io.BytesIO(stored[triplet.triplet_id])))
        assert picture.shape == (triplet.height, triplet.width, 3)
        own = (sample_seed(5, triplet.triplet_id) & MAX_SEED) % 251
        assert (picture[triplet_mask(triplet)] == own).all()
    assert all(g.seed == 5 and math.isnan(g.peak_memory_bytes) for g in read_generations(
        run.generations
    ))  # fmt: skip


def test_batches_are_of_one_size_and_full_where_they_can_be(
    triplets: tuple[Triplet, ...], plan: Plan
) -> None:
    batches = plan.batches(triplets)
    assert sorted(t.triplet_id for b in batches for t in b) == sorted(
        t.triplet_id for t in triplets
    )
    for batch in batches:
        sizes = {tuple(plan.fitted(t).mask.shape) for t in batch}
        assert sizes == {plan.padded_size(batch[0])}
        assert len(batch) <= plan.batch_size


def test_shards_give_the_same_batches_and_pictures(
    tmp_path: Path, triplets: tuple[Triplet, ...], plan: Plan
) -> None:
    whole, sharded = RunFolder(tmp_path / "1"), RunFolder(tmp_path / "3")
    one, three = Painter(), Painter()
    generate(whole, one, triplets, plan, CPU, METER)
    for shard in ((2, 3), (0, 3), (1, 3)):
        generate(sharded, three, triplets, replace(plan, shard=shard), CPU, METER)
    assert pictures(whole) == pictures(sharded)
    assert sorted(one.batches) == sorted(three.batches)


def test_a_rerun_paints_only_what_is_missing(
    tmp_path: Path, triplets: tuple[Triplet, ...], plan: Plan
) -> None:
    run, first, second, third = RunFolder(tmp_path), Painter(), Painter(), Painter()
    generate(run, first, triplets, plan, CPU, METER)
    before = pictures(run)
    tally = generate(run, second, triplets, plan, CPU, METER)
    assert (tally.painted, tally.kept, tally.failed) == (0, len(triplets), 0)
    assert second.batches == []
    path = part_path(run.generations, 1)
    path.write_bytes(path.read_bytes()[:-8])
    tally = generate(run, third, triplets, plan, CPU, METER)
    assert tally.painted == plan.part_size
    assert pictures(run) == before
    assert len(list(run.generations.glob("*.broken"))) == 1


def test_a_failing_sample_is_set_aside_and_tried_again_in_its_own_batch(
    tmp_path: Path, triplets: tuple[Triplet, ...], plan: Plan
) -> None:
    run, clean = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
    healthy = Painter()
    generate(clean, healthy, triplets, plan, CPU, METER)
    bad = [t for t in triplets if t.prompt == "dog"]
    tally = generate(run, Painter(poison="dog"), triplets, plan, CPU, METER)
    assert (tally.painted, tally.failed) == (len(triplets) - len(bad), len(bad))
    lines = read_lines(run.quarantine)
    assert {line["triplet_id"] for line in lines} == {t.triplet_id for t in bad}
    assert all(line["reason"] == "RuntimeError: poisoned" for line in lines)
    assert part_indices(run.generations) == part_indices(clean.generations)
    # Later: whole batches, the same ones as in a run without a failure.
    again = Painter()
    assert generate(run, again, triplets, plan, CPU, METER).failed == 0
    assert pictures(run) == pictures(clean)
    assert [b for b in again.batches if b not in healthy.batches] == []


def test_a_retry_that_fails_leaves_the_good_pictures(
    tmp_path: Path, triplets: tuple[Triplet, ...], plan: Plan
) -> None:
    """A batch with a gap fails as a whole the second time: nothing that was there is lost."""
    run = RunFolder(tmp_path)
    generate(run, Painter(poison="dog"), triplets, plan, CPU, METER)
    before = pictures(run)
    assert 0 < len(before) < len(triplets)

    def failing(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("nothing fits")

    tally = generate(run, failing, triplets, plan, CPU, METER)
    assert (tally.painted, tally.kept) == (0, len(before))
    assert pictures(run) == before
    # Only what was there fails now: the gap is filled and the rest stays.
    others = Painter(poison=next(t.prompt for t in triplets if t.prompt != "dog"))
    generate(run, others, triplets, plan, CPU, METER)
    after = pictures(run)
    assert before.items() <= after.items()


def test_a_missing_image_is_set_aside(
    tmp_path: Path, triplets: tuple[Triplet, ...], plan: Plan
) -> None:
    lost = replace(triplets[2], file_name="lost.png")
    given = (*triplets[:2], lost, *triplets[3:])
    run = RunFolder(tmp_path)
    assert generate(run, Painter(), given, plan, CPU, METER).failed == 1
    (line,) = read_lines(run.quarantine)
    assert (line["triplet_id"], line["stage"]) == (lost.triplet_id, "load")


def of_one_size(triplets: tuple[Triplet, ...], plan: Plan, count: int) -> tuple[Triplet, ...]:
    """`count` triplets that may be painted together."""
    first = triplets[0]
    same = [t for t in triplets if plan.padded_size(t) == plan.padded_size(first)]
    return tuple(
        replace(same[i % len(same)], triplet_id=f"{i:03d}", file_name=same[i % len(same)].file_name)
        for i in range(count)
    )


def test_a_batch_that_does_not_fit_is_halved_and_the_next_begin_there(
    tmp_path: Path, triplets: tuple[Triplet, ...], plan: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("profi").propagate = True
    given = of_one_size(triplets, plan, 40)
    wide = replace(plan, batch_size=16, part_size=20)
    run, painter, counted = RunFolder(tmp_path), Painter(fits=5), Meter("test", 40, None)
    assert generate(run, painter, given, wide, CPU, counted).painted == 40
    # 16 and 8 fail once each, in the first part; what fits is kept to.
    assert painter.refused == [16, 8]
    assert [len(batch) for batch in painter.batches] == [4] * 10
    assert "16 at once do not fit into the memory, going on with 8" in caplog.text
    assert not run.quarantine.exists()
    assert counted._done == pytest.approx(40)
    # The last four of a part are a batch of their own, painted as planned.
    for index, part in wide.share(given):
        facts = part_facts(run.generations, index)
        assert facts[APART].split(" | ") == [t.triplet_id for t in part[:16]]
        assert facts[APART_SIZES] == "4"
    whole = RunFolder(tmp_path / "whole")
    generate(whole, Painter(), given, wide, CPU, METER)
    assert pictures(whole) == pictures(run)
    assert APART not in part_facts(whole.generations, 0)


def test_pictures_of_another_size_have_a_limit_of_their_own(
    tmp_path: Path, triplets: tuple[Triplet, ...], plan: Plan
) -> None:
    class Cramped(Painter):
        def __call__(self, images: Tensor, *rest: Any) -> Tensor:
            if images.shape[-1] * images.shape[-2] == 64 * 64:
                self.fits = 1
            else:
                self.fits = 1000
            return super().__call__(images, *rest)

    painter = Cramped()
    wide = replace(plan, batch_size=10, part_size=10)
    assert generate(RunFolder(tmp_path), painter, triplets, wide, CPU, METER).failed == 0
    assert max(len(batch) for batch in painter.batches) > 1
    assert painter.refused == [4, 2]


def test_a_picture_that_does_not_fit_by_itself_names_the_remedy(
    tmp_path: Path, triplets: tuple[Triplet, ...], plan: Plan
) -> None:
    run = RunFolder(tmp_path)
    assert generate(run, Painter(fits=0), triplets, plan, CPU, METER) == Tally(0, 0, 10)
    lines = read_lines(run.quarantine)
    assert {line["triplet_id"] for line in lines} == {t.triplet_id for t in triplets}
    for line in lines:
        assert "by itself (too many): set model.long_side to less" in line["reason"]
        assert "model.dtype=float16" in line["reason"]
        assert "OutOfMemoryError" in line["traceback"]


def test_what_the_machine_does_not_allow_sets_nothing_aside(
    tmp_path: Path, triplets: tuple[Triplet, ...], plan: Plan
) -> None:
    run = RunFolder(tmp_path)

    def no_compiler(*_: object) -> Tensor:
        raise MachineError("no compiler")

    with pytest.raises(MachineError, match="no compiler"):
        generate(run, no_compiler, triplets, plan, CPU, METER)
    assert not run.quarantine.exists()


def test_a_part_painted_in_several_goes_names_them_all(
    tmp_path: Path, triplets: tuple[Triplet, ...], plan: Plan
) -> None:
    run = RunFolder(tmp_path)
    first, second = {"commit": "a", "device": "cpu"}, {"commit": "b", "device": "cpu"}
    generate(run, Painter(poison="dog"), triplets, plan, CPU, METER, first)
    generate(run, Painter(), triplets, plan, CPU, METER, second)
    facts = [part_facts(run.generations, index) for index in part_indices(run.generations)]
    assert {item["device"] for item in facts} == {"cpu"}
    assert "a | b" in {item["commit"] for item in facts}
    assert not any(APART in item for item in facts)


def test_a_run_that_only_fails_says_so(
    tmp_path: Path,
    triplets: tuple[Triplet, ...],
    plan: Plan,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken, run = replace(plan, root=tmp_path / "none"), RunFolder(tmp_path / "r")
    assert generate(run, Painter(), triplets, broken, CPU, METER) == Tally(0, 0, 10)
    assert f"all 10 samples failed: see the reasons in {run.quarantine}" in caplog.text


def test_errors_of_the_program_end_the_run(
    tmp_path: Path, triplets: tuple[Triplet, ...], plan: Plan
) -> None:
    def wrong(*_: object) -> Tensor:
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        generate(RunFolder(tmp_path), wrong, triplets, plan, CPU, METER)


@pytest.mark.parametrize("evaluation", [OURS, RELEASED], ids=lambda e: e.name)
@pytest.mark.parametrize(("height", "width"), [(427, 640), (333, 500), (51, 77)])
def test_masks_are_resized_for_scoring_as_for_painting(
    height: int, width: int, evaluation: Evaluation
) -> None:
    mask = np.random.default_rng(0).random((height, width)) > 0.9
    fitted = fit(torch.zeros(3, height, width), torch.from_numpy(mask), 64, 16, evaluation)
    content = fitted.mask[: fitted.height, : fitted.width].numpy()
    np.testing.assert_array_equal(painted_mask(mask, content.shape, evaluation), content)
    with pytest.raises(UserError, match="not painted from"):
        painted_mask(mask, (40, 64), evaluation)


def test_the_bar_shows_on_terminals_only() -> None:
    quiet, loud = io.StringIO(), io.StringIO()
    for file, terminal in ((quiet, False), (loud, True)):
        with meter(Console(file=file, force_terminal=terminal, width=100), "paint", 4) as m:
            m.skip(1)
            m.advance(2)
            m.log("part 0")
    assert quiet.getvalue() == ""
    assert "paint" in loud.getvalue()
    assert "2/3" in loud.getvalue()


def test_the_pad_multiple_is_in_the_plan(settings: Callable[..., Config]) -> None:
    model = ModelConfig(long_side=96, pad_multiple=32, batch_size=3)
    plan = resolved(settings(model=model))["profi", 0].plan
    assert (plan.long_side, plan.pad_multiple, plan.batch_size) == (96, 32, 3)
