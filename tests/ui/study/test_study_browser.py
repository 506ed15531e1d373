"""Whole studies in a real browser, as participants take them."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from study_clicks import (
    LABELS,
    PHONE,
    answer_page,
    choose,
    enter,
    methods_shown,
    number,
    stored,
)
from study_runs import METHODS, SECRETS

from profi.ui.study.folder import QUESTIONS, StudyFolder, read_study
from profi.ui.study.study_report import write_report
from profi.ui.study.votes import Votes

pytestmark = pytest.mark.ui


def test_two_participants_at_once_and_one_goes_on_later(
    folder: StudyFolder, url: str, person: Callable[..., Any], browser: Any
) -> None:
    codes = read_study(folder).codes
    clicked: list[dict[tuple[int, str], set[str]]] = [{}, {}]
    with person() as one:
        context = browser.new_context(viewport=PHONE)
        two = context.new_page()
        enter(one, url, codes[0])
        enter(two, url, codes[1])
        for _ in range(3):
            clicked[0] |= answer_page(one, 1)
            clicked[1] |= answer_page(two, 2)
        # The second closes the browser after a click, without "Next".
        choose(two, "prompt", ["0"])
        two.locator("#saved", has_text="Saved").wait_for()
        cookies = context.storage_state()
        context.close()
        for _ in range(5):
            clicked[0] |= answer_page(one, 1)
        assert one.get_by_text("All 8 pages are answered").is_visible()
    # The cookie is still there: the study goes on by itself, where it stopped.
    context = browser.new_context(viewport=PHONE, storage_state=cookies)
    two = context.new_page()
    two.goto(url)
    assert number(two) == 4
    assert two.locator("form input:checked").count() == 1
    assert two.locator("input[name=prompt][value='0']").is_checked()
    two.locator("input[name=prompt][value='0']").uncheck()
    for _ in range(2):
        clicked[1] |= answer_page(two, 2)
    context.close()
    # Another machine: the code leads to the same place.
    with person() as elsewhere:
        enter(elsewhere, url, codes[1])
        assert number(elsewhere) == 6
        for _ in range(3):
            clicked[1] |= answer_page(elsewhere, 2)
        assert elsewhere.url.endswith("/done")
    assert [stored(folder, 1), stored(folder, 2)] == clicked
    # The report counts the same clicks.
    write_report(folder.root, folder.root / "report", 100, 0)
    totals = pd.read_csv(folder.root / "report" / "totals.csv")
    study, votes = read_study(folder), Votes(folder, read_study(folder))
    for question, name in QUESTIONS.items():
        for method, label in LABELS.items():
            count = sum(
                method in chosen
                for participant, own in enumerate(clicked)
                for (step, asked), chosen in own.items()
                if asked == question and not votes.showings(participant)[step - 1].repeat
            )
            line = totals[(totals["question"] == name) & (totals["method"] == label)]
            assert line["votes"].item() == count
    assert len(study.triplets) == 6


class Tap(socketserver.ThreadingTCPServer):
    """Passes everything on to a server, and keeps what comes back, byte for byte."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.port, self.received = port, bytearray()


class Passing(socketserver.BaseRequestHandler):
    server: Tap

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.port)) as beyond:
            threading.Thread(target=self.pass_on, args=(beyond,), daemon=True).start()
            while data := beyond.recv(1 << 16):
                self.server.received += data
                self.request.sendall(data)

    def pass_on(self, beyond: socket.socket) -> None:
        with suppress(OSError):
            while data := self.request.recv(1 << 16):
                beyond.sendall(data)
            beyond.shutdown(socket.SHUT_WR)


def test_nothing_that_the_browser_receives_names_a_method(
    folder: StudyFolder, url: str, person: Callable[..., Any]
) -> None:
    study = read_study(folder)
    with Tap(int(url.rpartition(":")[2])) as tap, person() as page:
        threading.Thread(target=tap.serve_forever, daemon=True).start()
        enter(page, f"http://127.0.0.1:{tap.server_address[1]}", study.codes[0])
        while "/done" not in page.url:
            answer_page(page, 1)
        page.goto(f"{url}/nothing")
        kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
        kept += str(page.context.cookies())
        tap.shutdown()
    text = tap.received.decode("latin-1")
    # Eight pages, each with five pictures, two answers and more; the picture of a repeat is kept.
    assert text.count("HTTP/1.1 ") >= 8 + 6 * 5 + 2 * 8
    for kind in ("text/html", "text/css", "text/javascript", "image/png", "application/json"):
        assert f"content-type: {kind}" in text
    assert all(f"/picture/{name}" in text for name in study.picture_names())
    # A directive of the Content-Security-Policy has the name of a method in it.
    shown = (text + kept).lower().replace("base-uri", "")
    words = [word.lower() for word in (*SECRETS, *(method.run for method in study.methods))]
    assert [word for word in words if word in shown] == []


