"""The pages and votes of a study."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient
from study_runs import METHODS, Participant, Served, page_name

from profi.cli.main import profi as command
from profi.types import UserError
from profi.ui.study.answers import read_answers
from profi.ui.study.folder import QUESTIONS, StudyFolder, read_study
from profi.ui.study.server import application
from profi.ui.study.votes import Votes


def test_a_participant_goes_from_page_to_page_and_comes_back(served: Served) -> None:
    one = served.started()
    for step in range(1, 9):
        page = one.page(step)
        assert page.status_code == 200
        assert f"Page {step} of 8" in page.text
        # Not further than the first page without both answers.
        assert one.page(min(step + 1, 8)).status_code == (303 if step < 8 else 200)
        assert one.vote(step, "prompt", [0], page.text).status_code == 200
        if step < 8:
            assert one.page(step + 1).headers["location"] == f"/step/{step}"
        assert one.vote(step, "quality", [], page.text).status_code == 200
    assert one.client.get("/").headers["location"] == "/done"
    assert "All 8 pages are answered" in one.client.get("/done").text
    # Another browser, the same code: all is answered there, too.
    again = served.participant()
    assert "All 8 pages are answered" in again.start().text
    assert again.page(3).text.count(" checked") == 2


def test_what_is_chosen_is_what_stood_there(served: Served) -> None:
    one = served.started()
    expected = {}
    for step in range(1, 9):
        page = one.page(step).text
        methods = one.methods(page)
        assert sorted(methods) == sorted(METHODS)
        places = {"prompt": [step % 4, (step + 1) % 4], "quality": [(step + 2) % 4]}
        for question, chosen in places.items():
            one.vote(step, question, chosen, page)
            expected[step, question] = {methods[place] for place in chosen}
    labels = dict(zip(METHODS, ("base", "only PAIntA", "only RASG", "RASG & PAIntA"), strict=True))
    last = read_answers(served.study, served.votes()).last
    assert len(last) == 8 * 2 * 4
    for (step, question), methods_chosen in expected.items():
        lines = last[(last["page"] == step) & (last["question"] == question)]
        assert set(lines[lines["chosen"]]["method"]) == {labels[name] for name in methods_chosen}


def test_without_javascript_the_form_stores_both_answers(served: Served) -> None:
    one = served.started()
    only_one = one.form(1, prompt=["1", "2"])
    assert only_one.status_code == 400
    assert "both questions" in only_one.text
    # What was chosen is kept.
    assert only_one.text.count(" checked") == 2
    both = one.form(1, prompt=["1"], quality=["none"])
    assert both.headers["location"] == "/step/2"
    assert one.form(1, prompt=["1"], quality=["none"]).status_code == 303
    order = served.votes().showings(0)[0].order
    votes = served.votes()
    assert votes.answers(0) == {(0, "prompt"): (order[1],), (0, "quality"): ()}
    # An unchanged form adds nothing.
    assert len(votes.history()) == 3
    # "None" together with a result is no answer.
    one.form(1, prompt=["none", "2"], quality=["0"])
    assert votes.answers(0)[0, "prompt"] == (order[1],)


def test_a_page_belongs_to_the_participant_who_was_shown_it(served: Served) -> None:
    one, two = served.started(0), served.started(1)
    page = one.page(1).text
    # In one browser somebody else has started meanwhile: the same cookie, another session.
    one.client.cookies = two.client.cookies
    assert one.vote(1, "prompt", [0], page).status_code == 403
    fields = {"page": page_name(page), "prompt": ["0"], "quality": ["0"]}
    assert one.client.post("/step/1", data=fields).status_code == 403
    assert served.votes().history() == []
    # Nor does the name of one page fit another one.
    assert two.vote(2, "prompt", [0], two.page(1).text).status_code == 403
    assert two.vote(1, "prompt", [0], two.page(1).text).status_code == 200


def test_the_last_answer_counts_and_the_others_are_kept(served: Served) -> None:
    one = served.started()
    page = one.page(1).text
    for places in ([0], [0, 3], [3], [], [2]):
        assert one.vote(1, "prompt", places, page).status_code == 200
    order = served.votes().showings(0)[0].order
    assert served.votes().answers(0) == {(0, "prompt"): (order[2],)}
    history = [vote.chosen for vote in served.votes().history()]
    assert history == [
        tuple(sorted(order[i] for i in places)) for places in ([0], [0, 3], [3], [], [2])
    ]
    one.vote(1, "prompt", None, page)
    assert served.votes().answers(0) == {}
    assert len(served.votes().history()) == 6


def test_an_answer_that_is_sent_twice_or_overtaken_changes_nothing(served: Served) -> None:
    one = served.started()
    page = one.page(1).text
    one.number = 10
    assert one.vote(1, "prompt", [1], page).status_code == 200
    for number in (10, 3):
        one.number = number
        assert one.vote(1, "prompt", [2], page).status_code == 200
    order = served.votes().showings(0)[0].order
    assert [vote.chosen for vote in served.votes().history()] == [(order[1],)]


def test_two_tabs_of_one_participant(served: Served) -> None:
    one = served.started()
    left, right = one.page(1).text, one.page(1).text
    one.vote(1, "prompt", [0], left)
    one.vote(1, "prompt", [1], right)
    one.vote(1, "quality", [3], left)
    order = served.votes().showings(0)[0].order
    assert served.votes().answers(0) == {
        (0, "prompt"): (order[1],),
        (0, "quality"): (order[3],),
    }
    # A tab that is behind sends its page's answer: it is the last one, so it counts.
    one.page(2)
    one.vote(1, "prompt", [2, 3], left)
    assert served.votes().answers(0)[0, "prompt"] == tuple(sorted((order[2], order[3])))


def test_participants_do_not_see_or_change_each_other(served: Served) -> None:
    one, two = served.started(0), served.started(1)
    one.vote(1, "prompt", [0], one.page(1).text)
    assert " checked" not in two.page(1).text
    two.vote(1, "prompt", [1], two.page(1).text)
    votes = served.votes()
    assert votes.answers(0) == {(0, "prompt"): (votes.showings(0)[0].order[0],)}
    assert votes.answers(1) == {(0, "prompt"): (votes.showings(1)[0].order[1],)}


def test_twelve_threads_at_once_lose_nothing(make_study: Callable[..., StudyFolder]) -> None:
    folder = make_study(participants=12)
    votes = Votes(folder, read_study(folder))

    def answer(participant: int) -> None:
        votes.join(votes.study.codes[participant])
        for step in range(8):
            for question in QUESTIONS:
                for number in range(1, 4):
                    votes.vote(participant, step, question, [number % 4], f"{step:016x}", number)

    threads = [threading.Thread(target=answer, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(votes.history()) == 12 * 8 * 2 * 3
    assert all(len(votes.answers(participant)) == 16 for participant in range(12))


def test_leaving_ends_the_session_of_this_browser(served: Served) -> None:
    one = served.started()
    assert one.client.post("/leave").headers["location"] == "/"
    assert one.page(1).status_code == 303
    assert "Your code" in one.client.get("/").text


def test_the_database_is_in_wal_mode_and_safe(served: Served) -> None:
    served.started()
    with sqlite3.connect(served.folder.votes) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert served.votes()._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_the_recorded_order_is_shown_even_if_the_code_would_now_draw_another(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = served.started()
    before = [one.methods(one.page(1).text)]
    monkeypatch.setattr("profi.ui.study.votes.showings", lambda *_: pytest.fail("drawn again"))
    restarted = Served(served.folder, served.study, application(served.folder))
    again: Participant = restarted.participant()
    again.start()
    assert [again.methods(again.page(1).text)] == before
    assert isinstance(again.client, TestClient)


def test_a_full_disk_refuses_votes_and_loses_none(served: Served) -> None:
    votes = served.votes()
    votes.join(served.study.codes[0])
    votes.vote(0, 0, "prompt", [1], "0" * 16, 1)
    (pages,) = votes._db.execute("PRAGMA page_count").fetchone()
    votes._db.execute(f"PRAGMA max_page_count = {pages}")
    stored = 1
    with pytest.raises(sqlite3.OperationalError, match="full"):  # noqa: PT012
        for number in range(2, 5000):
            votes.vote(0, 0, "prompt", [1], "0" * 16, number)
            stored += 1
    assert len(votes.history()) == stored
    votes._db.execute("PRAGMA max_page_count = 1000000")
    votes.vote(0, 0, "prompt", [2], "0" * 16, 5000)
    assert len(served.votes().history()) == stored + 1


def test_a_fault_of_the_server_is_a_sentence_that_the_script_tries_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = served.started()
    page = one.page(1).text
    quiet = TestClient(served.app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    quiet.cookies = one.client.cookies

    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Votes, "vote", broken)
        answer = Participant(quiet, one.code).vote(1, "prompt", [0], page)
    assert answer.status_code == 500
    assert answer.json() == {"error": "Something went wrong: please try again."}
    assert one.vote(1, "prompt", [0], page).status_code == 200


def test_more_participants_change_nothing_for_the_first(served: Served) -> None:
    one = served.started()
    first = one.page(1).text
    one.vote(1, "prompt", [0], first)
    root = served.folder.root
    more = ["study", "more", str(root), "--participants"]
    shown = CliRunner().invoke(command, [*more, "2"]).output
    study = read_study(served.folder)
    old, added = study.codes[:3], study.codes[3:]
    assert old == served.study.codes
    assert len(set(study.codes)) == 5
    assert served.folder.codes.read_text().split() == list(study.codes)
    assert shown.split()[:2] == list(added)
    # The server, started again: the first participant's browser goes on, a new one begins.
    again = Served(served.folder, study, application(served.folder))
    browser = again.participant()
    browser.client.cookies = one.client.cookies
    page = browser.page(1)
    assert "Page 1 of 8" in page.text
    assert page.text.count(" checked") == 1
    assert "Page 1 of 8" in again.started(4).page(1).text
    with pytest.raises(UserError, match="--participants 996: choose 1 to 995"):
        CliRunner().invoke(command, [*more, "996"], catch_exceptions=False)
