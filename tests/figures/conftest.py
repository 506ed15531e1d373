"""A folder of small figures, and files of votes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from small_figures import Studio


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio(tmp_path_factory.mktemp("figures"))


@pytest.fixture(scope="session")
def votes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[Sequence[object]]], Path]:
    """`votes(rows)`: a file of votes."""

    def write(rows: Sequence[Sequence[object]]) -> Path:
        path = tmp_path_factory.mktemp("votes") / "votes.csv"
        lines = [("participant", "triplet", "question", "method", "chosen"), *rows]
        path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
        return path

    return write