def test_every_click_is_stored_at_once(
    folder: StudyFolder, url: str, person: Callable[..., Any]
) -> None:
    study = read_study(folder)
    with person() as page:
        enter(page, url, study.codes[0])
        methods = methods_shown(page)
        saved = page.locator("#saved", has_text="Saved")
        expected = []
        for value, after in (("1", {1}), ("2", {1, 2}), ("1", {2}), ("none", set()), ("3", {3})):
            page.locator(f"input[name=prompt][value='{value}']").click()
            saved.wait_for()
            assert stored(folder, 1) == {(1, "prompt"): {methods[place] for place in after}}
            expected.append(after)
        # "None" and the results exclude each other on the page, too.
        checked = page.locator("form input:checked").evaluate_all(
            "all => all.map(one => one.value)"
        )
        assert checked == ["3"]
        page.locator("input[name=prompt][value='3']").click()
        saved.wait_for()
        assert stored(folder, 1) == {}
    assert len(Votes(folder, study).history()) == len(expected) + 1


def test_two_tabs_of_one_participant(
    folder: StudyFolder, url: str, person: Callable[..., Any]
) -> None:
    with person() as left:
        enter(left, url, read_study(folder).codes[0])
        right = left.context.new_page()
        right.goto(f"{url}/step/1")
        methods = methods_shown(left)
        assert methods == methods_shown(right)
        choose(left, "prompt", ["0"])
        left.locator("#saved", has_text="Saved").wait_for()
        # This tab does not know of the other's click: what it shows is the last answer.
        choose(right, "prompt", ["1"])
        right.locator("#saved", has_text="Saved").wait_for()
        assert stored(folder, 1) == {(1, "prompt"): {methods[1]}}
        # Whoever returns to a tab sees the last answer there, too.
        left.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        left.locator("input[name=prompt][value='1']:checked").wait_for()
        assert not left.locator("input[name=prompt][value='0']").is_checked()
        choose(left, "prompt", ["2"])
        left.locator("#saved", has_text="Saved").wait_for()
        assert stored(folder, 1) == {(1, "prompt"): {methods[1], methods[2]}}


def test_next_asks_for_both_answers(
    folder: StudyFolder, url: str, person: Callable[..., Any]
) -> None:
    with person() as page:
        enter(page, url, read_study(folder).codes[0])
        problem = page.locator("#problem")
        page.locator("#next").click()
        assert "follow the text" in problem.inner_text()
        choose(page, "prompt", ["0"])
        page.locator("#next").click()
        assert "best overall quality" in problem.inner_text()
        assert page.evaluate("document.activeElement.name") == "quality"
        choose(page, "quality", ["none"])
        assert problem.inner_text() == ""
        page.locator("#next").click()
        page.wait_for_url("**/step/2")
        page.locator("#back").click()
        page.wait_for_url("**/step/1")
        assert page.locator("form input:checked").count() == 2
        page.go_back()
        page.wait_for_url("**/step/2")
        # The address of a later page leads to the first open one.
        page.goto(f"{url}/step/7")
        assert number(page) == 2


def test_a_click_survives_the_servers_death(
    folder: StudyFolder, serve: Callable[..., Any], tmp_path: Path, person: Callable[..., Any]
) -> None:
    arguments = ("study", "serve", str(folder.root))
    with person() as page:
        with serve(tmp_path, *arguments) as server:
            port = int(server.url.rpartition(":")[2])
            enter(page, server.url, read_study(folder).codes[0])
            methods = methods_shown(page)
            choose(page, "prompt", ["1"])
            page.locator("#saved", has_text="Saved").wait_for()
            server.kill()
            choose(page, "quality", ["2", "3"])
            page.locator("#saved", has_text="Not saved yet").wait_for()
            page.locator("#next").click()
        with serve(tmp_path, *arguments, port=port):
            page.wait_for_url("**/step/2")
            assert stored(folder, 1) == {
                (1, "prompt"): {methods[1]},
                (1, "quality"): {methods[2], methods[3]},
            }


def test_without_javascript(folder: StudyFolder, url: str, person: Callable[..., Any]) -> None:
    with person(java_script_enabled=False) as page:
        enter(page, url, read_study(folder).codes[0])
        page.locator("input[name=prompt][value='2']").check()
        page.locator("#next").click()
        assert "for both questions" in page.get_by_role("alert").inner_text()
        page.locator("input[name=quality][value=none]").check()
        page.locator("#next").click()
        page.wait_for_url("**/step/2")
    order = Votes(folder, read_study(folder)).showings(0)[0].order
    assert stored(folder, 1) == {(1, "prompt"): {METHODS[order[2]]}, (1, "quality"): set()}
