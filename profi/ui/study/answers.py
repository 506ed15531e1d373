"""The answers of a study as tables, and in the form that the statistics take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from profi.reports.total_votes import Marks
from profi.ui.study.folder import LETTERS, QUESTIONS, Study
from profi.ui.study.votes import Vote, Votes

_SHOWN = ["participant", "page", "triplet_id", "image_id", "prompt", "repeat", "question"]
COLUMNS = [*_SHOWN, "method", "run", "place", "chosen", "at"]
NONE = "(none of them)"
HISTORY = ["id", "at", *_SHOWN, "chosen"]


class Answers(NamedTuple):
    """What the participants answered.

    `last` has a line per participant, page, question and method, with the last answers alone
    (`chosen` is bool, `place` the letter on the page); `history` has a line per click (`chosen`:
    labels joined by " | ", or NONE; missing where the answer was withdrawn). `at` is UTC.
    """

    last: pd.DataFrame
    history: pd.DataFrame


def read_answers(study: Study, votes: Votes) -> Answers:
    """The answers of all participants so far."""
    # First the votes: while the server runs, people join who are not asked for below.
    given = votes.history()
    shown = {participant: votes.showings(participant) for participant in votes.participants()}

    def where(vote: Vote) -> dict[str, object]:
        showing = shown[vote.participant][vote.step]
        triplet = study.triplets[showing.triplet]
        values = (vote.participant + 1, vote.step + 1, triplet.triplet_id, triplet.image_id,
                  triplet.prompt, showing.repeat, vote.question)  # fmt: skip
        return dict(zip(_SHOWN, values, strict=True))

    history, last = [], {}
    for vote in given:
        labels = None if vote.chosen is None else [study.methods[i].label for i in vote.chosen]
        text = None if labels is None else " | ".join(labels) or NONE
        history.append({"id": vote.id, **where(vote), "chosen": text, "at": vote.at})
        last[vote.participant, vote.step, vote.question] = vote
    lines = [
        {
            **where(vote),
            "method": study.methods[method].label,
            "run": study.methods[method].run,
            "place": LETTERS[place],
            "chosen": method in vote.chosen,
            "at": vote.at,
        }
        for _, vote in sorted(last.items())
        if vote.chosen is not None
        for place, method in enumerate(shown[vote.participant][vote.step].order)
    ]
    return Answers(_dated(lines, COLUMNS), _dated(history, HISTORY))


def _dated(lines: list[dict[str, object]], columns: list[str]) -> pd.DataFrame:
    table = pd.DataFrame(lines, columns=columns)
    return table.assign(at=pd.to_datetime(table["at"].astype(float), unit="s", utc=True))


def marks_of(study: Study, last: pd.DataFrame, question: str, repeat: bool = False) -> Marks:
    """The first answers to a question, or those to the repeated triplets.

    Its participants are those with any answer, in the order of their numbers.
    """
    people = {number: i for i, number in enumerate(sorted(last["participant"].unique()))}
    triplets = {item.triplet_id: i for i, item in enumerate(study.triplets)}
    methods = {item.label: i for i, item in enumerate(study.methods)}
    chosen = np.full((len(people), len(triplets), len(methods)), np.nan)
    lines = last[(last["question"] == question) & (last["repeat"] == repeat)]
    for line in lines.itertuples(index=False):
        place = people[line.participant], triplets[line.triplet_id], methods[line.method]
        chosen[place] = float(line.chosen)
    return Marks(chosen, np.array([item.image_id for item in study.triplets]))


def progress(study: Study, last: pd.DataFrame) -> dict[int, int]:
    """The number of pages with both answers, per participant with any answer."""
    pages = last.groupby(["participant", "page"])["question"].nunique()
    full = pages[pages == len(QUESTIONS)].reset_index()
    counts = full.groupby("participant").size()
    return {int(n): int(counts.get(n, 0)) for n in sorted(last["participant"].unique())}
