"""docs/extending.md: its code as a plugin, through the command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
SMALL = ["data.limit=3", "sampling.num_inference_steps=2", "model.device=cpu"]


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's code as my_plugin.py."""
    page = (REPOSITORY / "docs" / "extending.md").read_text("utf-8")
    folder = tmp_path_factory.mktemp("plugin")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (folder / "my_plugin.py").write_text("\n\n".join(blocks), "utf-8")
    return folder


def run(plugin: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "run.py"), "plugins=[my_plugin]", *arguments]
    env = {**os.environ, "PYTHONPATH": f"{plugin}{os.pathsep}{REPOSITORY}"}
    return subprocess.run(command, cwd=plugin, env=env, capture_output=True, text=True, check=False)


def table(out: Path) -> str:
    (path,) = out.glob("reports/*/table.md")
    return path.read_text("utf-8")


def test_a_method_and_a_metric_are_rows_and_columns_with_their_labels(plugin: Path) -> None:
    chosen = ["ablation=sharp_noise", "own.sharp_noise.eta=0.2", "out=method"]
    done = run(plugin, *SMALL, *chosen, "metric.metrics=[known_region_psnr,colour_change]")
    assert done.returncode == 0, done.stderr
    assert "sharp noise" in table(plugin / "method")
    assert "Colour change" in table(plugin / "method")
    (record,) = (plugin / "method").glob("*/run.json")
    method = json.loads(record.read_text())["pixels"]["method"]
    assert method["name"] == "sharp_noise"
    assert method["sharp_noise"] == {"eta": 0.2}
    scores = pd.read_parquet(next((plugin / "method").glob("reports/*/scores.parquet")))
    values = scores[scores["metric"] == "colour_change"]["value"]
    assert (values > 0).all()
    assert len(values) == 3


def test_a_row_paints_the_mean_colour_and_does_not_know_the_paper_s_methods(plugin: Path) -> None:
    chosen = ["model.inpainter=mean_colour", "model.id=mean-colour", "metric.metrics=[clip_score]"]
    done = run(plugin, *SMALL, *chosen, "ablation=base", "out=row")
    assert done.returncode == 0, done.stderr
    refused = run(plugin, *SMALL, *chosen, "ablation=profi", "out=row")
    assert refused.returncode == 2
    assert "no ablation profi" in refused.stderr


def test_a_data_set_is_painted(plugin: Path) -> None:
    root = plugin / "set"
    (root / "images").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "images" / "a.png")
    row = {"image": "images/a.png", "caption": "bus", "mask": [64 * 20, 64 * 30]}
    (root / "mapping_file.json").write_text(json.dumps({"first": row}))
    chosen = ["data.source=mapping_file", "data.root=set", "data.annotations=", "data.name=mine"]
    small = [
        "sampling.num_inference_steps=2",
        "metric.metrics=[known_region_psnr]",
        "ablation=base",
    ]
    done = run(plugin, *small, *chosen, "out=data")
    assert done.returncode == 0, done.stderr
    (manifest,) = (plugin / "data").glob("*/manifest.parquet")
    assert pd.read_parquet(manifest)["triplet_id"].tolist() == ["first"]


def test_the_names_are_in_the_help_and_mistakes_in_them_are_one_line(plugin: Path) -> None:
    shown = run(plugin, "--help").stdout
    for name in ("sharp_noise", "mean_colour", "colour_change", "mapping_file"):
        assert name in shown
    for wrong, message in (
        (["ablation=sharp_noise", "own.sharp_noise.eta=-1"], "own.sharp_noise.eta=-1"),
        (["ablation=sharp_noise", "own.sharp_noise.etta=1"], "etta"),
        (["own.nothing.x=1"], "own.nothing"),
        (["plugins=[no_such_plugin]"], "no_such_plugin"),
    ):
        done = run(plugin, *wrong)
        assert done.returncode == 2
        (line,) = [text for text in done.stderr.splitlines() if text.startswith("error")]
        assert message in line
        assert "Traceback" not in done.stderr


def test_a_figure_shows_the_plugin_s_own_method(plugin: Path) -> None:
    chosen = ["figure=sharp", "metric.metrics=[colour_change]", "out=figure"]
    done = run(plugin, *SMALL, "stage=figure", *chosen)
    assert done.returncode == 0, done.stderr
    record = json.loads((plugin / "figure" / "figures" / "figure-sharp.json").read_text())
    assert len(record["chosen"]) == 3
    assert record["rule"].startswith("All triplets. Drawn in the order of")
    assert "sharp_noise" in record["facts"]["runs"]
