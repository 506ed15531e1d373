from __future__ import annotations

import base64
import io
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from profi import reports
from profi.reports.gallery import (
    GAIN,
    LOSS,
    RANDOM,
    GalleryItem,
    choose_gallery,
    data_uri,
    write_gallery,
)
from profi.reports.html import write_report
from profi.reports.names import RowKey, row_labels
from profi.reports.statistics import row_keys
from profi.reports.thumbnails import StripRow, comparison_strip, outlined, png_bytes, thumbnail
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


def picture(value: int, side: int = 8) -> np.ndarray:
    return np.full((side, side, 3), value, dtype=np.uint8)


def item(triplet_id: str = "0001", prompt: str = "teddy bear", **changes) -> GalleryItem:
    values = {
        "triplet_id": triplet_id,
        "prompt": prompt,
        "masked": png_bytes(picture(20)),
        "outputs": {"base": png_bytes(picture(30)), "RASG & PAIntA": png_bytes(picture(40))},
        "scores": {
            "base": {"accuracy": 0.0, "clip_score": 21.5, "aesthetic": float("nan")},
            "RASG & PAIntA": {"accuracy": 100.0, "clip_score": 26.25},
        },
        "reason": GAIN,
    }
    return GalleryItem(**{**values, **changes})


FACTS = {
    "experiment": "table2 & <more>",
    "command": "python run.py experiment=table2",
    "config hash": "0123abcd",
}


def page_of(scores: pd.DataFrame, **changes) -> reports.Page:
    """What a run's report has."""
    summary = reports.summarise(scores)
    table = reports.score_table(summary, reports.clear_best(scores, summary))
    differences = reports.difference_table(
        reports.paired_difference(scores), row_labels(row_keys(scores))
    )
    values = {
        "scores": scores,
        "tables": [*([differences] if differences else []), table],
        "facts": FACTS,
        "highlights": [item()],
    }
    return reports.Page(**{**values, **changes})


def written(path: Path, page: reports.Page) -> Page:
    write_report(path, page)
    return Page(path.read_text())


@pytest.fixture
def page(scores, tmp_path) -> Page:
    scores.loc[scores.index[:2], "value"] = np.nan
    shown = written(tmp_path / "report.html", page_of(scores))
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    return shown


def asks_nobody(page: Page) -> None:
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "embed"}
        for name in ("src", "srcset", "data", "action"):
            if name in attributes:
                assert str(attributes[name]).startswith("data:image/")
        if "href" in attributes:
            assert str(attributes["href"]).startswith("#")
    text = "".join(page.words)
    for word in ("url(", "@import", "http:", "https:", "//cdn", "fetch(", "XMLHttpRequest"):
        assert word not in text


def test_one_well_formed_file_that_asks_nobody(page):
    asks_nobody(page)
    # Its one script enlarges pictures; it loads nothing.
    (script,) = [attributes for tag, attributes in page.tags if tag == "script"]
    assert script == {}


def test_with_a_gallery_it_reads_only_the_folder_next_to_it(scores, tmp_path):
    page = written(tmp_path / "r.html", page_of(scores, n_browsable=7))
    asks_nobody(page)
    (home,) = [a for _, a in page.tags if a.get("id") == "gallery"]
    assert (home["data-folder"], home["data-index"]) == ("gallery", "gallery/index.js")
    # Pictures and ids come as data: nothing of them is taken for markup.
    script = "".join(page.words)
    assert "gallery.chunk" in write_text_of(tmp_path)
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in script


def write_text_of(folder: Path) -> str:
    labels = {RowKey("m", "base", "r"): "base", RowKey("m", "profi", "r"): "RASG & PAIntA"}
    write_gallery(folder / "gallery", [item()], labels, ["accuracy", "clip_score"])
    return (folder / "gallery" / "chunk-00000.js").read_text()


def test_every_link_has_its_place(page):
    names = {a["id"] for _, a in page.tags if "id" in a}
    links = [str(a["href"]) for tag, a in page.tags if tag == "a"]
    assert links
    assert all(link.removeprefix("#") in names for link in links)


