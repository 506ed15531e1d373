"""The pages and votes of a study, also for those who mean harm."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from study_runs import METHODS, SECRETS, Participant, Served

from profi.types import UserError
from profi.ui.study.answers import read_answers
from profi.ui.study.folder import QUESTIONS, StudyFolder, read_study, write_study
from profi.ui.study.server import application, serve
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
    only_one = one.client.post("/step/1", data={"prompt": ["1", "2"]})
    assert only_one.status_code == 400
    assert "both questions" in only_one.text
    # What was chosen is kept.
    assert only_one.text.count(" checked") == 2
    both = one.client.post("/step/1", data={"prompt": ["1"], "quality": ["none"]})
    assert both.headers["location"] == "/step/2"
    assert (
        one.client.post("/step/1", data={"prompt": ["1"], "quality": ["none"]}).status_code == 303
    )
    order = served.votes().showings(0)[0].order
    votes = served.votes()
    assert votes.answers(0) == {(0, "prompt"): (order[1],), (0, "quality"): ()}
    # An unchanged form adds nothing.
    assert len(votes.history()) == 3
    # "None" together with a result is no answer.
    one.client.post("/step/1", data={"prompt": ["none", "2"], "quality": ["0"]})
    assert votes.answers(0)[0, "prompt"] == (order[1],)


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


def test_no_one_takes_part_without_consent_and_code(served: Served) -> None:
    for data, status, text in (
        ({"code": served.study.codes[0]}, 400, "Please agree"),
        ({"code": "aaaa-aaaa", "consent": "yes"}, 403, "This code is not known"),
        ({"code": "", "consent": "yes"}, 403, "This code is not known"),
        ({"code": "ä\ud7ff" * 30, "consent": "yes"}, 403, "This code is not known"),
        ({}, 400, "Please agree"),
    ):
        answer = served.participant().client.post("/start", data=data)
        assert (answer.status_code, text in answer.text) == (status, True)
        assert "set-cookie" not in answer.headers
    assert served.votes().participants() == []
    typed = served.participant(code=" " + served.study.codes[0].upper().replace("-", " "))
    assert "Page 1 of 8" in typed.start().text


def test_forged_participants_get_and_change_nothing(served: Served) -> None:
    real = served.started()
    page = real.page(1).text
    picture = served.study.triplets[0].given
    name = next(iter(real.client.cookies.keys()))
    for token in (None, "", "0", "1", "forged", "x" * 3000, served.study.codes[0]):
        forged = served.participant()
        if token is not None:
            forged.client.cookies.set(name, token)
        assert forged.page(1).status_code == 303
        assert forged.vote(1, "prompt", [0], page).status_code == 403
        assert (
            forged.client.post("/step/1", data={"prompt": "0", "quality": "0"}).status_code == 303
        )
        assert forged.client.get(f"/picture/{picture}").status_code == 404
        assert forged.client.get("/done").headers["location"] == "/"
    assert served.votes().history() == []
    # The file of the votes does not give sessions away.
    token = real.client.cookies[name]
    raw = served.folder.votes.read_bytes() + Path(f"{served.folder.votes}-wal").read_bytes()
    assert token.encode() not in raw


@pytest.mark.parametrize(
    "change",
    [
        {"question": "beauty"},
        {"question": None},
        {"chosen": [4]},
        {"chosen": [-1]},
        {"chosen": [0, 0]},
        {"chosen": ["0"]},
        {"chosen": [True]},
        {"chosen": ["RASG & PAIntA"]},
        {"chosen": "0"},
        {"chosen": {"0": 1}},
        {"chosen": 0},
        {"chosen": [10**400]},
        {"page": "x"},
        {"page": "\ud800" * 16},
        {"page": 7},
        {"number": -1},
        {"number": 2**63},
        {"number": 1.5},
        {"number": True},
    ],
)
def test_votes_for_what_is_not_there_are_refused(served: Served, change: dict[str, object]) -> None:
    one = served.started()
    vote = {"question": "prompt", "chosen": [0], "page": "0" * 16, "number": 1} | change
    answer = one.client.post("/vote/1", content=json.dumps(vote))
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert served.votes().history() == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 8000, b"1" * 5000,
     b'{"question": "prompt"}'],
)  # fmt: skip
def test_bodies_that_are_no_answer_are_refused(served: Served, body: bytes) -> None:
    one = served.started()
    assert one.client.post("/vote/1", content=body).status_code == 400
    status = one.client.post("/step/1", content=body).status_code
    assert status == 400
    assert served.votes().history() == []


@pytest.mark.parametrize("step", ["0", "9", "-1", "1.0", "٣", "1" * 5000, "a", "%2e%2e"])
def test_steps_that_are_not_there(served: Served, step: str) -> None:
    one = served.started()
    good = {"question": "prompt", "chosen": [0], "page": "0" * 16, "number": 1}
    assert one.client.get(f"/step/{step}").status_code == 404
    assert one.client.post(f"/vote/{step}", json=good).status_code == 404
    assert one.client.post(f"/step/{step}", data={"prompt": "0", "quality": "0"}).status_code == 404
    assert served.votes().history() == []


@pytest.mark.parametrize(
    "name",
    ["../study.json", "..%2fstudy.json", "%2e%2e%2fvotes.sqlite", "..\\study.json", "/etc/passwd",
     "%00", "study.json", "", ".", "....//study.json", "study.js%00"],
)  # fmt: skip
def test_no_address_leads_out_of_the_pictures(served: Served, name: str) -> None:
    one = served.started()
    for folder in ("picture", "static"):
        answer = one.client.get(f"/{folder}/{name}")
        assert answer.status_code == 404
        assert b"methods" not in answer.content


def test_a_picture_that_is_gone_is_a_sentence(served: Served) -> None:
    one = served.started()
    name = served.study.triplets[0].given
    (served.folder.pictures / name).unlink()
    answer = one.client.get(f"/picture/{name}")
    assert (answer.status_code, "There is no such picture." in answer.text) == (404, True)


def test_huge_bodies_are_refused(served: Served) -> None:
    one = served.started()

    def chunks() -> object:
        for _ in range(1000):
            yield b"x" * 10_000

    for path in ("/vote/1", "/step/1", "/start", "/leave"):
        assert one.client.post(path, content=b"x" * 1_000_000).status_code == 413
        assert one.client.post(path, content=chunks()).status_code == 413
    fields = "&".join(f"a{i}=1" for i in range(500))
    assert one.client.post("/step/1", content=fields).status_code == 400


def test_other_sites_can_send_nothing(served: Served) -> None:
    one = served.started()
    vote = {"question": "prompt", "chosen": [0], "page": "0" * 16, "number": 1}
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1"},
    ):
        for path in ("/vote/1", "/start", "/step/1", "/leave"):
            assert one.client.post(path, json=vote, headers=headers).status_code == 403
    # Another name for this machine, as in an attack by DNS rebinding.
    assert one.client.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert served.votes().history() == []
    own = {"Origin": "http://127.0.0.1"}
    assert one.client.post("/vote/1", json=vote, headers=own).status_code == 200


def test_what_a_browser_receives_never_names_a_method(served: Served) -> None:
    one = served.started()
    words = [word.lower() for word in (*SECRETS, *(m.run for m in served.study.methods))]
    addresses = ["/", "/done", "/static/study.css", "/static/study.js", "/nothing", "/step/99"]
    addresses += [f"/step/{step}" for step in range(1, 9)]
    addresses += [f"/picture/{name}" for name in sorted(served.study.picture_names())]
    for step in range(1, 9):
        text = one.page(step).text
        for question in QUESTIONS:
            answer = one.vote(step, question, [0], text)
            assert not any(word in answer.text.lower() for word in words)
    for address in addresses:
        answer = one.client.get(address)
        # A directive of the Content-Security-Policy has the name of a method in it.
        head = f"{address} {answer.headers}".lower().replace("base-uri", "")
        body = answer.content.decode("latin-1").lower()
        assert [word for word in words if word in head or word in body] == []
        assert not {"etag", "last-modified", "server"} & {key.lower() for key in answer.headers}
        assert answer.headers["x-content-type-options"] == "nosniff"


def chunks_of(png: bytes) -> Iterator[str]:
    """The kinds of a PNG's chunks."""
    place = 8
    while place < len(png):
        yield png[place + 4 : place + 8].decode("ascii")
        place += 12 + int.from_bytes(png[place : place + 4], "big")


