"""Which choices the records of two runs tell apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from profi.harness.run_folder import open_run
from profi.harness.runs import Command, runs_of
from profi.settings import OURS, PAPER, Config, Evaluation, Reading
from profi.store.scores import scores_folder_name, write_scores
from profi.types import RunSpec, Score


def painted(out: Path, reading: Reading, evaluation: Evaluation = OURS, code: str = "a") -> Path:
    """A run's records as painting leaves them, and scores."""
    config = Config(reading=reading, evaluation=evaluation)
    (run,) = runs_of(Command(config, "line", "text"))
    method = {**(run.method.identity or {}), "code": code}
    pixels = {**run.pixels, "method": method, "code": code, "manifest": "m", "images": "i"}
    folder = open_run(out, RunSpec(pixels, {}), run.settings, [], "a: 1\n", "line")
    for metric in ("clip_score", "aesthetic", "accuracy"):
        scores = folder.scores / scores_folder_name(metric, {"x": 1})
        write_scores(scores, 0, [Score("a", 0, metric, 1.0)], "x")
        (scores / "_identity.json").write_text(json.dumps({"x": 1}))
    return folder.root


def test_what_was_chosen_is_told_also_where_it_is_the_usual(
    load_script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    script = load_script("readings_effect")
    usual = painted(tmp_path, PAPER)
    eta = painted(tmp_path, replace(PAPER, eta=0.25))
    own = painted(tmp_path, PAPER, replace(OURS, bytes="truncated"))
    assert script.changes(usual, eta) == "reading.eta=0.25"
    assert script.changes(eta, usual) == "reading.eta=0.15"
    assert script.changes(usual, own) == "evaluation.bytes=truncated"
    assert script.changes(own, usual) == "evaluation.bytes=rounded"
    # Other code is no choice.
    assert script.changes(usual, painted(tmp_path, PAPER, code="b")) == "nothing"
