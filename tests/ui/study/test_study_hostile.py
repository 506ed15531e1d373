"""What a study refuses and what it hides."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from study_runs import SECRETS, Served, page_name

from profi.types import UserError
from profi.ui.study.folder import QUESTIONS, StudyFolder, read_study, write_study
from profi.ui.study.server import application, serve


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
    vote = {
        "question": "prompt",
        "chosen": [0],
        "page": page_name(one.page(1).text),
        "number": 1,
    } | change
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
    good = {"question": "prompt", "chosen": [0], "page": "0" * 32, "number": 1}
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
    vote = {"question": "prompt", "chosen": [0], "page": page_name(one.page(1).text), "number": 1}
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


@pytest.mark.parametrize(("word", "missing"), [("serve", "uvicorn"), ("report", "choix")])
def test_a_missing_extra_is_a_sentence(served: Served, word: str, missing: str) -> None:
    code = (
        f"import sys; sys.modules['{missing}'] = None; "
        f"sys.argv = ['profi', 'study', '{word}', {str(served.folder.root)!r}]; "
        "from profi.cli.main import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {missing} is not installed: pip install")
    assert result.stderr.count("\n") == 1