def test_text_is_escaped(scores, tmp_path):
    page = page_of(
        scores,
        highlights=[item(prompt='<img src="x">')],
        failures=[reports.Failure("base", 0, "0001", "load", "<script>alert(1)</script>")],
        missing=reports.Missing(["<b>x</b>"], ["python run.py '~models'"]),
    )
    shown = written(tmp_path / "r.html", page)
    text = (tmp_path / "r.html").read_text()
    for markup in ('<img src="x">', "<more>", "<script>alert", "<b>x"):
        assert markup not in text
    words = "".join(shown.words)
    assert "table2 & <more>" in words
    assert "<script>alert(1)</script>" in words
    assert "python run.py '~models'" in words


def test_every_number_of_the_tables_and_every_fact_is_there(scores, tmp_path):
    scores.loc[scores.index[:2], "value"] = np.nan
    failures = [reports.Failure("base", 2, "0007", "generate", "out of memory")] * 3
    page = page_of(scores, failures=failures, n_missing=5)
    words = " ".join(written(tmp_path / "r.html", page).words)
    for table in page.tables:
        for cells in table.rows.values():
            assert all(cell.text in words for cell in cells)
    for word in (
        "python run.py experiment=table2",
        "0123abcd",
        "3 samples quarantined",
        "2 could not be computed",
        "5 scores missing",
        "out of memory",
    ):
        assert word in words


def test_what_is_missing_stands_with_its_commands(scores, tmp_path):
    missing = reports.Missing(
        ["only RASG, seed 3: nothing"], ["python run.py a", "python run.py b"]
    )
    words = "".join(written(tmp_path / "r.html", page_of(scores, missing=missing)).words)
    assert "only RASG, seed 3: nothing" in words
    assert "python run.py a\npython run.py b" in words
    assert "Commands for it" not in "".join(written(tmp_path / "r.html", page_of(scores)).words)


def test_long_lists_of_failures_are_cut_and_say_so(scores, tmp_path):
    failures = [reports.Failure("base", 0, f"{n:05d}", "load", "gone") for n in range(300)]
    words = " ".join(written(tmp_path / "r.html", page_of(scores, failures=failures)).words)
    assert "300 samples failed" in words
    assert "the first 200" in words
    assert "00199" in words
    assert "00200" not in words


def test_pictures_survive_bit_for_bit_with_their_verdicts(page):
    sources = [str(a["src"]) for tag, a in page.tags if tag == "img" and "src" in a]
    values = [
        int(np.asarray(Image.open(io.BytesIO(base64.b64decode(s.split(",")[1]))))[0, 0, 0])
        for s in sources
    ]
    assert values == [20, 30, 40]
    figures = [attributes.get("class") for tag, attributes in page.tags if tag == "figure"]
    # The last one is that of the enlarged picture.
    assert figures == ["", "miss", "hit", None]
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


def test_thousands_of_triplets_cost_the_page_nothing(make_scores, tmp_path):
    scores = make_scores(n_triplets=1500, seeds=(0,))
    start = time.perf_counter()
    write_report(tmp_path / "r.html", page_of(scores, n_browsable=1500))
    assert time.perf_counter() - start < 10
    assert (tmp_path / "r.html").stat().st_size < 100_000


def test_a_report_of_one_row_needs_no_base(scores, tmp_path):
    only = scores[scores["ablation"] == "profi"]
    write_report(tmp_path / "r.html", page_of(only, highlights=[], facts={}))
    text = (tmp_path / "r.html").read_text()
    assert "RASG &amp; PAIntA" in text


def test_data_uri_knows_pictures_only():
    assert data_uri(png_bytes(picture(1))).startswith("data:image/png;base64,")
    with pytest.raises(ValueError, match="not a PNG"):
        data_uri(b"hello")


def test_small_pictures_stay_as_they_are_and_large_ones_shrink():
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    same = Image.open(io.BytesIO(thumbnail(image, side=90)))
    np.testing.assert_array_equal(np.asarray(same), image)
    plain = picture(77, side=400)
    small = Image.open(io.BytesIO(thumbnail(plain[:200], side=100)))
    assert (small.format, small.size) == ("JPEG", (100, 50))
    np.testing.assert_allclose(np.asarray(small), 77, atol=2)


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
    write_report(tmp_path / "r.html", page_of(again, highlights=[]))
    write_report(tmp_path / "direct.html", page_of(scores, highlights=[]))
    assert (tmp_path / "r.html").read_text() == (tmp_path / "direct.html").read_text()


def test_scores_without_a_metric_to_rank_by_give_a_random_gallery(make_scores):
    scores = make_scores(metrics=("known_region_psnr",))
    assert {choice.reason for choice in choose_gallery(scores, 5)} == {RANDOM}
