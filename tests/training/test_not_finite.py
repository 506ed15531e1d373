"""Gradients that are no numbers change nothing, and a training that has left them ends."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_model import RECIPE
from tiny_training import equal, new_accelerator, run

from profi.training.examples import TextToImage
from profi.training.loop import PATIENCE
from profi.training.smartbrush_loss import from_text_to_image
from profi.types import UserError

LONG = replace(RECIPE, steps=PATIENCE + 4)


def samples(*updates: int, accumulate: int = 1) -> set[int]:
    """The first sample of each of these updates (from 1)."""
    return {(update - 1) * RECIPE.batch * accumulate for update in updates}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_update_without_a_finite_gradient_changes_no_weight_and_no_average(
    model: TextToImage, tmp_path: Path, accumulate: int
) -> None:
    recipe = replace(RECIPE, accumulate=accumulate)
    bad = samples(2, accumulate=accumulate)
    after = [
        run(model, tmp_path / str(n), recipe, poisoned=bad, stop=lambda step, _, n=n: step == n)[0]
        for n in (1, 2, 3)
    ]
    assert equal(after[0], after[1])
    assert not equal(after[1], after[2])
    assert all(bool(p.isfinite().all()) for p in after[2].parameters())
    (line,) = (tmp_path / "3" / "loss.csv").read_text().splitlines()
    assert line.endswith("skipped=1.00000")
    assert "nan" not in line


def test_a_resume_goes_on_from_a_skipped_update(model: TextToImage, tmp_path: Path) -> None:
    bad = samples(2, 3)
    whole, _, _ = run(model, tmp_path / "a", poisoned=bad)
    run(model, tmp_path / "b", poisoned=bad, stop=lambda step, _: step == 2)
    again, _, _ = run(model, tmp_path / "b", poisoned=bad)
    assert equal(whole, again)


def test_too_many_in_a_row_end_the_training_and_leave_the_good_checkpoints(
    model: TextToImage, tmp_path: Path
) -> None:
    bad = samples(*range(4, 4 + PATIENCE))
    message = rf"update {3 + PATIENCE}: .* not finite .* rate=.*checkpoint-3 is the last"
    with pytest.raises(UserError, match=message):
        run(model, tmp_path, LONG, poisoned=bad, save_every=1)
    kept = sorted(tmp_path.glob("checkpoint-*"))
    assert [path.name for path in kept] == ["checkpoint-2", "checkpoint-3"]
    # One fewer is borne.
    run(model, tmp_path / "other", LONG, poisoned=samples(*range(4, 3 + PATIENCE)))


def test_a_rate_that_ruins_the_weights_is_told_and_nothing_not_finite_is_saved(
    model: TextToImage, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"not finite.*lower rate="):
        run(model, tmp_path, replace(LONG, rate=1e30), save_every=1)
    saved = list(tmp_path.glob("checkpoint-*/*.safetensors"))
    assert saved
    assert all(bool(t.isfinite().all()) for path in saved for t in load_file(path).values())


def test_float16_s_search_for_a_scale_is_no_failure_and_moves_no_average(
    model: TextToImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real scaler whose scale begins so high that more than PATIENCE updates overflow.

    It is, up to float16's rounding, a float32 training where these updates had no gradient.
    (accelerate offers float16 on GPUs alone, so it is message of it after the fact.)
    """
    monkeypatch.setattr("profi.training.loop.LOG_SECONDS", -1.0)  # after every update
    recipe = replace(RECIPE, steps=20)
    accelerator = new_accelerator(recipe)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30, growth_interval=1000)
    accelerator.native_amp, accelerator.state._mixed_precision = True, "fp16"
    scaled, _, _ = run(model, tmp_path / "a", recipe, accelerator, save_every=1)
    halved = 30 - int(math.log2(accelerator.scaler.get_scale()))
    assert PATIENCE < halved < recipe.steps - 4
    lines = (tmp_path / "a" / "loss.csv").read_text().splitlines()
    skipped = [step for step, line in enumerate(lines, start=1) if "skipped" in line]
    assert len(skipped) == halved
    monkeypatch.setattr("profi.training.loop.PATIENCE", recipe.steps)
    plain, _, _ = run(model, tmp_path / "b", recipe, poisoned=samples(*skipped))
    begun = from_text_to_image(model.unet, recipe.coarsest)

    weights = [torch.nn.utils.parameters_to_vector(u.parameters()) for u in (scaled, plain, begun)]
    assert (weights[0] - weights[1]).norm() < 0.1 * (weights[1] - weights[2]).norm()
