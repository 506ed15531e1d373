"""Figure 12: the total votes of a user study (app. D)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from profi.download import sha256_of
from profi.figures.context import FigureContext
from profi.figures.drawing import Drawing
from profi.figures.layout import COLUMN
from profi.reports.total_votes import Marks, draws, totals, vote_bars
from profi.types import UserError

COLUMNS = ["participant", "triplet", "question", "method", "chosen"]
DRAWS = 10_000
YES, NO = ("1", "true", "yes"), ("0", "false", "no", "")


def figure_12(context: FigureContext) -> Drawing:
    """Votes per method and question, with intervals over the participants."""
    path = context.config.figure.votes
    if path is None:
        raise UserError(
            "figure 12 shows the votes of a user study and there is none: set figure.votes to a "
            f"CSV with the columns {', '.join(COLUMNS)}"
        )
    file = Path(path).expanduser()
    votes, repeats = read_votes(file)
    context.facts |= {
        "votes": f"{file.name}, SHA-256 {sha256_of(file)}",
        "seed of the draws": str(context.config.figure.draw),
    }
    questions = list(dict.fromkeys(votes["question"]))
    counted = votes.groupby("method")["chosen"].sum().sort_values(ascending=False, kind="stable")
    methods = list(counted.index)
    tables = {}
    for question in questions:
        marks = marks_of(votes, question, methods)
        tables[question] = totals(marks, draws(marks, DRAWS, context.config.figure.draw))
    people, triplets = votes["participant"].nunique(), votes["triplet"].nunique()
    numbers = {}
    for question, table in tables.items():
        for method, row in zip(methods, table.itertuples(index=False), strict=True):
            ends = "" if np.isnan(row.low) else f" [{row.low:.0f}, {row.high:.0f}]"
            numbers[f"{method}, {question}"] = f"{row.votes}{ends}"
    return Drawing(
        vote_bars(methods, tables, COLUMN),
        f"Total votes of {people} participants on {triplets} triplets, by question; none or "
        "several methods may be chosen. Lines: 95 % intervals of the totals, by drawing "
        f"participants and images with replacement ({DRAWS:,} draws); none with fewer than six of "
        "either.",
        f"All votes of {file.name}"
        + (f" but the {repeats} lines of repeated showings." if repeats else "."),
        (),
        numbers,
    )


def marks_of(votes: pd.DataFrame, question: str, methods: list[str]) -> Marks:
    """The answers to a question; without a column `image_id` each triplet is an image of its own.

    A method that an answer does not name was not chosen.
    """
    people, triplets = sorted(votes["participant"].unique()), sorted(votes["triplet"].unique())
    chosen = np.full((len(people), len(triplets), len(methods)), np.nan)
    for line in votes[votes["question"] == question].itertuples(index=False):
        answer = chosen[people.index(line.participant), triplets.index(line.triplet)]
        np.nan_to_num(answer, copy=False)
        answer[methods.index(line.method)] = line.chosen
    images = triplets
    if "image_id" in votes:
        images = list(votes.groupby("triplet")["image_id"].first().loc[triplets])
    return Marks(chosen, np.array(images))


def read_votes(path: Path) -> tuple[pd.DataFrame, int]:
    """The votes, and how many lines of repeated showings are left out of them.

    The votes are a row per participant, triplet, question and method; `chosen` is 0 or 1.

    The column of the triplets may be named triplet_id. Answers to repeated triplets (attention
    checks) are those with a yes in the column `repeat`, if there is one.

    UserError if the file is missing, lacks a column or holds a value that is neither yes nor no.
    """
    try:
        votes = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"figure.votes={path} cannot be read ({reason})") from error
    votes = votes.rename(columns={} if "triplet" in votes else {"triplet_id": "triplet"})
    every = len(votes)
    if "repeat" in votes:
        votes = votes[~votes["repeat"].str.lower().isin(YES)]
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
            f"{twice.index[twice][0] + 2}): keep the last one"
        )
    return votes, every - len(votes)
