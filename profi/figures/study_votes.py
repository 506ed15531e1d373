"""Figure 12: the total votes of a user study (app. D)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from profi.figures.context import FigureContext
from profi.figures.drawing import Drawing
from profi.figures.layout import BLUE, COLUMN, ORANGE, new_figure, wrapped
from profi.types import UserError

COLUMNS = ["participant", "triplet", "question", "method", "chosen"]
DRAWS, COLOURS = 10_000, (BLUE, ORANGE, "#009E73", "#CC79A7")
YES, NO = ("1", "true", "yes"), ("0", "false", "no", "")


def figure_12(context: FigureContext) -> Drawing:
    """Votes per method and question, with intervals over the participants."""
    path = context.config.figure.votes
    if path is None:
        raise UserError(
            "figure 12 shows the votes of a user study and there is none: set figure.votes to a "
            f"CSV with the columns {', '.join(COLUMNS)}"
        )
    votes = read_votes(Path(path).expanduser())
    questions = list(dict.fromkeys(votes["question"]))
    totals = votes.groupby(["method", "question"])["chosen"].sum().unstack(fill_value=0)
    methods = list(totals.sum(axis=1).sort_values(ascending=False, kind="stable").index)
    ends = {
        (m, q): interval(votes, m, q, context.config.figure.draw)
        for m in methods
        for q in questions
    }
    figure = new_figure(COLUMN, 0.55 + (0.2 * len(questions) + 0.14) * len(methods))
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    bar = 0.8 / len(questions)
    for i, question in enumerate(questions):
        places = np.arange(len(methods)) + (i - (len(questions) - 1) / 2) * bar
        values = [float(totals.loc[method, question]) for method in methods]
        around = np.array([ends[method, question] for method in methods]).T
        error = np.abs(around - np.array(values))
        axes.barh(
            places, values, bar * 0.9, color=COLOURS[i % len(COLOURS)], label=question,
            xerr=error, error_kw={"elinewidth": 0.8, "capsize": 1.5},
        )  # fmt: skip
        for place, value, high in zip(places, values, around[1], strict=True):
            axes.annotate(
                f"{value:g}", (max(value, high), place), (3, 0), textcoords="offset points",
                va="center", fontsize=6,
            )  # fmt: skip
    axes.set_yticks(np.arange(len(methods)), wrapped(methods, 0.95))
    axes.invert_yaxis()
    axes.set_xlabel("votes")
    axes.margins(x=0.12)
    figure.legend(loc="outside upper center", ncols=len(questions), frameon=False)
    people, triplets = votes["participant"].nunique(), votes["triplet"].nunique()
    return Drawing(
        figure,
        f"Total votes of {people} participants on {triplets} triplets, by question; none or "
        "several methods may be chosen. Lines: 95 % intervals of the totals, by drawing "
        f"participants with replacement ({DRAWS:,} draws).",
        f"All votes of {Path(path).name}.",
        (),
        {
            f"{method}, {question}": f"{totals.loc[method, question]:g} "
            f"[{ends[method, question][0]:g}, {ends[method, question][1]:g}]"
            for method in methods
            for question in questions
        },
    )


def read_votes(path: Path) -> pd.DataFrame:
    """The votes: a row per participant, triplet, question and method; `chosen` is 0 or 1.

    The column of the triplets may be named triplet_id. Where there is a column `repeat`, answers
    to repeated triplets (attention checks) are left out.

    UserError if the file is missing, lacks a column or holds a value that is neither yes nor no.
    """
    try:
        votes = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"figure.votes={path} cannot be read ({reason})") from error
    votes = votes.rename(columns={} if "triplet" in votes else {"triplet_id": "triplet"})
    if "repeat" in votes:
        votes = votes[~votes["repeat"].str.lower().isin(YES)].reset_index(drop=True)
    lacking = [name for name in COLUMNS if name not in votes]
    if lacking or votes.empty:
        what = f"has no column {', '.join(lacking)}" if lacking else "holds no vote"
        raise UserError(f"figure.votes={path} {what}: it needs the columns {', '.join(COLUMNS)}")
    text = votes["chosen"].str.strip().str.lower()
    wrong = sorted(set(text) - {*YES, *NO})
    if wrong:
        raise UserError(f"figure.votes={path}: chosen={wrong[0]} is neither 1 nor 0")
    votes["chosen"] = text.isin(YES).astype(int)
    twice = votes.duplicated(COLUMNS[:4])
    if twice.any():
        raise UserError(
            f"figure.votes={path}: a participant's answer stands twice (line "
            f"{int(np.flatnonzero(twice)[0]) + 2}): keep the last one"
        )
    return votes


def interval(votes: pd.DataFrame, method: str, question: str, seed: int) -> tuple[float, float]:
    """The 95 % interval of a method's total votes over samples of the participants."""
    people = sorted(votes["participant"].unique())
    mine = votes[(votes["method"] == method) & (votes["question"] == question)]
    of_each = mine.groupby("participant")["chosen"].sum().reindex(people, fill_value=0).to_numpy()
    rng = np.random.default_rng(seed)
    totals = of_each[rng.integers(len(people), size=(DRAWS, len(people)))].sum(axis=1)
    low, high = np.quantile(totals, [0.025, 0.975])
    return float(low), float(high)
