"""The recorded tables are those of the recorded scores."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from profi.types import UserError

RESULTS = Path(__file__).parents[1] / "results"
RECORDED = sorted(path.parent for path in RESULTS.rglob("scores.parquet"))


@pytest.fixture
def script(load_script):
    return load_script("tables_of_scores")


@pytest.mark.parametrize("folder", RECORDED, ids=lambda path: str(path.relative_to(RESULTS)))
def test_recorded_tables_are_what_the_scores_give(script, tmp_path, capsys, monkeypatch, folder):
    shutil.copy(folder / "scores.parquet", tmp_path)
    monkeypatch.setattr(sys, "argv", ["tables_of_scores.py", str(tmp_path)])
    script.main()
    assert (tmp_path / "table.md").read_text() == (folder / "table.md").read_text()
    assert (folder / "table.md").read_text() in capsys.readouterr().out
    for name in ("table.csv", "differences.csv"):
        again, recorded = (pd.read_csv(path / name) for path in (tmp_path, folder))
        pd.testing.assert_frame_equal(again, recorded)


def test_a_folder_without_scores_is_named(script, tmp_path):
    with pytest.raises(UserError, match=r"scores\.parquet does not exist"):
        script.tables_of(tmp_path, with_paper=False)
