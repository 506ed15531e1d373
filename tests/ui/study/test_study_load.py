"""A dozen participants at once against a real server, also one that is killed."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from study_runs import METHODS, Participant

from profi.ui.study.folder import QUESTIONS, StudyFolder, read_study
from profi.ui.study.votes import Votes

pytestmark = pytest.mark.ui

COMMAND = "from profi.cli.main import main; main()"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def patient(call: Callable[[], httpx.Response]) -> httpx.Response:
    """The answer, as the page's script gets it: tried again while there is no server."""
    end = time.monotonic() + 120
    while True:
        try:
            return call()
        except httpx.TransportError:
            assert time.monotonic() < end
            time.sleep(0.1)


def take_part(
    one: Participant, seed: int, steps: int, seconds: list[float]
) -> dict[tuple[int, str], list[str]]:
    """Answer all pages; the methods of the last answers that the server acknowledged.

    `seconds` gets how long every page took, with its pictures.
    """
    rng = np.random.default_rng(seed)
    said = {}
    patient(one.start)
    for step in range(1, steps + 1):
        begun = time.perf_counter()
        page = patient(lambda step=step: one.page(step)).text
        methods = patient_methods(one, page)
        seconds.append(time.perf_counter() - begun)
        for question in QUESTIONS:
            for _ in range(2):
                places = np.flatnonzero(rng.random(len(METHODS)) < 0.4).tolist()
                # The same number again, as the script sends it after a lost connection.
                one.number += 1
                number = one.number

                def send(
                    step: int = step,
                    question: str = question,
                    places: list[int] = places,
                    page: str = page,
                    number: int = number,
                ) -> httpx.Response:
                    one.number = number - 1
                    return one.vote(step, question, places, page)

                answer = patient(send)
                assert answer.json() == {"saved": True}
                said[step - 1, question] = sorted(methods[place] for place in places)
    return said


def patient_methods(one: Participant, page: str) -> list[str]:
    found: list[list[str]] = []

    def read() -> httpx.Response:
        found.append(one.methods(page))
        return httpx.Response(200)

    patient(read)
    return found[-1]


def together(
    folder: StudyFolder, url: str, participant: Callable[[str, str], Participant]
) -> tuple[list[dict[tuple[int, str], list[str]]], list[float], list[threading.Thread]]:
    """All participants start, each in a thread; what they said, and the seconds of the pages."""
    study = read_study(folder)
    said: list[dict[tuple[int, str], list[str]]] = [{} for _ in study.codes]
    seconds: list[float] = []

    def run(i: int) -> None:
        said[i] = take_part(participant(url, study.codes[i]), i, study.steps, seconds)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(study.codes))]
    for thread in threads:
        thread.start()
    return said, seconds, threads


def check_nothing_is_lost(
    folder: StudyFolder, said: list[dict[tuple[int, str], list[str]]]
) -> None:
    study = read_study(folder)
    votes = Votes(folder, study)
    for participant, own in enumerate(said):
        assert len(own) == study.steps * len(QUESTIONS)
        stored = {
            key: sorted(METHODS[i] for i in chosen)
            for key, chosen in votes.answers(participant).items()
        }
        assert stored == own
    # Two clicks per question, each of them once.
    assert len(votes.history()) == len(said) * study.steps * len(QUESTIONS) * 2


def test_twelve_participants_with_twenty_triplets_lose_no_vote(
    make_study: Callable[..., StudyFolder],
    serve: Callable[..., Any],
    participant: Callable[[str, str], Participant],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    folder = make_study(triplets=20, participants=12, repeats=2)
    with serve(tmp_path, "study", "serve", str(folder.root)) as server:
        said, seconds, threads = together(folder, server.url, participant)
        for thread in threads:
            thread.join()
    check_nothing_is_lost(folder, said)
    assert len(seconds) == 12 * 22
    median, late = np.quantile(seconds, [0.5, 0.95])
    record_property("page_seconds", f"median {median:.3f}, 95 % {late:.3f}")


def test_kill_9_in_the_middle_loses_nothing(
    make_study: Callable[..., StudyFolder],
    serve: Callable[..., Any],
    participant: Callable[[str, str], Participant],
    tmp_path: Path,
) -> None:
    folder = make_study(triplets=12, participants=4, repeats=1)
    arguments = ("study", "serve", str(folder.root))
    with serve(tmp_path, *arguments) as server:
        port = int(server.url.rpartition(":")[2])
        said, seconds, threads = together(folder, server.url, participant)
        while len(seconds) < 8:
            time.sleep(0.02)
        server.kill()
        before = len(Votes(folder, read_study(folder)).history())
        assert 0 < before < 4 * 13 * 2 * 2
    with serve(tmp_path, *arguments, port=port):
        for thread in threads:
            thread.join()
    check_nothing_is_lost(folder, said)


@pytest.mark.parametrize("host", ["localhost", "::1"])
def test_other_names_of_this_machine_and_an_orderly_end(
    make_study: Callable[..., StudyFolder], host: str
) -> None:
    folder = make_study()
    arguments = ("study", "serve", str(folder.root), "--host", host)
    port = free_port()
    name = f"[{host}]" if ":" in host else host
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments, "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"study at http://{name}:{port}/\n"
        answer = patient(lambda: httpx.get(f"http://{name}:{port}/", trust_env=False))
        assert answer.status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == (
            f"stopped; count the votes with: profi study report {folder.root}\n"
        )
    assert process.returncode == 0
