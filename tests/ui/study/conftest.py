"""Studies of runs that tests can tell apart, in this process or served by another."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from study_runs import Participant, Served, paint_runs

from profi.harness.run_folder import RunFolder
from profi.ui.study.create import Wishes, create
from profi.ui.study.folder import StudyFolder, read_study
from profi.ui.study.server import application

USUAL = Wishes(triplets=6, participants=3, repeats=2)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunFolder]:
    return paint_runs(tmp_path_factory.mktemp("painted"))


@pytest.fixture(scope="session")
def usual(runs: list[RunFolder], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of `make_study` without wishes."""
    root = tmp_path_factory.mktemp("usual") / "study"
    create(root, [str(run.root) for run in runs], USUAL)
    return root


@pytest.fixture
def make_study(runs: list[RunFolder], usual: Path, tmp_path: Path) -> Callable[..., StudyFolder]:
    """`make_study(triplets=3, repeats=1, ...)`: a study of all four methods."""

    def make(name: str = "study", **wishes: object) -> StudyFolder:
        root = tmp_path / name
        if wishes:
            create(root, [str(run.root) for run in runs], replace(USUAL, **wishes))  # type: ignore[arg-type]
        else:
            shutil.copytree(usual, root)
        return StudyFolder(root)

    return make


@pytest.fixture
def served(make_study: Callable[..., StudyFolder]) -> Served:
    folder = make_study()
    return Served(folder, read_study(folder), application(folder))


@pytest.fixture
def participant() -> Iterator[Callable[[str, str], Participant]]:
    """`participant(url, code)`: a client of a real server."""
    clients: list[httpx.Client] = []

    def make(url: str, code: str) -> Participant:
        clients.append(httpx.Client(base_url=url, timeout=60, trust_env=False))
        return Participant(clients[-1], code)

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def folder(make_study: Callable[..., StudyFolder]) -> StudyFolder:
    return make_study()


@pytest.fixture
def url(folder: StudyFolder, serve: Callable[..., Any], tmp_path: Path) -> Iterator[str]:
    with serve(tmp_path, "study", "serve", str(folder.root)) as server:
        yield server.url
