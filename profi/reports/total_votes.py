"""The total votes of a user study (app. D): intervals over participants and images, and bars."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from profi.reports.bootstrap import UNKNOWN, Interval, fewest_clusters

CONFIDENCE = 0.95
#: Okabe and Ito's, which colour-blind readers tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
#: Characters of a method's name in a line.
LABEL = 16


class Marks(NamedTuple):
    """The answers to one question.

    `chosen` is float [participants, triplets, methods]: 1 for a chosen result, 0 for one that was
    not, NaN where the participant has not answered. `images` [triplets] has the triplets' image
    ids: triplets of one image are not independent.
    """

    chosen: np.ndarray
    images: np.ndarray

    @property
    def answered(self) -> np.ndarray:
        """Bool [participants, triplets]."""
        return ~np.isnan(self.chosen[:, :, 0])


class Draws(NamedTuple):
    """How often each participant [n, participants] and triplet [n, triplets] is in each draw."""

    participants: np.ndarray
    triplets: np.ndarray


def draws(marks: Marks, n_resamples: int, seed: int) -> Draws | None:
    """Draws of participants and of images with replacement.

    This is the pigeonhole bootstrap (Owen, 2007). Both are samples, and an answer belongs to one of
    each, so both are drawn anew. It is conservative: the noise of single answers counts up to three
    times. None if there are too few participants or images for an interval (`fewest_clusters`), or
    no answer.
    """
    _, image_of = np.unique(marks.images, return_inverse=True)
    n_participants, n_images = len(marks.chosen), int(image_of.max(initial=-1)) + 1
    too_few = min(n_participants, n_images) < fewest_clusters(CONFIDENCE)
    if too_few or not marks.answered.any():
        return None
    rng = np.random.default_rng(seed)

    def times(n: int) -> np.ndarray:
        return rng.multinomial(n, np.full(n, 1 / n), size=n_resamples).astype(float)

    people, images = times(n_participants), times(n_images)
    return Draws(people, images[:, image_of])


def totals(marks: Marks, drawn: Draws | None) -> pd.DataFrame:
    """The votes of each method: columns votes, share, low, high, answers.

    `share` is votes per answer. The interval is that of the share, times the number of answers: how
    the votes vary with other participants and other images.
    """
    chosen, answered = np.nan_to_num(marks.chosen), marks.answered
    votes, n_answers = chosen.sum(axis=(0, 1)), int(answered.sum())
    intervals = [UNKNOWN] * len(votes)
    if drawn is not None:
        people, triplets = drawn
        sums = np.einsum("bp,ptm,bt->bm", people, chosen, triplets, optimize=True)
        counts = np.einsum("bp,pt,bt->b", people, answered, triplets, optimize=True)
        # A draw may hold no answer at all.
        shares = sums / np.where(counts > 0, counts, np.nan)[:, None]
        intervals = [Interval(*(n_answers * ends)) for ends in quantiles(shares).T]
    return pd.DataFrame(
        {
            "votes": votes.astype(int),
            "share": votes / n_answers if n_answers else math.nan,
            "low": [interval.low for interval in intervals],
            "high": [interval.high for interval in intervals],
            "answers": n_answers,
        }
    )


def quantiles(values: np.ndarray) -> np.ndarray:
    """The ends of the percentile intervals over the first axis, [2, ...]."""
    tail = (1 - CONFIDENCE) / 2
    return np.nanquantile(values, [tail, 1 - tail], axis=0)


def vote_bars(labels: Sequence[str], questions: Mapping[str, pd.DataFrame], width: float) -> Figure:
    """Figure 12: a bar per method and question, with its interval and number; `width` in inches.

    `questions` has the `totals` of each question, a line per method in the order of `labels`.
    """
    scale = float(rcParams["font.size"]) / 7  # the sizes below are for text of 7 points
    height = scale * (0.55 + (0.2 * len(questions) + 0.14) * len(labels))
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    bar = 0.8 / len(questions)
    for i, (question, table) in enumerate(questions.items()):
        places = np.arange(len(labels)) + (i - (len(questions) - 1) / 2) * bar
        votes, low, high = (table[name].to_numpy(float) for name in ("votes", "low", "high"))
        # A percentile interval may leave out a total at its edge; NaN draws no line.
        error = np.stack([np.maximum(votes - low, 0), np.maximum(high - votes, 0)])
        colour = COLOURS[i % len(COLOURS)]
        axes.barh(places, votes, bar * 0.9, color=colour, label=question)
        axes.errorbar(
            votes, places, xerr=error, fmt="none", ecolor="#222222", elinewidth=0.8 * scale,
            capsize=1.5 * scale,
        )  # fmt: skip
        for place, value, end in zip(places, votes, np.fmax(votes, high), strict=True):
            axes.annotate(
                f"{value:.0f}", (end, place), (3, 0), textcoords="offset points", va="center",
                fontsize=6 * scale,
            )  # fmt: skip
    names = [textwrap.fill(label, LABEL, break_long_words=True) for label in labels]
    axes.set_yticks(np.arange(len(labels)), names)
    axes.invert_yaxis()
    axes.set_xlabel("votes")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(questions), frameon=False)
    return figure
