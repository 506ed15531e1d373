"""Orders, boxes, kinds and votes, without painting."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from small_figures import Studio

from profi.catalogue import catalogue
from profi.cli.main import figure_words
from profi.cli.words import for_hydra
from profi.figures.context import drawn, spread
from profi.figures.drawing import Pick
from profi.figures.hard_sets import parts_of
from profi.figures.neglect import BACKGROUND, FOUND, NEARBY, OTHER, kind_of, known_categories
from profi.figures.objectives import enlarged, iou, object_box
from profi.figures.study_votes import marks_of, read_votes
from profi.metrics import Detection
from profi.metrics.functional import Box
from profi.reports.total_votes import draws, totals
from profi.settings import Config, FigureConfig
from profi.types import Triplet, UserError

PICKS = [Pick(str(i), seed) for i in range(20) for seed in (0, 1)]


def test_a_draw_depends_on_the_names_alone() -> None:
    assert drawn(reversed(PICKS), "3", 0) == drawn(PICKS, "3", 0)
    assert drawn(PICKS, "3", 0) != drawn(PICKS, "3", 1) != drawn(PICKS, "5", 0)
    assert set(drawn(PICKS, "3", 0)) == set(PICKS)
    # A smaller pool keeps its order.
    few = PICKS[::3]
    assert [p for p in drawn(PICKS, "3", 0) if p in few] == drawn(few, "3", 0)


def test_every_prompt_comes_once_before_any_comes_twice() -> None:
    prompts = {pick: "abc"[int(pick.triplet_id) % 3] for pick in PICKS}
    ordered = spread(PICKS, prompts.__getitem__)
    assert sorted(ordered) == sorted(PICKS)
    shown = [prompts[pick] for pick in ordered]
    assert all(set(shown[i : i + 3]) == set("abc") for i in range(0, 36, 3))
    for letter in "abc":
        own = [p for p in PICKS if prompts[p] == letter]
        assert [p for p in ordered if prompts[p] == letter] == own


def test_iou_of_boxes() -> None:
    box = (0.0, 0.0, 2.0, 1.0)
    assert iou(box, box) == 1.0
    assert iou(box, (2.0, 0.0, 3.0, 1.0)) == 0.0
    assert iou(box, (5.0, 5.0, 6.0, 6.0)) == 0.0
    assert iou(box, (1.0, 0.0, 3.0, 1.0)) == pytest.approx(1 / 3)
    assert iou(box, (1.0, 1.0, 1.0, 1.0)) == 0.0


class Seeing:
    """A detector that finds the same objects, given in pixels of the whole picture."""

    categories: Mapping[str, int] = {"cat": 17, "dog": 18}
    identity: Mapping[str, Any] = {}

    def __init__(self, found: Sequence[Detection], view: Box) -> None:
        self.found = [
            Detection(
                d.category_id,
                d.score,
                (
                    d.box[0] - view.left,
                    d.box[1] - view.top,
                    d.box[2] - view.left,
                    d.box[3] - view.top,
                ),
            )
            for d in found
        ]
        self.shapes: list[tuple[int, ...]] = []

    def detect(self, crops: Sequence[np.ndarray]) -> list[list[Detection]]:
        self.shapes += [crop.shape for crop in crops]
        return [self.found for _ in crops]


def test_the_objects_box_is_that_of_the_most_certain_label_in_the_mask() -> None:
    image, mask = np.zeros((40, 60, 3), np.uint8), Box(10, 20, 20, 40)
    view = enlarged(mask, image.shape[:2])
    assert view == Box(5, 10, 25, 50)
    inside, surer, outside = (
        (20.0, 8.0, 36.0, 22.0),
        (22.0, 11.0, 38.0, 19.0),
        (40.0, 8.0, 49.0, 20.0),
    )
    found = [
        Detection(17, 0.5, inside),
        Detection(17, 0.8, surer),
        Detection(17, 0.9, outside),
        Detection(18, 0.95, inside),
    ]
    seeing = Seeing(found, view)
    assert object_box(seeing, image, mask, 17, 0.3) == surer
    assert seeing.shapes == [(20, 40, 3)]
    assert object_box(seeing, image, mask, 17, 0.8) is None
    assert object_box(seeing, image, mask, 18, 0.3) == inside
    assert object_box(seeing, image, mask, None, 0.3) is None
    # At the picture's edge the view is cut.
    assert enlarged(Box(0, 0, 10, 10), (12, 12)) == Box(0, 0, 12, 12)


def triplet(category: int, square: tuple[int, int, int, int]) -> Triplet:
    x0, y0, x1, y1 = square
    hull = tuple(map(float, (x0, y0, x1, y0, x1, y1, x0, y1)))
    return Triplet("1", 1, 1, category, "cat", "a.png", 40, 40, hull)


def test_kinds_of_neglect() -> None:
    one = triplet(17, (10, 10, 20, 20))
    mask = np.zeros((40, 40), bool)
    mask[10:21, 10:21] = True
    centre, corner = (2.0, 2.0, 8.0, 8.0), (9.0, 9.0, 30.0, 30.0)

    def kind(*found: Detection) -> str:
        return kind_of(one, mask, found, {18}, 0.3)

    assert kind() == BACKGROUND
    assert kind(Detection(17, 0.9, corner)) == FOUND
    assert kind(Detection(17, 0.2, centre)) == BACKGROUND
    assert kind(Detection(18, 0.9, centre)) == NEARBY
    assert kind(Detection(19, 0.9, centre)) == OTHER
    assert kind(Detection(18, 0.9, corner)) == BACKGROUND


def test_known_are_the_categories_that_stand_outside_of_the_mask() -> None:
    one = triplet(17, (10, 10, 20, 20))
    covered, aside = triplet(18, (11, 11, 19, 19)), triplet(19, (15, 15, 30, 30))
    assert known_categories(one, [one, covered, aside]) == {19}


def test_parts_of_a_mask() -> None:
    mask = np.zeros((9, 9), bool)
    mask[0:2, 0:2] = mask[2, 2] = mask[6:9, 6:9] = True
    parts = parts_of(mask)
    assert sorted(part.sum() for part in parts) == [5, 9]
    assert (np.logical_or.reduce(parts) == mask).all()


# --------------------------------------------------------------------------------------- votes

ROWS = [
    (f"p{person}", f"t{number}", question, method, int(method == "profi" or person == number == 0))
    for person in range(4)
    for number in range(3)
    for question in ("prompt alignment", "overall quality")
    for method in ("base", "profi")
]
Votes = Callable[[Sequence[Sequence[object]]], Path]


def test_figure_12_counts_the_votes(studio: Studio, votes: Votes) -> None:
    from test_figures import check_texts

    drawing = studio.draw("12", f"figure.votes={votes(ROWS)}")
    # Too few participants for an interval.
    assert drawing.numbers["profi, overall quality"] == "12"
    assert drawing.numbers["base, prompt alignment"] == "1"
    assert "4 participants on 3 triplets" in drawing.caption
    check_texts(drawing)
    bars = [patch.get_width() for patch in drawing.figure.axes[0].patches]
    assert sorted(bars) == [1, 1, 12, 12]


def test_figure_12_has_the_intervals_of_the_totals(studio: Studio, votes: Votes) -> None:
    rng = np.random.default_rng(1)
    people = [f"p{i:02}" for i in range(20)]
    rows = [(p, f"t{k}", "q", "m", int(rng.random() < 0.5)) for p in people for k in range(9)]
    path = votes(rows)
    marks = marks_of(read_votes(path)[0], "q", ["m"])
    assert marks.chosen.shape == (20, 9, 1)
    assert marks.chosen.sum() == sum(row[-1] for row in rows)
    (row,) = totals(marks, draws(marks, 10_000, 0)).itertuples()
    assert row.low < row.votes < row.high
    numbers = studio.draw("12", f"figure.votes={path}", "figure.draw=0").numbers
    assert numbers == {"m, q": f"{row.votes} [{row.low:.0f}, {row.high:.0f}]"}
    # No model and no triplets of the settings have to do with it.
    facts = studio.record("12")["facts"]
    assert list(facts) == ["command", "votes", "seed of the draws"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() in facts["votes"]


def test_an_answer_is_missing_or_names_the_chosen(votes: Votes) -> None:
    table = read_votes(votes([("a", "t", "q", "m", 1), ("b", "u", "q", "n", 1)]))[0]
    marks = marks_of(table, "q", ["m", "n"])
    nothing = [np.nan, np.nan]
    assert_array_equal(marks.chosen, [[[1, 0], nothing], [nothing, [0, 1]]])


def test_the_studys_own_columns_are_read(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(
        "participant,page,triplet_id,repeat,question,method,chosen\n"
        "a,0,7,False,q,m,True\na,1,7,True,q,m,False\n"
    )
    found, repeats = read_votes(path)
    assert found[["triplet", "chosen"]].to_numpy().tolist() == [["7", 1]]
    assert repeats == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("participant,triplet\n1,2\n", "has no column question, method, chosen"),
        ("participant,triplet,question,method,chosen\n", "holds no vote"),
        ("participant,triplet,question,method,chosen\na,b,c,d,maybe\n", "chosen=maybe is neither"),
        (
            "participant,triplet,question,method,chosen\na,b,c,d,1\na,b,c,d,0\n",
            "stands twice .line 3",
        ),
        ("", "cannot be read"),
    ],
)
def test_wrong_votes_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_votes(path)


def test_without_votes_there_is_no_figure_12(studio: Studio) -> None:
    with pytest.raises(UserError, match=r"there is none: set figure\.votes to a CSV"):
        studio.draw("12")


# ----------------------------------------------------------------------------- the command line


def test_the_words_of_profi_figure() -> None:
    assert figure_words("3", None, ["seed=1"]) == ["seed=1", "stage=figure", "figure=3"]
    assert figure_words("3,5", None, []) == ["-m", "stage=figure", "figure=3,5"]
    assert figure_words("3", "a@1, b", [])[-1] == 'figure.select=["a@1","b"]'
    every = figure_words("all", None, [])[-1].removeprefix("figure=").split(",")
    assert every == [one.name for one in catalogue.figures.entries() if not one.needs]
    assert not {"12", "14"} & set(every)
    assert "12" in figure_words("all", None, ["figure.votes=v.csv"])[-1].split(",")
    with pytest.raises(UserError, match="figure=99: choose one of 3, 5"):
        figure_words("99", None, [])


def test_numbers_of_figures_are_quoted_for_hydra() -> None:
    assert for_hydra(["figure=3", "seed=1"]) == ['figure="3"', "seed=1"]
    assert for_hydra(["-m", "figure=3,5"]) == ["-m", 'figure="3","5"']
    # With an experiment, its data and models.
    assert for_hydra(["figure=5", "experiment=table1"])[0] == 'figure.name="5"'
    assert for_hydra(["own.x.y=1"]) == ["++own.x.y=1"]


def test_every_figure_has_its_settings(studio: Studio) -> None:
    for name in catalogue.figures.names():
        config = studio.command(name).config
        assert config.figure.name == name
    assert studio.command("15").config.data.name == "mini_crowded"
    assert [one.model.id for one in studio.command("5").config.per_model][-1] == "profi-mini"
    assert studio.command("5", "experiment=table2_mini").config.data.name == "mini"
    assert len(studio.command("5", "model=mini").config.per_model) == 1


def test_the_stage_needs_a_figure() -> None:
    with pytest.raises(UserError, match=r"figure is not set: choose one of figure=3 \("):
        Config(stage="figure")
    with pytest.raises(UserError, match="figure=99: choose one of"):
        Config(stage="figure", figure=FigureConfig("99"))
