"""The statistics of a study but its totals: agreement, consistency, the Bradley-Terry model."""

from __future__ import annotations

import math
from typing import NamedTuple

import choix
import krippendorff
import numpy as np
import pandas as pd

from profi.reports.bootstrap import UNKNOWN, Interval, fewest_clusters
from profi.reports.preference import Agreement, agreement
from profi.reports.total_votes import CONFIDENCE, Draws, Marks, quantiles

#: Added to both sides of every pair, so that a method that nobody ever chose has a finite strength.
HALF_WIN = 0.5


def wins(marks: Marks) -> np.ndarray:
    """1 where the first method was chosen and the second not, else 0.

    The shape is [participants, triplets, methods, methods].
    An answer that chooses all or none compares nothing. If a participant chooses result i with
    probability sigmoid(strength_i - threshold), independently, these pairs follow the Bradley-Terry
    model with the same strengths, whatever the threshold of the participant and the triplet.
    """
    chosen = np.nan_to_num(marks.chosen)
    return chosen[..., :, None] * (1 - chosen)[..., None, :] * marks.answered[..., None, None]


def strengths(counts: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """The Bradley-Terry strengths [methods], mean 0, of a table of wins [methods, methods].

    P(i is preferred to j) = sigmoid(strength_i - strength_j); maximum likelihood by `choix`, with
    `HALF_WIN` added for each of a pair.
    """
    table = counts + HALF_WIN * (1 - np.eye(len(counts)))
    found = choix.ilsr_pairwise_dense(table, initial_params=start, max_iter=10_000)
    return found - found.mean()


class Preference(NamedTuple):
    """The Bradley-Terry model of one question.

    `strength` has the columns strength, low, high per method; `probability`, `low` and `high` are
    [methods, methods]: the probability that the first is preferred to the second.
    """

    strength: pd.DataFrame
    probability: np.ndarray
    low: np.ndarray
    high: np.ndarray


def preference(marks: Marks, drawn: Draws | None) -> Preference:
    """The strengths of the methods, with bootstrap intervals over participants and images."""
    table = wins(marks)
    best = strengths(table.sum(axis=(0, 1)))
    unknown = np.full((len(best), len(best)), np.nan)
    probability = _sigmoid(best[:, None] - best)
    frame = pd.DataFrame({"strength": best, "low": np.nan, "high": np.nan})
    if drawn is None:
        return Preference(frame, probability, unknown, unknown)
    people, triplets = drawn
    counts = np.einsum("bp,ptij,bt->bij", people, table, triplets, optimize=True)
    found = np.stack([strengths(one, best) for one in counts])
    frame["low"], frame["high"] = quantiles(found)
    low, high = quantiles(_sigmoid(found[:, :, None] - found[:, None, :]))
    return Preference(frame, probability, low, high)


class Alpha(NamedTuple):
    """Krippendorff's alpha (nominal): 1 is full agreement, 0 that of independent answers."""

    value: float
    interval: Interval


def alpha(marks: Marks, n_resamples: int, seed: int) -> Alpha:
    """The participants' agreement on which results are chosen, by `krippendorff`.

    A unit is a (triplet, method), a rater a participant, a value 0 or 1. The interval is over
    images: a rater who is drawn twice would agree with herself.
    """
    n_triplets, n_methods = marks.chosen.shape[1:]
    flat = marks.chosen.transpose(1, 2, 0).reshape(n_triplets * n_methods, -1)
    counts = np.stack([(flat == 0).sum(axis=1), (flat == 1).sum(axis=1)], axis=1)
    by_triplet = counts.reshape(n_triplets, n_methods, 2)
    names = np.unique(marks.images)
    by_image = [by_triplet[marks.images == name].reshape(-1, 2) for name in names]
    value, interval = _alpha(counts), UNKNOWN
    if not math.isnan(value) and len(names) >= fewest_clusters(CONFIDENCE):
        rng = np.random.default_rng(seed)
        values = [
            _alpha(np.concatenate([by_image[i] for i in rng.integers(0, len(names), len(names))]))
            for _ in range(n_resamples)
        ]
        interval = Interval(*map(float, quantiles(np.array(values)[:, None])[:, 0]))
    return Alpha(value, interval)


def _alpha(counts: np.ndarray) -> float:
    """Alpha of counts [units, 2]; NaN if nothing can be compared, or all answers are the same."""
    paired = counts[counts.sum(axis=1) > 1]
    if not (paired.sum(axis=0) > 0).all():
        return math.nan
    return float(krippendorff.alpha(value_counts=paired, level_of_measurement="nominal"))


class Consistency(NamedTuple):
    """How a repeated triplet was answered: `n` pairs of answers, the share of equal ones.

    `marks` compares the single results: share and Cohen's kappa.
    """

    n: int
    same: float
    marks: Agreement


def consistency(first: np.ndarray, second: np.ndarray) -> Consistency:
    """First and second answers to the same triplets, float [n, methods]; NaN is no answer."""
    known = ~(np.isnan(first[:, 0]) | np.isnan(second[:, 0]))
    one, two = first[known], second[known]
    same = float((one == two).all(axis=1).mean()) if len(one) else math.nan
    return Consistency(len(one), same, agreement(one.ravel(), two.ravel()))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))
