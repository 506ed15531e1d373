"""The report of a study: tables, figure 12, a page, and the votes as CSV and Parquet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from profi.atomic import whole_file, write_text
from profi.reports.html import templates_of
from profi.reports.total_votes import draws, totals, vote_bars
from profi.types import UserError
from profi.ui.study.analysis import (
    Alpha,
    Consistency,
    Preference,
    alpha,
    consistency,
    preference,
)
from profi.ui.study.answers import marks_of, progress, read_answers
from profi.ui.study.folder import QUESTIONS, Study, StudyFolder, read_study
from profi.ui.study.votes import Votes

FIGURE = "figure12"
PAGE = "report.html"
#: Inches.
WIDTH = 6.5


@dataclass(frozen=True)
class Result:
    """The statistics of one question: `name` is the paper's name of it."""

    question: str
    name: str
    totals: pd.DataFrame
    preference: Preference
    alpha: Alpha
    consistency: Consistency


@dataclass(frozen=True)
class Person:
    """One participant: pages with both answers, and how the repeated triplets were answered."""

    number: int
    pages: int
    repeats: Consistency


def write_report(root: Path, target: Path, n_resamples: int, seed: int) -> list[str]:
    """Write the report of the study `root` into `target`; the lines to show of it.

    `target` gets report.html, figure12.png and .pdf, totals.csv, preferences.csv, and votes and
    history as .csv and .parquet; files of these names are replaced.

    Raises:
        UserError: `root` is no study, or has no answer yet.
    """
    folder = StudyFolder(root)
    study = read_study(folder)
    if not folder.votes.is_file():
        raise UserError(f"{root} has no answer yet: profi study serve {root}")
    votes = Votes(folder, study)
    answers = read_answers(study, votes)
    votes.close()
    if answers.last.empty:
        raise UserError(f"{root} has no answer yet: profi study serve {root}")
    results = [_result(study, answers.last, name, n_resamples, seed) for name in QUESTIONS]
    people = _people(study, answers.last)
    for name, table in (("votes", answers.last), ("history", answers.history)):
        with whole_file(target / f"{name}.parquet") as file:
            table.to_parquet(file, index=False)
        write_text(target / f"{name}.csv", table.to_csv(index=False))
    labels = [method.label for method in study.methods]
    write_text(target / "totals.csv", _totals_table(labels, results).to_csv(index=False))
    write_text(target / "preferences.csv", _pairs_table(labels, results).to_csv(index=False))
    figure = vote_bars(labels, {result.name: result.totals for result in results}, WIDTH)
    for kind, metadata in (("png", {}), ("pdf", {"CreationDate": None})):
        with whole_file(target / f"{FIGURE}.{kind}") as file:
            figure.savefig(file, format=kind, dpi=200, metadata=metadata)
    _write_page(target / PAGE, study, labels, results, people, n_resamples)
    return _lines(study, labels, results, people, target)


def _result(study: Study, last: pd.DataFrame, question: str, n_resamples: int, seed: int) -> Result:
    marks = marks_of(study, last, question)
    drawn = draws(marks, n_resamples, seed)
    return Result(
        question,
        QUESTIONS[question],
        totals(marks, drawn),
        preference(marks, drawn),
        alpha(marks, n_resamples, seed),
        _repeats(study, last, [question]),
    )


def _repeats(
    study: Study, last: pd.DataFrame, questions: Sequence[str], person: int | None = None
) -> Consistency:
    """First against second answers of repeated triplets, of all participants or one of them."""
    if person is not None:
        last = last[last["participant"] == person]
    width = len(study.methods)
    pairs = [
        [
            marks_of(study, last, question, again).chosen.reshape(-1, width)
            for again in (False, True)
        ]
        for question in questions
    ]
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return consistency(first, second)


def _people(study: Study, last: pd.DataFrame) -> list[Person]:
    return [
        Person(number, pages, _repeats(study, last, list(QUESTIONS), number))
        for number, pages in progress(study, last).items()
    ]


def _totals_table(labels: Sequence[str], results: Sequence[Result]) -> pd.DataFrame:
    frames = []
    for result in results:
        table = result.totals.copy()
        table.insert(0, "question", result.name)
        table.insert(1, "method", list(labels))
        strength = result.preference.strength.add_prefix("strength_")
        strength = strength.rename(columns={"strength_strength": "strength"})
        frames.append(pd.concat([table, strength], axis=1))
    return pd.concat(frames, ignore_index=True)


def _pairs_table(labels: Sequence[str], results: Sequence[Result]) -> pd.DataFrame:
    """How probably `method` is preferred to `other`, by the Bradley-Terry model."""
    lines = [
        (result.name, one, other, *(float(part[i, j]) for part in result.preference[1:]))
        for result in results
        for i, one in enumerate(labels)
        for j, other in enumerate(labels)
        if i != j
    ]
    columns = ["question", "method", "other", "probability", "low", "high"]
    return pd.DataFrame(lines, columns=columns)


def number(value: float, decimals: int = 2) -> str:
    """A number of a table; a dash for NaN, a true minus sign."""
    text = "–" if math.isnan(value) else f"{value:.{decimals}f}"
    return text.replace("-", "−")


def interval(low: float, high: float, decimals: int = 2) -> str:
    """An interval of a table."""
    return "–" if math.isnan(low) else f"{number(low, decimals)} to {number(high, decimals)}"


def _write_page(
    path: Path,
    study: Study,
    labels: Sequence[str],
    results: Sequence[Result],
    people: Sequence[Person],
    n_resamples: int,
) -> None:
    environment = templates_of("profi.ui.study")
    environment.filters |= {"number": number}
    values: dict[str, Any] = {
        "study": study,
        "labels": labels,
        "results": results,
        "people": people,
        "interval": interval,
        "figure": FIGURE,
        "n_resamples": n_resamples,
        "finished": sum(person.pages == study.steps for person in people),
    }
    write_text(path, environment.get_template("report.html").render(**values))


def _lines(
    study: Study,
    labels: Sequence[str],
    results: Sequence[Result],
    people: Sequence[Person],
    target: Path,
) -> list[str]:
    finished = sum(person.pages == study.steps for person in people)
    lines = [
        f"{len(people)} participants with answers, {finished} of them finished; "
        f"{len(study.triplets)} triplets"
    ]
    width = max(len(label) for label in labels)
    for result in results:
        lines.append(f"{result.name}: votes (95 %), Bradley-Terry strength (95 %)")
        table = pd.concat([result.totals, result.preference.strength.add_prefix("s_")], axis=1)
        for label, row in zip(labels, table.itertuples(index=False), strict=True):
            lines.append(
                f"  {label:{width}}  {row.votes:4d} ({interval(row.low, row.high, 0)})  "
                f"{number(row.s_strength)} ({interval(row.s_low, row.s_high)})"
            )
        same = "–" if math.isnan(result.consistency.same) else f"{result.consistency.same:.0%}"
        lines.append(
            f"  agreement (Krippendorff's alpha) {number(result.alpha.value)} "
            f"({interval(*result.alpha.interval)}); repeats answered alike: {same} of "
            f"{result.consistency.n}"
        )
    return [*lines, f"report: {target / PAGE}"]
