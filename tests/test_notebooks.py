from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import ipywidgets
import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

REPOSITORY = Path(__file__).parents[1]
FOLDER = REPOSITORY / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
#: What runs in a few seconds on idle cores; the others wait for `make test-slow`.
QUICK = "5_your_own_photo"
LIMIT_S = 600


def by_name(path: Path) -> object:
    marks = () if path.stem == QUICK else pytest.mark.slow
    return pytest.param(path, id=path.stem, marks=marks)


def written() -> set[Path]:
    """The files of the repository that a notebook could have left behind."""
    found = set(REPOSITORY.glob("*"))
    for folder in ("notebooks", "results", "conf", "outputs"):
        found |= set((REPOSITORY / folder).rglob("*"))
    return {path for path in found if "__pycache__" not in path.parts}


def executed(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=LIMIT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
    ).execute()
    return notebook


def outputs(notebook: nbformat.NotebookNode) -> Iterator[nbformat.NotebookNode]:
    for cell in notebook.cells:
        yield from cell.get("outputs", ())


def test_there_are_five() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == ["1_", "2_", "3_", "4_", "5_"]


@pytest.mark.parametrize("path", map(by_name, NOTEBOOKS))
def test_it_runs_draws_and_leaves_nothing_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.delenv("PROFI_STATIC_NOTEBOOKS", raising=False)
    before = written()
    notebook = executed(path)
    assert written() == before
    figures = [out for out in outputs(notebook) if "image/png" in out.get("data", {})]
    widgets = [
        out
        for out in outputs(notebook)
        if "application/vnd.jupyter.widget-view+json" in out.get("data", {})
    ]
    sliders = sum(cell.source.count("slider(") for cell in notebook.cells)
    assert len(widgets) == sliders
    # A figure per cell that shows one (a slider draws its own inside of the widget).
    assert len(figures) >= sum("plt.show()" in cell.source for cell in notebook.cells)
    warnings = [out.text for out in outputs(notebook) if out.get("name") == "stderr"]
    assert warnings == []


def test_without_a_slider_its_figure_is_there(
    tmp_path: Path, world: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(world.STATIC, "1")
    drawn: list[float] = []
    assert world.slider(drawn.append, [1, 2, 3], "step", 2) is None
    assert drawn == [2]


def test_a_slider_draws_at_its_start_and_where_it_is_moved(
    world: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(world.STATIC, raising=False)
    drawn: list[float] = []
    control = world.slider(drawn.append, [0.1, 0.2, 0.5], "eta", 0.2)
    assert isinstance(control, ipywidgets.SelectionSlider)
    assert drawn == [0.2]
    control.value = 0.5
    assert drawn == [0.2, 0.5]


def test_an_outline_follows_the_pixels_of_its_mask(world: ModuleType) -> None:
    mask = np.zeros((4, 6), dtype=bool)
    mask[1:3, 2:5] = True
    figure, axes = plt.subplots()
    world.show_map(axes, np.zeros((4, 6)), mask=mask)
    points = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])
    plt.close(figure)
    # Pixel (row 1, column 2) has its upper left corner at (1.5, 0.5).
    np.testing.assert_allclose(points.min(axis=0), [1.5, 0.5], atol=0.13)
    np.testing.assert_allclose(points.max(axis=0), [4.5, 2.5], atol=0.13)


def test_the_examples_are_the_benchmarks_own(world: ModuleType) -> None:
    few, more = world.examples(2), world.examples(5)
    assert [one.triplet_id for one in few] == [one.triplet_id for one in more[:2]]
    for one in more:
        assert one.mask.shape == (one.image.height, one.image.width)
        assert one.mask.any()
        assert one.prompt


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_without_outputs(path: Path) -> None:
    stripped = [sys.executable, "-m", "nbstripout", "--keep-id", "--verify", str(path)]
    assert subprocess.run(stripped, capture_output=True, check=False).returncode == 0
    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.fixture(name="world")
def _world() -> Iterator[ModuleType]:
    """notebooks/embedded_world.py as a module."""
    backend = mpl.get_backend()
    plt.switch_backend("agg")
    spec = importlib.util.spec_from_file_location("embedded_world", FOLDER / "embedded_world.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks there for its own module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]
    plt.switch_backend(backend)
