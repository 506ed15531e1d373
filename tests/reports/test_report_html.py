from __future__ import annotations

import base64
import io
import re
import time
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from profi.reports.figures import StripRow, comparison_strip, outlined, png_bytes
from profi.reports.gallery import GAIN, LOSS, RANDOM, GalleryItem, choose_gallery
from profi.reports.html import data_uri, write_report
from profi.reports.statistics import summarise
from profi.reports.tables import table2
from profi.types import UserError


class Page(HTMLParser):
    """Tags with their attributes, the text, and whether every tag was closed."""

    VOID = {"meta", "img", "br", "link"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def picture(value: int) -> np.ndarray:
    return np.full((8, 8, 3), value, dtype=np.uint8)


def item(triplet_id: str = "0001", prompt: str = "teddy bear") -> GalleryItem:
    return GalleryItem(
        triplet_id=triplet_id,
        prompt=prompt,
        input_png=png_bytes(picture(10)),
        masked_png=png_bytes(picture(20)),
        outputs={"base": png_bytes(picture(30)), "RASG & PAIntA": png_bytes(picture(40))},
        scores={
            "base": {"accuracy": 0.0, "clip_score": 21.5, "aesthetic": float("nan")},
            "RASG & PAIntA": {"accuracy": 100.0, "clip_score": 26.25},
        },
        reason=GAIN,
    )


FACTS = {
    "experiment": "table2 & <more>",
    "command": "python run.py experiment=table2",
    "quarantined": 3,
    "config hash": "0123abcd",
}


@pytest.fixture
def page(scores, tmp_path) -> Page:
    scores.loc[scores.index[:2], "value"] = np.nan
    write_report(tmp_path / "report.html", scores, [item()], FACTS)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    return Page((tmp_path / "report.html").read_text())


def test_one_well_formed_file_that_asks_nobody(page):
    assert page.open == []
    allowed = {"src": "data:image/"}
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe"}
        for name in ("src", "href", "srcset", "data", "action"):
            if name in attributes:
                assert str(attributes[name]).startswith(allowed[name])
    assert "url(" not in "".join(page.words)
    assert "@import" not in "".join(page.words)


def test_text_is_escaped(scores, tmp_path):
    write_report(tmp_path / "r.html", scores, [item(prompt='<img src="x">')], FACTS)
    text = (tmp_path / "r.html").read_text()
    assert '<img src="x">' not in text
    assert "<more>" not in text
    assert "table2 & <more>" in "".join(Page(text).words)


def test_every_number_of_the_table_and_every_fact_is_there(page, scores):
    words = " ".join(page.words)
    for cells in table2(summarise(scores)).rows.values():
        assert all(cell.text in words for cell in cells)
    assert "python run.py experiment=table2" in words
    assert "0123abcd" in words
    assert "3 samples quarantined" in words
    assert "2 could not be computed" in words
    assert "68.05 ± 0.48" in words


def test_pictures_survive_bit_for_bit_with_their_verdicts(page):
    sources = [str(attributes["src"]) for tag, attributes in page.tags if tag == "img"]
    values = [
        int(np.asarray(Image.open(io.BytesIO(base64.b64decode(s.split(",")[1]))))[0, 0, 0])
        for s in sources
    ]
    assert values == [10, 20, 30, 40]
    figures = [attributes.get("class") for tag, attributes in page.tags if tag == "figure"]
    assert figures == ["", "", "miss", "hit"]
    assert "Aesthetic score nan" not in " ".join(page.words)


def test_bars_are_the_means_per_category(page, scores):
    part = scores[(scores["metric"] == "accuracy") & (scores["category"] == "dog")]
    means = part.groupby("ablation")["value"].mean()
    widths = [
        float(re.fullmatch(r"width:([\d.]+)%", str(attributes["style"])).group(1))
        for tag, attributes in page.tags
        if tag == "i"
    ]
    # Categories by name: cat, dog, teddy bear; rows in the paper's order.
    order = ["base", "painta_only", "rasg_only", "profi"]
    assert widths[4:8] == pytest.approx([means[name] for name in order], abs=0.051)


def test_a_gallery_has_gains_losses_and_chance(scores):
    chosen = choose_gallery(scores, 9)
    assert [choice.reason for choice in chosen] == [GAIN] * 3 + [LOSS] * 3 + [RANDOM] * 3
    assert len({choice.triplet_id for choice in chosen}) == 9
    part = scores[(scores["seed"] == chosen[0].seed) & (scores["metric"] == "accuracy")]
    table = part.pivot(index="triplet_id", columns="ablation", values="value")
    gains = table["profi"] - table["base"]
    assert [gains[choice.triplet_id] for choice in chosen[:3]] == [100.0] * 3
    assert all(gains[choice.triplet_id] <= 0 for choice in chosen[3:6])
    assert choose_gallery(scores, 9) == chosen
    assert choose_gallery(scores, 9, seed=1)[:6] == chosen[:6]


def test_ties_in_accuracy_are_broken_by_clip(make_scores):
    scores = make_scores()
    scores.loc[scores["metric"] == "accuracy", "value"] = 100.0
    part = scores[(scores["seed"] == 0) & (scores["metric"] == "clip_score")]
    table = part.pivot(index="triplet_id", columns="ablation", values="value")
    best = (table["profi"] - table["base"]).idxmax()
    assert choose_gallery(scores, 3)[0].triplet_id == best


def test_a_gallery_without_a_method_or_larger_than_the_data(scores):
    base = scores[scores["ablation"] == "base"]
    assert {choice.reason for choice in choose_gallery(base, 5)} == {RANDOM}
    assert len(choose_gallery(base, 1000)) == 24
    assert choose_gallery(scores, 0) == []
    with pytest.raises(UserError, match="-1"):
        choose_gallery(scores, -1)


def test_only_true_losses_are_called_losses(scores):
    chosen = scores["ablation"] == "profi"
    scores.loc[chosen, "value"] = scores.loc[chosen, "value"] + 1000
    assert LOSS not in {choice.reason for choice in choose_gallery(scores, 9)}


def test_thousands_of_triplets_stay_quick(make_scores, tmp_path):
    scores = make_scores(n_triplets=1500, seeds=(0,))
    start = time.perf_counter()
    write_report(tmp_path / "r.html", scores, [item()], FACTS)
    assert time.perf_counter() - start < 10
    assert (tmp_path / "r.html").stat().st_size < 100_000


def test_a_report_of_one_row_needs_no_base(scores, tmp_path):
    only = scores[scores["ablation"] == "profi"]
    write_report(tmp_path / "r.html", only, [], {})
    text = (tmp_path / "r.html").read_text()
    assert "RASG &amp; PAIntA" in text


def test_data_uri_knows_pictures_only():
    assert data_uri(png_bytes(picture(1))).startswith("data:image/png;base64,")
    with pytest.raises(ValueError, match="not a PNG"):
        data_uri(b"hello")


def test_png_bytes_are_lossless():
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    loaded = Image.open(io.BytesIO(png_bytes(image))).convert("RGB")
    np.testing.assert_array_equal(np.asarray(loaded), image)


def test_the_outline_is_on_the_border_only():
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:15, 5:15] = True
    drawn = outlined(np.zeros((20, 20, 3), np.uint8), mask)[..., 0] > 0
    assert drawn.any(axis=1)[[4, 15]].all()
    assert not drawn[7:13, 7:13].any()
    assert not drawn[:4].any()
    empty = np.zeros_like(mask)
    assert not outlined(np.zeros((20, 20, 3), np.uint8), empty).any()


