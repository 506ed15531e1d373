"""An interrupted training is the undisturbed one, and its pieces keep their laws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from tiny_model import RECIPE, batch_of
from tiny_training import equal, trained

from profi.training.examples import TextToImage
from profi.training.loop import Plan
from profi.training.smartbrush_loss import from_text_to_image, losses
from profi.training.smartbrush_training import noise_and_times, sample_indices
from profi.types import UserError


@pytest.mark.parametrize(("accumulate", "precision"), [(1, "no"), (2, "bf16")])
def test_2n_updates_are_n_and_a_resume_and_n(
    model: TextToImage, tmp_path: Path, accumulate: int, precision: str
) -> None:
    """Bit-equal on one thread: weights' average, optimizer, rate, noise and samples go on."""
    recipe = replace(RECIPE, accumulate=accumulate)
    whole, figures, _ = trained(model, tmp_path / "a", recipe, precision=precision)
    half, first, asked = trained(model, tmp_path / "b", recipe, 2, precision)
    assert (first["steps"], figures["steps"]) == (2, 4)
    again, last, rest = trained(model, tmp_path / "b", recipe, precision=precision)
    assert equal(whole, again)
    assert not equal(whole, half)
    assert asked + rest == [[2 * i, 2 * i + 1] for i in range(4 * accumulate)]
    assert last["samples"] == figures["samples"] == 8 * accumulate
    kept = sorted(p.name for p in (tmp_path / "b").glob("checkpoint-*"))
    assert kept == ["checkpoint-2", "checkpoint-4"]
    steps = [row.split(",")[0] for row in (tmp_path / "b" / "loss.csv").read_text().split()]
    assert steps == ["2", "4"]


def test_a_finished_training_stays_finished(model: TextToImage, tmp_path: Path) -> None:
    first, _, _ = trained(model, tmp_path)
    again, figures, asked = trained(model, tmp_path)
    assert equal(first, again)
    assert (figures["steps"], asked) == (4, [])


def test_the_average_in_closed_form(model: TextToImage, tmp_path: Path) -> None:
    """After w_1 and w_2: d w_1 + (1 - d) w_2, d = min(ema, 2 / 11), the first steps' mean."""
    recipe = replace(RECIPE, steps=2)
    plain = replace(recipe, ema=0.0)
    first, _, _ = trained(model, tmp_path / "one", plain, stop_after=1)
    second, _, _ = trained(model, tmp_path / "two", plain)
    for ema, d in ((0.9, 2 / 11), (0.05, 0.05)):
        average, _, _ = trained(model, tmp_path / f"ema{ema}", replace(recipe, ema=ema))
        for w_1, w_2, got in zip(
            first.parameters(), second.parameters(), average.parameters(), strict=True
        ):
            torch.testing.assert_close(got, d * w_1 + (1 - d) * w_2, rtol=0, atol=1e-6)


def test_a_rate_of_zero_for_the_matrices_is_refused() -> None:
    with pytest.raises(UserError, match="matrix_rate=0"):
        Plan(matrix_rate=0.0)


def test_training_lowers_the_loss(model: TextToImage, tmp_path: Path) -> None:
    batch, t = batch_of(model), torch.tensor([50, 300, 600, 900])
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(1))

    def loss(unet: UNet2DConditionModel) -> dict[str, float]:
        with torch.no_grad():
            context = model.context(batch.ids)
            terms = losses(unet, batch, context, model.scheduler, noise, t, 1.0)
        return {name: float(value) for name, value in terms.items()}

    recipe = replace(RECIPE, steps=12, batch=4, rate=3e-3, warmup=2, dice_weight=1.0)
    before = loss(from_text_to_image(model.unet, recipe.coarsest).eval())
    after = loss(trained(model, tmp_path, recipe)[0])
    assert after["diffusion"] < 0.95 * before["diffusion"]
    assert after["dice"] < 0.95 * before["dice"]


@pytest.mark.parametrize(("ranks", "accumulate"), [(1, 1), (2, 1), (4, 2)])
def test_all_processes_together_see_every_sample_once(ranks: int, accumulate: int) -> None:
    recipe = replace(RECIPE, steps=3, batch=2, accumulate=accumulate)
    seen = [i for r in range(ranks) for b in sample_indices(recipe, r, ranks) for i in b]
    assert sorted(seen) == list(range(3 * 2 * accumulate * ranks))
    resumed = 2 * accumulate * ranks
    later = [i for r in range(ranks) for b in sample_indices(recipe, resumed + r, ranks) for i in b]
    assert sorted(later) == list(range(2 * 2 * accumulate * ranks, len(seen)))


def test_times_are_one_in_each_part_and_noise_is_the_pass_s_own(model: TextToImage) -> None:
    batch = batch_of(model)
    noise, t = noise_and_times(batch, 8, 0, 1000, torch.device("cpu"))
    assert (t // 250).tolist() == [0, 1, 2, 3]
    same, _ = noise_and_times(batch, 8, 0, 1000, torch.device("cpu"))
    other, _ = noise_and_times(batch, 12, 0, 1000, torch.device("cpu"))
    assert torch.equal(noise, same)
    assert not torch.equal(noise, other)
    many = torch.cat(
        [noise_and_times(batch, i, 0, 1000, torch.device("cpu"))[1] for i in range(500)]
    ).double()
    # Uniform over 0..999: mean 499.5; stratified means vary less than independent ones.
    assert abs(float(many.mean()) - 499.5) < 5 * 1000 / (12 * 2000) ** 0.5
