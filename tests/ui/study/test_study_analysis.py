"""The statistics by closed forms, hand-computed examples and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from profi.reports.total_votes import Marks, draws, totals
from profi.ui.study.analysis import HALF_WIN, alpha, consistency, preference, strengths, wins


def sigmoid(x: np.ndarray | float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(x)))


def simulated(
    rng: np.random.Generator,
    true: np.ndarray,
    n_people: int = 12,
    n_triplets: int = 20,
    spread: float = 1.0,
    of_triplet: float = 0.0,
) -> Marks:
    """Answers with strengths `true`, and a threshold of each participant and triplet.

    `of_triplet` is the standard deviation of a method's strength over triplets.
    """
    threshold = rng.normal(0, spread, (n_people, 1, 1)) + rng.normal(0, spread, (1, n_triplets, 1))
    on_triplet = true + rng.normal(0, of_triplet, (1, n_triplets, len(true)))
    chosen = rng.random((n_people, n_triplets, len(true))) < sigmoid(on_triplet - threshold)
    return Marks(chosen.astype(float), np.arange(n_triplets))


def test_totals_by_hand() -> None:
    nan = math.nan
    chosen = np.array([[[1, 0], [1, 1]], [[0, 0], [nan, nan]], [[1, 0], [0, 1]]])
    table = totals(Marks(chosen, np.array([5, 6])), None)
    assert list(table["votes"]) == [3, 2]
    assert list(table["answers"]) == [5, 5]
    assert table["share"].tolist() == [3 / 5, 2 / 5]
    assert table[["low", "high"]].isna().all().all()


def test_intervals_need_six_participants_and_six_images() -> None:
    rng = np.random.default_rng(0)
    assert draws(simulated(rng, np.zeros(2), 5, 20), 10, 0) is None
    assert draws(simulated(rng, np.zeros(2), 20, 5), 10, 0) is None
    few_images = simulated(rng, np.zeros(2), 20, 10)._replace(images=np.arange(10) // 2)
    assert draws(few_images, 10, 0) is None
    drawn = draws(simulated(rng, np.zeros(2), 6, 6), 500, 0)
    assert drawn is not None
    assert (drawn.participants.sum(axis=1) == 6).all()
    assert (drawn.triplets.sum(axis=1) == 6).all()


def test_triplets_of_one_image_are_drawn_together() -> None:
    marks = simulated(np.random.default_rng(0), np.zeros(2), 6, 12)
    drawn = draws(marks._replace(images=np.repeat(np.arange(6), 2)), 200, 0)
    assert drawn is not None
    assert (drawn.triplets[:, ::2] == drawn.triplets[:, 1::2]).all()
    assert (drawn.triplets[:, 0] != drawn.triplets[:, 2]).any()


def test_totals_interval_against_draws_written_out() -> None:
    rng = np.random.default_rng(1)
    marks = simulated(rng, np.array([-1.0, 0.0, 1.0]), 8, 9)
    marks.chosen[2, 3:] = math.nan
    table = totals(marks, draws(marks, 20_000, 0))
    shares = []
    for _ in range(4000):
        part = marks.chosen[rng.integers(0, 8, 8)][:, rng.integers(0, 9, 9)]
        shares.append(np.nanmean(part, axis=(0, 1)))
    low, high = np.quantile(shares, [0.025, 0.975], axis=0) * marks.answered.sum()
    # Both sides are quantiles of draws: within two votes of 66.
    assert np.abs(table["low"] - low).max() < 2
    assert np.abs(table["high"] - high).max() < 2


@pytest.mark.parametrize("of_triplet", [0.0, 1.0])
def test_intervals_of_totals_cover_the_truth(of_triplet: float) -> None:
    """The truth is the expected votes, over other participants and other triplets."""
    true = np.array([-0.5, 0.0, 0.8])
    rng = np.random.default_rng(3)
    many = [simulated(rng, true, 200, 200, 1.0, of_triplet).chosen.mean((0, 1)) for _ in range(40)]
    expected = np.mean(many, axis=0) * 12 * 20
    n, hits = 150, np.zeros(3)
    for trial in range(n):
        marks = simulated(rng, true, 12, 20, 1.0, of_triplet)
        table = totals(marks, draws(marks, 400, trial))
        hits += (table["low"] <= expected) & (expected <= table["high"])
    # 95 %, less what percentiles of a dozen participants lack; three standard errors of 150 trials.
    assert (hits / n > 0.93 - 3 * math.sqrt(0.95 * 0.05 / n)).all()


def test_two_methods_have_a_closed_form() -> None:
    counts = np.array([[0.0, 30.0], [10.0, 0.0]])
    found = strengths(counts)
    assert found.sum() == pytest.approx(0)
    assert found[0] - found[1] == pytest.approx(math.log((30 + HALF_WIN) / (10 + HALF_WIN)))
    never = strengths(np.array([[0.0, 9.0], [0.0, 0.0]]))
    assert never[0] - never[1] == pytest.approx(math.log(9.5 / 0.5))


def test_strengths_maximise_the_likelihood() -> None:
    counts = np.random.default_rng(0).integers(0, 30, (5, 5)).astype(float)
    np.fill_diagonal(counts, 0)
    table = counts + HALF_WIN * (1 - np.eye(5))

    def loss(theta: np.ndarray) -> float:
        return float((table * np.log1p(np.exp(theta[None, :] - theta[:, None]))).sum())

    best = minimize(loss, np.zeros(5), tol=1e-12).x
    assert strengths(counts) == pytest.approx(best - best.mean(), abs=1e-4)


def test_wins_are_pairs_of_chosen_and_not_chosen() -> None:
    chosen = np.array([[[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1], [math.nan] * 3]])
    table = wins(Marks(chosen, np.arange(5)))
    assert table[0, 0].tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert table[0, 1].tolist() == [[0, 0, 1], [0, 0, 1], [0, 0, 0]]
    # None, all and no answer compare nothing.
    assert not table[0, 2:].any()


def test_known_strengths_are_recovered_whatever_the_thresholds() -> None:
    true = np.array([-1.2, -0.3, 0.4, 1.1])
    marks = simulated(np.random.default_rng(0), true, 100, 200, spread=1.5)
    found = preference(marks, None)
    assert found.strength["strength"].to_numpy() == pytest.approx(true, abs=0.05)
    assert found.probability[3, 0] == pytest.approx(sigmoid(true[3] - true[0]), abs=0.01)
    assert found.probability + found.probability.T == pytest.approx(np.ones((4, 4)))
    assert np.isnan(found.low).all()


def test_intervals_of_strengths_cover_the_truth() -> None:
    true = np.array([-0.6, 0.0, 0.6])
    rng = np.random.default_rng(5)
    n, hits, pairs = 60, np.zeros(3), 0
    for trial in range(n):
        marks = simulated(rng, true)
        found = preference(marks, draws(marks, 200, trial))
        hits += (found.strength["low"] <= true) & (true <= found.strength["high"])
        pairs += int(found.low[2, 0] <= sigmoid(1.2) <= found.high[2, 0])
        assert found.high[0, 2] == pytest.approx(1 - found.low[2, 0])
    least = 0.95 - 3 * math.sqrt(0.95 * 0.05 / n)
    assert (hits / n > least).all()
    assert pairs / n > least


def test_alpha_by_hand() -> None:
    """Two raters, ten units (Krippendorff's own example of binary data): alpha is 0.095."""
    one = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    two = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    chosen = np.array([one, two], dtype=float)[:, :, None]
    # 4 of 10 pairs differ: 8 of the 20 values' coincidences; 14 zeros, 6 ones.
    by_hand = 1 - (20 - 1) * 8 / (2 * 14 * 6)
    assert by_hand == pytest.approx(0.095, abs=5e-4)
    assert alpha(Marks(chosen, np.arange(10)), 10, 0).value == pytest.approx(by_hand)
    # As five triplets of two methods the units are the same.
    folded = chosen.reshape(2, 5, 2)
    found = alpha(Marks(folded, np.arange(5)), 10, 0)
    assert found.value == pytest.approx(by_hand)
    assert np.isnan(found.interval).all()


def test_alpha_with_missing_answers_by_hand() -> None:
    """Units 0 0 | 1 1 | 0 1 | and one that only one rater saw, which does not count."""
    nan = math.nan
    chosen = np.array([[0, 1, 0, 1], [0, 1, 1, nan]])[:, :, None]
    # Three zeros and three ones, 2 of 6 coincidences differ: 1 - (6 - 1) * 2 / (2 * 3 * 3).
    found = alpha(Marks(chosen, np.arange(4)), 10, 0).value
    assert found == pytest.approx(1 - 5 * 2 / 18)


def test_alpha_of_full_and_of_no_agreement() -> None:
    rng = np.random.default_rng(0)
    alike = np.repeat(rng.integers(0, 2, (1, 20, 4)), 12, axis=0).astype(float)
    full = alpha(Marks(alike, np.arange(20)), 50, 0)
    assert full.value == pytest.approx(1)
    assert full.interval == pytest.approx((1, 1))
    noise = rng.integers(0, 2, (12, 200, 4)).astype(float)
    none = alpha(Marks(noise, np.arange(200)), 200, 0)
    assert none.value == pytest.approx(0, abs=0.02)
    assert none.interval.low < 0 < none.interval.high
    assert math.isnan(alpha(Marks(np.zeros((3, 8, 2)), np.arange(8)), 10, 0).value)
    assert math.isnan(alpha(Marks(noise[:1], np.arange(200)), 10, 0).value)


def test_consistency_by_hand() -> None:
    nan = math.nan
    first = np.array([[1, 0], [1, 1], [0, 0], [1, 0], [nan, nan]])
    second = np.array([[1, 0], [0, 1], [0, 0], [nan, nan], [1, 0]])
    found = consistency(first, second)
    assert (found.n, found.same) == (3, pytest.approx(2 / 3))
    # Marks 1 0 1 1 0 0 against 1 0 0 1 0 0: five of six agree, by chance 1/2 * 1/3 + 1/2 * 2/3.
    assert found.marks.share == pytest.approx(5 / 6)
    assert found.marks.kappa == pytest.approx((5 / 6 - 1 / 2) / (1 / 2))
    nothing = consistency(first[4:], second[4:])
    assert nothing.n == 0
    assert math.isnan(nothing.same)
