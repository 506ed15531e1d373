"""The dashboard's definition, as far as it needs no server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SCRIPT = REPOSITORY / "scripts" / "wandb_report.py"

wr = pytest.importorskip("wandb_workspaces.reports.v2")


@pytest.fixture
def report(load_script):
    build = load_script("wandb_report").build
    return build("someone", "profi", "table2 (released)", ["clip_score", "accuracy"])


def panels(report: object, kind: type) -> list:
    grids = [block for block in report.blocks if isinstance(block, wr.PanelGrid)]
    return [panel for grid in grids for panel in grid.panels if isinstance(panel, kind)]


def test_every_grid_shows_the_group_s_runs_by_ablation(report):
    grids = [block for block in report.blocks if isinstance(block, wr.PanelGrid)]
    assert len(grids) == 4
    for grid in grids:
        (runs,) = grid.runsets
        assert (runs.entity, runs.project) == ("someone", "profi")
        assert "table2 (released)" in str(runs.filters)
        assert runs.groupby == ["config.ablation"]
        assert runs.pinned_columns[:2] == ["summary:clip_score", "summary:accuracy"]


def test_a_bar_plot_per_metric_over_the_seeds(report):
    bars = panels(report, wr.BarPlot)
    assert [bar.title for bar in bars] == ["CLIP score", "Accuracy, %"]
    assert [bar.metrics[0].name for bar in bars] == ["clip_score", "accuracy"]
    assert {(bar.groupby.name, bar.groupby_aggfunc) for bar in bars} == {("ablation", "mean")}
    places = [(bar.layout.x, bar.layout.y) for bar in bars]
    assert len(set(places)) == len(places)


def test_pictures_progress_and_settings_are_there(report):
    assert len(panels(report, wr.WeavePanelSummaryTable)) == 1
    assert [plot.x for plot in panels(report, wr.LinePlot)] == ["paint/images", "score/images"]
    assert len(panels(report, wr.RunComparer)) == 1


@pytest.mark.usefixtures("wandb_home")
def test_the_script_prints_without_a_server_and_refuses_to_save_without_a_login():
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), "--group", "g", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, check=False, timeout=120
        )

    dry = call("--entity", "e", "--dry-run")
    assert dry.returncode == 0
    assert "clip_score" in dry.stdout
    refused = call()
    assert refused.returncode == 1
    assert "wandb login" in refused.stderr
    assert "Traceback" not in refused.stderr
