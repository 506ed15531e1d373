"""The gallery's script in a real browser, from the disk, as a reader opens it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from profi import reports
from profi.reports import gallery as browse
from profi.reports.gallery import GalleryItem, Painted
from profi.reports.names import row_labels
from profi.reports.statistics import row_keys
from profi.reports.thumbnails import png_bytes

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium to open the page with")

# What a reader would do, and what stands there then.
DRIVER = """
const asked = new Set();
new MutationObserver((changes) => changes.forEach((change) => change.addedNodes.forEach((node) => {
  if (node.src && node.src.includes("chunk-")) asked.add(node.src);
}))).observe(document.head, { childList: true });
const all = (selector) => [...document.querySelectorAll("#gallery " + selector)];
const texts = (selector) => all(selector).map((item) => item.textContent);
// A window without a screen does not always have the focus, so the calls for it are noted.
const focused = [], focus = HTMLElement.prototype.focus;
HTMLElement.prototype.focus = function (...options) {
  focused.push(this.className);
  return focus.apply(this, options);
};
const pause = () => new Promise((done) => setTimeout(done, 300));
const set = async (label, value) => {
  const field = all("label").find((found) => found.textContent.startsWith(label))
    .querySelector("select, input");
  const typed = field.type === "search";
  if (field.type === "checkbox") field.checked = value; else field.value = value;
  field.dispatchEvent(new Event(typed ? "input" : "change"));
  await pause();
};
const see = () => ({
  count: document.querySelector("#gallery-view > .quiet").textContent,
  ids: texts("h3 .quiet"),
  pictures: all("figure img").length,
  decoded: all("figure img").every((image) => image.naturalWidth === 8),
  frames: all("figure").map((figure) => figure.className).join(" "),
  failures: texts(".failed"),
  chunks: asked.size,
});
window.addEventListener("load", async () => {
  const seen = {};
  await pause();
  seen.first = see();
  all("button").find((button) => button.textContent.startsWith("next")).click();
  await pause();
  seen.second = see();
  await set("order", "loss");
  seen.loss = see();
  seen.address = location.hash;
  await set("order", "gain"); await set("by", "CLIP score");
  seen.clip = see();
  await set("by", "all"); await set("the detector", "won");
  seen.won = see();
  await set("the detector", "any"); await set("category", "cat");
  seen.cat = see();
  await set("category", ""); await set("search", "0017");
  seen.found = see();
  await set("search", ""); await set("quarantined", true);
  seen.quarantined = see();
  await set("quarantined", false);
  seen.back = location.hash;
  location.hash = "#gallery&order=loss&category=cat&seed=4&nonsense=1&verdict=none-such&page=2";
  await pause();
  seen.linked = see();
  seen.fields = all("select").map((field) => field.value);
  await set("show all", true);
  seen.every = see();
  seen.captions = texts("article:first-of-type figcaption")
    .map((text) => text.split(" ✓")[0].split(" ✗")[0]);
  const dialog = document.getElementById("zoom");
  const press = (key) => dialog.dispatchEvent(new KeyboardEvent("keydown", { key }));
  const shown = () => [dialog.open, dialog.querySelector("strong").textContent];
  seen.closed = dialog.open;
  all("article:first-of-type button.zoom")[1].click();
  seen.zoomed = [shown()];
  for (const key of ["ArrowLeft", "ArrowLeft", "ArrowRight"]) {
    press(key);
    seen.zoomed.push(shown());
  }
  dialog.querySelector("img").click();
  seen.zoomed.push([dialog.open, focused.at(-1)]);
  const text = document.createElement("pre");
  text.id = "seen"; text.textContent = JSON.stringify(seen);
  document.body.append(text);
});
"""


def dom(page: Path) -> str:
    assert BROWSER is not None
    profile = page.parent / "profile"
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={profile}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


@pytest.fixture
def folder(
    make_scores, tmp_path, monkeypatch
) -> tuple[Path, dict[str, np.ndarray], dict[str, str]]:
    """A report of 40 triplets, one of them quarantined, with the gains that it should order by.

    Of the other seed, 4, every score is that of the first for the other row.
    """
    scores = make_scores(n_triplets=40, seeds=(0,), ablations=("base", "profi"))
    labels = row_labels(row_keys(scores))
    values = {
        name: {key.ablation: {} for key in labels} for name in sorted(set(scores["triplet_id"]))
    }
    for line in scores.itertuples():
        values[line.triplet_id][line.ablation][line.metric] = line.value
    categories = dict(zip(scores["triplet_id"], scores["category"], strict=True))
    picture = png_bytes(np.zeros((8, 8, 3), dtype=np.uint8))
    items = [
        GalleryItem(
            name,
            categories[name],
            picture,
            {} if name == "0005" else dict.fromkeys(labels.values(), picture),
            {labels[key]: values[name][key.ablation] for key in labels},
            failures=("base, seed 0, load: <b>gone</b>",) if name == "0005" else (),
            others={
                4: Painted(
                    dict.fromkeys(labels.values(), picture),
                    {
                        label: values[name]["base" if key.ablation == "profi" else "profi"]
                        for key, label in labels.items()
                    },
                )
            },
        )
        for name in values
    ]
    metrics = ["clip_score", "accuracy", "aesthetic"]
    # So small that a screenful needs but some of them.
    monkeypatch.setattr(browse, "CHUNK", 2)
    count = reports.write_gallery(tmp_path / "gallery", items, labels, metrics, seeds=(0, 4))
    summary = reports.summarise(scores)
    table = reports.score_table(summary, reports.clear_best(scores, summary))
    page = reports.Page(scores, [table], {"experiment": "t"}, n_browsable=count)
    reports.write_report(tmp_path / "report.html", page)
    gains = {
        metric: np.array(
            [round(v["profi"][metric], 2) - round(v["base"][metric], 2) for v in values.values()]
        )
        for metric in metrics
    }
    return tmp_path, gains, categories


def test_a_reader_filters_orders_and_turns_pages(folder):
    place, gains, categories = folder
    page = place / "report.html"
    text = page.read_text()
    page.write_text(text.replace("</body>", f"<script>{DRIVER}</script></body>"))
    found = re.search(r'<pre id="seen">(.*?)</pre>', dom(page), re.DOTALL)
    assert found is not None
    seen = json.loads(unescape(found.group(1)))
    names = np.array([f"{n:04d}" for n in range(40)])
    ranking = 1000 * gains["accuracy"] + gains["clip_score"]
    best = list(names[np.argsort(-ranking, kind="stable")])
    assert seen["first"]["ids"] == best[:12]
    assert seen["second"]["ids"] == best[12:24]
    assert seen["loss"]["ids"] == best[::-1][:12]
    assert seen["clip"]["ids"] == list(names[np.argsort(-gains["clip_score"], kind="stable")])[:12]
    assert seen["first"]["count"] == "40 of 40 triplets"
    # Input and two rows each; the browser could decode all of them.
    shown = sum(2 if name == "0005" else 3 for name in best[:12]) - ("0005" in best[:12])
    assert seen["first"]["pictures"] == shown
    assert seen["first"]["decoded"]
    # A screenful asks for the chunks that it needs, not for all of them.
    assert seen["first"]["chunks"] == len({int(name) // 2 for name in best[:12]}) < 20
    n_won = int((gains["accuracy"] == 100).sum())
    assert seen["won"]["count"] == f"{n_won} of 40 triplets"
    assert set(seen["won"]["ids"]) <= set(names[gains["accuracy"] == 100])
    assert seen["won"]["frames"].split()[:2] == ["miss", "hit"]
    assert seen["cat"]["count"] == "13 of 40 triplets"
    assert seen["found"]["ids"] == ["0017"]
    assert seen["quarantined"]["ids"] == ["0005"]
    assert seen["quarantined"]["failures"] == ["base, seed 0, load: <b>gone</b>"]
    assert seen["quarantined"]["pictures"] == 1
    # The address has what differs from the first view, and a link with other words is followed.
    assert (seen["address"], seen["back"]) == ("#gallery&order=loss", "#gallery")
    cats = names[[categories[name] == "cat" for name in names]]
    # With the other seed gains are losses.
    gain_of_cats = ranking[[int(name) for name in cats]]
    assert seen["linked"]["count"] == "13 of 40 triplets"
    assert seen["linked"]["ids"] == list(cats[np.argsort(-gain_of_cats, kind="stable")])[12:]
    assert seen["fields"] == ["loss", "RASG & PAIntA", "all", "4", "any", "cat"]
    assert seen["linked"]["pictures"] == 3
    assert seen["every"]["pictures"] == 6
    names_of = ["input, mask", "base, seed 0", "RASG & PAIntA, seed 0"]
    names_of += ["input, mask", "base, seed 4", "RASG & PAIntA, seed 4"]
    assert seen["captions"] == names_of
    assert not seen["closed"]
    left = [f"{title}: cat" for title in (names_of[1], names_of[0], names_of[5], names_of[0])]
    assert seen["zoomed"] == [[True, name] for name in left] + [[False, "zoom"]]


def test_a_page_without_its_folder_says_so(folder):
    place, *_ = folder
    shutil.rmtree(place / "gallery")
    assert "is missing: copy it to the folder of this page" in dom(place / "report.html")
