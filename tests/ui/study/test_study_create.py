"""A study from painted runs, and the orders in which it is shown."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import study_runs
from click.testing import CliRunner
from PIL import Image
from study_runs import COLOURS, GREY, METHODS, SECRETS, SIZE, method_of, paint_runs

from profi.cli.main import profi as command
from profi.harness.run_folder import RunFolder
from profi.types import UserError
from profi.ui.study.create import Wishes, create
from profi.ui.study.folder import StudyFolder, read_study, showings

LABELS = ["base", "only PAIntA", "only RASG", "RASG & PAIntA"]


def test_a_study_holds_the_runs_pictures_under_random_names(
    make_study: Callable[..., StudyFolder],
) -> None:
    folder = make_study()
    study = read_study(folder)
    assert [method.label for method in study.methods] == LABELS
    assert len(study.triplets) == len({triplet.image_id for triplet in study.triplets}) == 6
    assert {path.name for path in folder.pictures.iterdir()} == study.picture_names()
    assert len(study.picture_names()) == 6 * 5
    for triplet in study.triplets:
        for name, method in zip(triplet.results, METHODS, strict=True):
            data = (folder.pictures / name).read_bytes()
            assert re.fullmatch(r"[0-9a-f]{32}\.png", name)
            assert method_of(data) == method
            # The hull from 8 to 24 is painted, the rest is the input.
            pixels = np.asarray(Image.open(folder.pictures / name))
            assert pixels.shape == (SIZE, SIZE, 3)
            hole = np.zeros((SIZE, SIZE), bool)
            hole[8:24, 8:24] = True
            assert (pixels[hole] == COLOURS[method]).all()
            assert (pixels[~hole] == GREY).all()
            with Image.open(folder.pictures / name) as image:
                assert image.info == {}
            assert not any(word.encode() in data for word in SECRETS)
    assert folder.codes.read_text().split() == list(study.codes)


def test_the_outline_surrounds_the_hole(make_study: Callable[..., StudyFolder]) -> None:
    folder = make_study()
    given = read_study(folder).triplets[0].given
    pixels = np.asarray(Image.open(folder.pictures / given)).astype(int)
    assert pixels.shape == (512, 512, 3)
    white = (pixels == 255).all(axis=2)
    rows, columns = white.any(axis=1).nonzero()[0], white.any(axis=0).nonzero()[0]
    # The hull's 8 to 24 of 32, sixteen times as large.
    for ends in (rows, columns):
        assert abs(ends.min() - 8 * 16) <= 3
        assert abs(ends.max() - 24 * 16) <= 3
    assert (pixels[200:300, 200:300] == GREY).all()


def test_the_seed_decides_the_triplets_and_not_the_names(
    make_study: Callable[..., StudyFolder],
) -> None:
    one, two, three = (
        read_study(make_study(name, seed=seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    ids = [[triplet.triplet_id for triplet in study.triplets] for study in (one, two, three)]
    assert ids[0] == ids[1] != ids[2]
    assert not one.picture_names() & two.picture_names()
    assert not set(one.codes) & set(two.codes)
    assert [showings(one, i) for i in range(3)] == [showings(two, i) for i in range(3)]


def test_every_participant_sees_every_triplet_once_and_the_repeats_later(
    make_study: Callable[..., StudyFolder],
) -> None:
    study = read_study(make_study(triplets=12, repeats=3))
    orders = set()
    for participant in range(50):
        shown = showings(study, participant)
        first = [item.triplet for item in shown if not item.repeat]
        again = [item.triplet for item in shown if item.repeat]
        assert sorted(first) == list(range(12))
        assert len(set(again)) == 3
        places = {item.triplet: i for i, item in enumerate(shown) if not item.repeat}
        assert all(
            i - places[item.triplet] > 12 // 3 for i, item in enumerate(shown) if item.repeat
        )
        assert all(sorted(item.order) == [0, 1, 2, 3] for item in shown)
        orders.add(tuple(first))
    assert len(orders) == 50


def test_every_method_is_equally_often_at_every_place(
    make_study: Callable[..., StudyFolder],
) -> None:
    study = read_study(make_study(triplets=12, repeats=0))
    counts = Counter(
        (place, method)
        for participant in range(200)
        for item in showings(study, participant)
        for place, method in enumerate(item.order)
    )
    n = 200 * 12
    assert len(counts) == 16
    # Five standard errors of a share of 1/4.
    assert all(abs(count / n - 0.25) < 5 * np.sqrt(0.25 * 0.75 / n) for count in counts.values())


def test_triplets_of_one_image_come_only_when_images_run_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = study_runs.Triplet
    monkeypatch.setattr(
        study_runs, "Triplet", lambda *args: replace(original(*args), image_id=args[1] // 2)
    )
    runs = [str(run.root) for run in paint_runs(tmp_path / "runs", 8)]
    few = create(tmp_path / "few", runs, Wishes(triplets=4, repeats=0))
    assert len({triplet.image_id for triplet in few.triplets}) == 4
    all_of_them = create(tmp_path / "all", runs, Wishes(triplets=8, repeats=0))
    assert len({triplet.triplet_id for triplet in all_of_them.triplets}) == 8


def called(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(command, [str(word) for word in arguments])
    return result.exit_code, result.output + (str(result.exception) if result.exception else "")


def test_the_command_makes_a_study(runs: list[RunFolder], tmp_path: Path) -> None:
    consent = tmp_path / "consent.txt"
    consent.write_text("One\nparagraph.\n\n\nAnother.\n")
    target = tmp_path / "new"
    status, shown = called(
        "study", "new", target, f"ours={runs[3].root}", runs[0].root, "--triplets", 5,
        "--repeats", 1, "--participants", 2, "--consent", consent, "--title", "A study",
    )  # fmt: skip
    assert status == 0, shown
    study = read_study(StudyFolder(target))
    assert [method.label for method in study.methods] == ["ours", "base"]
    assert study.consent == ("One paragraph.", "Another.")
    assert (study.title, study.repeats, len(study.codes)) == ("A study", 1, 2)
    assert "5 triplets, 2 methods" in shown


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"triplets": 25}, "--triplets 25: the runs share 24 painted triplets"),
        ({"triplets": 0}, "--triplets 0"),
        ({"repeats": 3}, "--repeats 3: of 6 triplets, 0 to 2"),
        ({"repeats": -1}, "--repeats -1"),
        ({"participants": 0}, "--participants 0"),
    ],
)
def test_wishes_that_cannot_be_met(
    make_study: Callable[..., StudyFolder], wishes: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        make_study(**wishes)


def test_runs_that_cannot_be_compared(runs: list[RunFolder], tmp_path: Path) -> None:
    root, words = tmp_path / "study", [str(run.root) for run in runs]
    with pytest.raises(UserError, match="1 runs: a study compares 2"):
        create(root, words[:1], Wishes())
    with pytest.raises(UserError, match="are both called 'base'"):
        create(root, [words[0], words[0]], Wishes())
    with pytest.raises(UserError, match="is not a run's folder"):
        create(root, [words[0], str(tmp_path / "none")], Wishes())
    other = paint_runs(tmp_path / "other", 8, ("profi",))[0]
    with pytest.raises(UserError, match=r"do not share their triplets.*manifest"):
        create(root, [words[0], str(other.root)], Wishes())
    assert not root.exists()
    root.mkdir()
    (root / "file").touch()
    with pytest.raises(UserError, match="is not an empty folder"):
        create(root, words, Wishes(triplets=6))


def test_what_is_no_study_is_refused_in_one_line(
    tmp_path: Path, make_study: Callable[..., StudyFolder]
) -> None:
    for words in (["serve"], ["report"]):
        status, shown = called("study", *words, tmp_path / "nothing")
        assert status != 0
        assert "is not a study's folder" in shown
    folder = make_study()
    status, shown = called("study", "report", folder.root)
    assert status != 0
    assert "has no answer yet" in shown
    value = json.loads(folder.record.read_text())
    for text in ("{", "[]", "{}", json.dumps(value | {"version": 99}), json.dumps({"version": 1})):
        folder.record.write_text(text)
        with pytest.raises(UserError, match=r"study\.json"):
            read_study(folder)
