"""The figures of high resolution, at a quarter of the embedded world's size."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_figures import Studio
from test_figures import check_texts

from profi.figures import enlargements
from profi.figures.drawing import Drawing, Pick
from profi.figures.enlargements import cut, detail_of
from profi.figures.layout import FULL
from profi.highres import Measures

SMALL = ["model.long_side=32", "data.limit=1", "figure.examples=1"]


def make_scenes(folder: Path, prompts: list[str], sizes: list[tuple[int, int]]) -> Path:
    """Pictures with fine stripes, as a data set of a user's own."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    lines = ["id,image,mask,prompt"]
    for i, (prompt, (width, height)) in enumerate(zip(prompts, sizes, strict=True)):
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        stripes = np.stack([90 + 60 * (x % 4 < 2), 120 + y // 2, 200 - x // 2], -1)
        Image.fromarray(stripes.astype(np.uint8)).save(folder / "images" / f"{i}.png")
        mask = np.zeros((height, width), np.uint8)
        mask[height // 3 : 2 * height // 3, width // 4 : 5 * width // 8] = 255
        Image.fromarray(mask).save(folder / "masks" / f"{i}.png")
        lines.append(f"t{i},{i}.png,{i}.png,{prompt}")
    (folder / "prompts.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture of 128 pixels."""
    return make_scenes(tmp_path_factory.mktemp("scenes") / "one", ["clock"], [(128, 128)])


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures; the detector does not know the third one's prompt."""
    prompts, sizes = ["clock", "bus", "red fish", "apple"], [(128, 128), (128, 64)] * 2
    return make_scenes(tmp_path_factory.mktemp("scenes") / "several", prompts, sizes)


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
    assert all("shipped:cpu/detector around the hole" in drawing.numbers[k] for k in WAYS_SHOWN)
    # Eq. 16 keeps the known region better than the upscaler alone.
    assert psnr[2] > psnr[1]
    assert "high resolution" in studio.record("14")["numbers"]


@pytest.mark.parametrize("name", ["20", "21"])
def test_figures_20_and_21_compare_the_upscaler_with_and_without_eq_16(
    studio: Studio, scenes: Path, name: str
) -> None:
    drawing = studio.draw(name, *SMALL, f"data.root={scenes}")
    check_texts(drawing)
    shown = [axes.images[0].get_array() for axes in drawing.figure.axes]
    assert len(shown) == 6
    assert (shown[1] != shown[2]).any()
    assert list(drawing.numbers)[:2] == ["upscaler alone", "with eq.\u00a016"]
    facts = studio.record(name)["facts"]
    assert facts["upscaler"].startswith("mini (weights ")
    assert f"root={scenes}" in facts["data"]


WAYS_SHOWN = ("bicubic", "upscaler alone", "with eq.\u00a016")


def ids(drawing: Drawing) -> list[str]:
    return [pick.triplet_id for pick in drawing.chosen]


def test_those_are_shown_whose_small_painting_has_the_object(
    studio: Studio, several: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["model.long_side=32", "data.limit=4", f"data.root={several}"]
    seen: list[int] = []
    verdicts: list[float] = []

    def verdict(detections: object, category: int, threshold: float) -> float:
        seen.append(category)
        return verdicts[len(seen) - 1]

    monkeypatch.setattr(enlargements, "label_found", verdict)
    drawn = studio.context("14", *settings)
    order = drawn.in_order([Pick(f"t{i}", 0) for i in range(4)], lambda pick: pick.triplet_id)
    known = [pick.triplet_id for pick in order if pick.triplet_id != "t2"]

    verdicts[:] = [0.0, 100.0, 0.0]
    drawing = studio.draw("14", *settings, "seeds=[0,1]")
    assert ids(drawing) == known[1:2]
    assert len(seen) == 3  # fewer than two are found: all are tried
    assert "4 triplets drawn were painted small; the detector knows 3 of their" in drawing.rule
    assert "finds 1 of these" in drawing.rule
    assert studio.record("14")["facts"]["seed"] == "0"

    # One is enough: what comes after it is not painted.
    seen.clear()
    verdicts[:] = [100.0]
    drawing = studio.draw("14", *settings, "figure.examples=1")
    assert ids(drawing) == known[:1]
    assert len(seen) == 1

    seen.clear()
    verdicts[:] = [0.0] * 3
    drawing = studio.draw("14", *settings)
    assert ids(drawing) == [pick.triplet_id for pick in order[:2]]
    assert drawing.rule.startswith("The first triplets drawn (4 triplets drawn were painted small")
    sizes = {"t0": "32x32", "t1": "32x16", "t2": "32x32", "t3": "32x16"}
    expected = dict.fromkeys(sizes[pick.triplet_id] for pick in order[:2])
    assert drawing.numbers["painted at"] == ", ".join(expected)

    seen.clear()
    unscored = studio.draw("14", *settings, "metric.metrics=[clip_score]")
    assert ids(unscored) == [pick.triplet_id for pick in order[:2]]
    assert unscored.rule.startswith("The first triplets drawn. Drawn")
    assert not any("around the hole" in text for text in unscored.numbers.values())

    named = studio.draw("13", *settings, "seeds=[0,1]", 'figure.select=["t2@1","t0@0"]')
    assert [pick.text for pick in named.chosen] == ["t2@1", "t0@0"]
    assert len(named.figure.axes) == 28  # two rows of seven for each
    assert not seen


def test_numbers_that_do_not_exist_are_left_out() -> None:
    nan = math.nan
    one, two = Measures(20.0, nan, 3.0, nan, 1.0, nan), Measures(30.0, 5.0, nan, nan, 1.0, nan)
    text = enlargements._numbers([one, two], "LPIPS")
    assert text == (
        "before the last blend, means of 2: known region 25.00 dB, hole to the small painting "
        "5.00 dB (1 of them), step across the mask's edge 3.00 levels (1 of them)"
    )


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