def test_the_strip_is_a_picture_of_every_cell(tmp_path):
    rows = [
        StripRow(prompt, {"input": picture(0), "base": picture(90), "ProFI": picture(200)})
        for prompt in ("dog", "cat")
    ]
    comparison_strip(rows, tmp_path / "strip.png")
    pixels = np.asarray(Image.open(tmp_path / "strip.png").convert("L"))
    assert pixels.shape[1] == 3 * 2 * 150
    for value in (0, 90, 200):
        assert (pixels == value).mean() > 0.1
    with pytest.raises(ValueError, match="columns"):
        comparison_strip([rows[0], StripRow("x", {"input": picture(0)})], tmp_path / "x.png")
    with pytest.raises(ValueError, match="at least one"):
        comparison_strip([], tmp_path / "x.png")


def test_reading_reports_needs_no_torch():
    import subprocess
    import sys

    code = "import sys, profi.reports; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_scores_come_back_from_a_csv(scores, tmp_path):
    scores.to_csv(tmp_path / "scores.csv", index=False)
    again = pd.read_csv(tmp_path / "scores.csv", dtype={"triplet_id": str})
    write_report(tmp_path / "r.html", again, [], FACTS)


def test_scores_without_a_metric_to_rank_by_give_a_random_gallery(make_scores):
    scores = make_scores(metrics=("known_region_psnr",))
    assert {choice.reason for choice in choose_gallery(scores, 5)} == {RANDOM}
