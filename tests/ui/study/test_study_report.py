"""The report: it counts the clicks, and its files say the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from study_runs import paint_runs

from profi.reports.total_votes import COLOURS as VOTE_COLOURS
from profi.ui.study.create import Wishes, create
from profi.ui.study.folder import QUESTIONS, StudyFolder, read_study
from profi.ui.study.study_report import interval, number, write_report
from profi.ui.study.votes import Votes

LABELS = ["base", "only PAIntA", "only RASG", "RASG & PAIntA"]


def answered(folder: StudyFolder, people: int, seed: int = 0) -> Counter[tuple[str, str]]:
    """Random answers, of which some are changed; the votes by (question, label)."""
    study = read_study(folder)
    votes, rng = Votes(folder, study), np.random.default_rng(seed)
    counts: Counter[tuple[str, str]] = Counter()
    for participant in range(people):
        votes.join(study.codes[participant])
        for step, showing in enumerate(votes.showings(participant)):
            for question in QUESTIONS:
                for number_ in range(1, 1 + int(rng.integers(1, 4))):
                    places = np.flatnonzero(rng.random(4) < 0.4).tolist()
                    votes.vote(participant, step, question, places, "0" * 16, number_)
                if not showing.repeat:
                    counts.update(
                        (QUESTIONS[question], LABELS[showing.order[place]]) for place in places
                    )
    votes.close()
    return counts


@pytest.fixture
def study(make_study: Callable[..., StudyFolder]) -> StudyFolder:
    return make_study(triplets=8, participants=7, repeats=2)


def test_totals_are_the_last_answers_to_first_showings(study: StudyFolder, tmp_path: Path) -> None:
    counts = answered(study, 7)
    lines = write_report(study.root, tmp_path / "report", 100, 0)
    totals = pd.read_csv(tmp_path / "report" / "totals.csv")
    found = {(row.question, row.method): row.votes for row in totals.itertuples()}
    assert found == {(q, label): counts[q, label] for q in QUESTIONS.values() for label in LABELS}
    assert (totals["answers"] == 7 * 8).all()
    assert (totals["low"] <= totals["votes"]).all()
    assert (totals["votes"] <= totals["high"]).all()
    assert lines[0] == "7 participants with answers, 7 of them finished; 8 triplets"
    for label in LABELS:
        assert sum(line.strip().startswith(label) for line in lines) == 2


def test_the_votes_as_csv_and_parquet_are_the_same(study: StudyFolder, tmp_path: Path) -> None:
    counts = answered(study, 3)
    write_report(study.root, tmp_path, 100, 0)
    for name in ("votes", "history"):
        one, two = (
            pd.read_csv(tmp_path / f"{name}.csv"),
            pd.read_parquet(tmp_path / f"{name}.parquet"),
        )
        one["at"] = pd.to_datetime(one["at"], utc=True, format="ISO8601")
        pd.testing.assert_frame_equal(one, two, check_dtype=False)
    last = pd.read_parquet(tmp_path / "votes.parquet")
    assert len(last) == 3 * 10 * 2 * 4
    first = last[~last["repeat"] & last["chosen"]]
    assert Counter(zip(first["question"].map(QUESTIONS), first["method"], strict=True)) == counts
    assert set(last["participant"]) == {1, 2, 3}
    assert set(last["run"]) == {method.run for method in read_study(study).methods}
    study_, votes = read_study(study), Votes(study, read_study(study))
    for row in last.sample(30, random_state=0).itertuples():
        showing = votes.showings(row.participant - 1)[row.page - 1]
        assert study_.triplets[showing.triplet].triplet_id == row.triplet_id
        assert LABELS[showing.order["ABCD".index(row.place)]] == row.method
    # Codes are passwords: no file of the report has one.
    for path in tmp_path.glob("*.*"):
        assert not any(code.encode() in path.read_bytes() for code in study_.codes)


def test_figure_12_and_the_page_are_written(study: StudyFolder, tmp_path: Path) -> None:
    counts = answered(study, 7)
    write_report(study.root, tmp_path, 100, 0)
    assert (tmp_path / "figure12.pdf").read_bytes().startswith(b"%PDF")
    with Image.open(tmp_path / "figure12.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    # The bars' areas are in the ratio of the questions' votes (less the lines of the intervals).
    areas = [
        (np.abs(pixels - colour).sum(axis=2) < 12).sum()
        for colour in (tuple(bytes.fromhex(code[1:])) for code in VOTE_COLOURS[:2])
    ]
    of_question = [sum(counts[q, label] for label in LABELS) for q in QUESTIONS.values()]
    assert areas[0] / areas[1] == pytest.approx(of_question[0] / of_question[1], rel=0.1)
    page = (tmp_path / "report.html").read_text()
    assert "7 of 7 participants have answered, 7 to the end" in page
    assert "RASG &amp; PAIntA" in page
    # The same votes and seed give the same files.
    write_report(study.root, tmp_path / "again", 100, 0)
    for name in ("report.html", "figure12.png", "figure12.pdf", "totals.csv", "votes.parquet"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_few_answers_have_totals_without_intervals(
    make_study: Callable[..., StudyFolder], tmp_path: Path
) -> None:
    folder = make_study(triplets=3, repeats=1)
    study = read_study(folder)
    votes = Votes(folder, study)
    votes.join(study.codes[1])
    votes.vote(1, 0, "prompt", [2])
    votes.vote(1, 1, "prompt", None)
    lines = write_report(folder.root, tmp_path, 100, 0)
    assert lines[0].startswith("1 participants with answers, 0 of them finished")
    totals = pd.read_csv(tmp_path / "totals.csv")
    assert totals["votes"].sum() == 1
    assert totals["low"].isna().all()
    history = pd.read_csv(tmp_path / "history.csv")
    assert list(history["participant"]) == [2, 2]
    assert history["chosen"].isna().tolist() == [False, True]
    votes.vote(1, 1, "prompt", [])
    write_report(folder.root, tmp_path, 100, 0)
    assert pd.read_csv(tmp_path / "history.csv")["chosen"].iloc[-1] == "(none of them)"


def test_eleven_methods_fit_into_the_figure_and_a_page(tmp_path: Path) -> None:
    runs = paint_runs(tmp_path / "runs", 6, ("base", "profi"))
    words = [f"Method number {i}={runs[i % 2].root}" for i in range(11)]
    create(tmp_path / "study", words, Wishes(triplets=6, participants=6, repeats=0))
    folder = StudyFolder(tmp_path / "study")
    study = read_study(folder)
    votes = Votes(folder, study)
    for participant in range(6):
        votes.join(study.codes[participant])
        for step in range(6):
            votes.vote(participant, step, "prompt", [step, 10])
    write_report(folder.root, tmp_path / "report", 100, 0)
    totals = pd.read_csv(tmp_path / "report" / "totals.csv")
    assert totals.groupby("question")["votes"].sum().to_dict() == {
        "prompt alignment": 72,
        "overall quality": 0,
    }
    with Image.open(tmp_path / "report" / "figure12.png") as image:
        assert image.height > 1500  # a line for each method


def test_numbers_of_the_tables() -> None:
    assert number(-0.456) == "−0.46"
    assert number(float("nan")) == "–"
    assert interval(-1.0, 2.345, 1) == "−1.0 to 2.3"
    assert interval(float("nan"), float("nan")) == "–"
