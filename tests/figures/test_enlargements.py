"""The figures of high resolution, at a quarter of the embedded world's size."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_figures import Studio
from test_figures import check_texts

from profi.figures.enlargements import cut, detail_of
from profi.figures.layout import FULL
from profi.figures.pool import Pool

SMALL = ["model.long_side=32", "data.limit=1", "figure.examples=1"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture of 128 pixels with fine stripes, as a data set of a user's own."""
    folder = tmp_path_factory.mktemp("scenes")
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    x, y = np.meshgrid(np.arange(128), np.arange(128))
    stripes = np.stack([90 + 60 * (x % 4 < 2), 120 + y // 2, 200 - x // 2], -1).astype(np.uint8)
    Image.fromarray(stripes).save(folder / "images" / "a.png")
    mask = np.zeros((128, 128), np.uint8)
    mask[40:90, 30:80] = 255
    Image.fromarray(mask).save(folder / "masks" / "a.png")
    (folder / "prompts.csv").write_text("image,mask,prompt\na.png,a.png,clock\n")
    return folder


def test_figure_13_shows_the_steps(studio: Studio, scenes: Path) -> None:
    drawing = studio.draw("13", *SMALL, f"data.root={scenes}")
    check_texts(drawing)
    assert drawing.figure.get_size_inches()[0] <= FULL + 1e-6
    assert drawing.numbers["painted at"] == "32x32"
    assert drawing.numbers["enlarged to"] == "128x128"
    shown = [axes.images[0].get_array() for axes in drawing.figure.axes]
    given, low, *steps, result = shown[: len(shown) // 2]
    assert low.shape == (32, 32, 3)
    # The last blend changes nothing far from the mask; the input's hole is grey.
    assert (given[:8] == result[:8]).all()
    assert (given[60, 50] == 127).all()
    assert len(steps) == 4
    assert all((one != two).any() for one, two in itertools.pairwise(steps))


def test_figure_14_compares_three_ways_to_enlarge_one_painting(
    studio: Studio, scenes: Path
) -> None:
    drawing = studio.draw("14", *SMALL, f"data.root={scenes}")
    check_texts(drawing)
    shown = [axes.images[0].get_array() for axes in drawing.figure.axes]
    given, *ways = shown[:4]
    assert len(ways) == 3
    for way in ways:
        assert (way[:8] == given[:8]).all()
    assert (ways[1] != ways[2]).any()
    psnr = [
        float(text.split(" dB")[0].rsplit(" ", 1)[1]) for text in list(drawing.numbers.values())[:3]
    ]
    # Eq. 16 keeps the known region better than the upscaler alone.
    assert psnr[2] > psnr[1]
    assert "high resolution" in studio.record("14")["numbers"]


def test_those_are_shown_whose_small_painting_has_the_object(
    studio: Studio, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [*SMALL, f"data.root={scenes}"]
    scores = {"found": 100.0, "not found": 0.0}
    rules = {}
    for name, value in scores.items():
        monkeypatch.setattr(Pool, "score", lambda *key, value=value: value)
        rules[name] = studio.draw("13", *settings).rule
    assert "Among the 1 small paintings those in which the detector finds" in rules["found"]
    assert "label (1)." in rules["found"]
    assert "All triplets of the settings. (The detector finds" in rules["not found"]
    unscored = studio.draw("13", *settings, "metric.metrics=[clip_score]").rule
    assert unscored.startswith("All triplets of the settings. Drawn")


def test_a_detail_lies_on_the_mask_s_edge() -> None:
    mask = np.zeros((60, 80), bool)
    for box in ((0, 20, 0, 30), (30, 59, 50, 79), (10, 50, 10, 70)):
        mask[:] = False
        mask[box[0] : box[1], box[2] : box[3]] = True
        x0, y0, x1, y1 = detail_of(mask)
        assert (x1 - x0, y1 - y0) == (20, 20)
        assert x0 >= 0
        assert y0 >= 0
        assert x1 <= 80
        assert y1 <= 60
        part = cut(mask[..., None], (x0, y0, x1, y1))
        assert part.any()
        assert not part.all()
    # Of a mask without an edge it is the middle.
    assert detail_of(np.ones((8, 8), bool))[2:] != (0, 0)