def test_all_pictures_of_a_page_look_alike_but_for_their_pixels(served: Served) -> None:
    one = served.started()
    heads = set()
    for triplet in served.study.triplets:
        for name in triplet.results:
            answer = one.client.get(f"/picture/{name}")
            headers = {k: v for k, v in answer.headers.items() if k != "content-length"}
            heads.add((str(sorted(headers.items())), tuple(chunks_of(answer.content))))
    assert [kinds for _, kinds in heads] == [("IHDR", "IDAT", "IEND")]


def test_a_password_is_asked_for(make_study: Callable[..., StudyFolder]) -> None:
    folder = make_study()
    served = Served(folder, read_study(folder), application(folder, "sesame", ("*",)))
    one = served.participant()
    assert 'name="password"' in one.client.get("/").text
    data = {"code": one.code, "consent": "yes"}
    for password in ({}, {"password": "Sesame"}, {"password": "ä"}):
        assert one.client.post("/start", data=data | password).status_code == 403
    assert served.votes().participants() == []
    good = one.client.post("/start", data=data | {"password": "sesame"}, follow_redirects=True)
    assert "Page 1 of 8" in good.text


def test_beyond_this_machine_only_with_a_password(make_study: Callable[..., StudyFolder]) -> None:
    folder = make_study()
    with pytest.raises(UserError, match="set --password or PROFI_STUDY_PASSWORD"):
        serve(folder, "0.0.0.0", 0, "", print)


def test_an_address_in_use_is_a_sentence(make_study: Callable[..., StudyFolder]) -> None:
    import socket

    folder = make_study()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port} cannot be used"):
            serve(folder, "127.0.0.1", port, "", print)


def test_leaving_ends_the_session_of_this_browser(served: Served) -> None:
    one = served.started()
    assert one.client.post("/leave").headers["location"] == "/"
    assert one.page(1).status_code == 303
    assert "Your code" in one.client.get("/").text


def test_votes_of_another_study_are_not_mixed_in(served: Served) -> None:
    served.started()
    other = served.study.__class__(**{**served.study.__dict__, "seed": 99})
    write_study(served.folder, other)
    with pytest.raises(UserError, match="answers of another study"):
        application(served.folder)


def test_a_damaged_database_is_a_sentence(make_study: Callable[..., StudyFolder]) -> None:
    folder = make_study()
    folder.votes.write_bytes(b"not a database" * 1000)
    with pytest.raises(UserError, match="cannot be used"):
        application(folder)


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
