from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from profi.reports.gallery import CHUNK, INDEX, GalleryItem, Painted, write_gallery
from profi.reports.names import RowKey, row_labels
from profi.reports.statistics import row_keys
from profi.reports.thumbnails import HEIGHT, WIDTH, distributions, png_bytes

ROWS = {
    RowKey("m", "base", "r"): "base",
    RowKey("m", "rasg_only", "r"): "only RASG",
    RowKey("m", "profi", "r"): "RASG & PAIntA",
}
METRICS = ["aesthetic", "clip_score", "accuracy"]


def png(value: int) -> bytes:
    return png_bytes(np.full((4, 4, 3), value, dtype=np.uint8))


def item(number: int) -> GalleryItem:
    return GalleryItem(
        f"{number:04d}",
        "dog" if number % 2 else "</script> \u2028",
        png(number % 256),
        {"base": png(1), "RASG & PAIntA": png(2)},
        {"base": {"accuracy": 100.0, "clip_score": 25.123456, "aesthetic": math.nan}},
        failures=("only RASG, seed 0, load: gone",) if number == 3 else (),
    )


def loaded(path: Path) -> list[object]:
    """What the page is given: the arguments of the one call in a script."""
    text = path.read_text()
    assert text.isascii()
    assert text.count("\n") == 1
    name, _, rest = text.partition("(")
    assert name in ("gallery.index", "gallery.chunk")
    return json.loads("[" + rest.removesuffix(");\n") + "]")


def test_the_index_has_every_triplet_and_the_chunks_their_pictures(tmp_path):
    count = 2 * CHUNK + 3
    assert write_gallery(tmp_path, map(item, range(count)), ROWS, METRICS) == count
    (index,) = loaded(tmp_path / INDEX)
    assert index["rows"] == list(ROWS.values())
    assert (index["bases"], index["method"]) == ([None, 0, 0], 2)
    assert [metric["label"] for metric in index["metrics"]] == [
        "CLIP score",
        "Accuracy, %",
        "Aesthetic score",
    ]
    assert index["ranking"] == [[1, 1000.0], [0, 1.0]]
    assert [line[0] for line in index["items"]] == [f"{n:04d}" for n in range(count)]
    assert index["items"][0][1] == "</script> \u2028"
    # Values by row and metric, null where there is none; rounded as they are printed.
    assert index["items"][0][2] == [[25.12, 100.0, None], [None] * 3, [None] * 3]
    assert [bool(line[3]) for line in index["items"]] == [n == 3 for n in range(count)]
    values = []
    for number in range(3):
        index, pictures = loaded(tmp_path / f"chunk-{number:05d}.js")
        assert index == f"chunk-{number:05d}"
        for masked, outputs in pictures:
            assert outputs[1] is None
            values.append(pixel(masked))
            assert (pixel(outputs[0]), pixel(outputs[2])) == (1, 2)
    assert values == list(range(count))


def pixel(uri: str) -> int:
    import base64

    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    return int(np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))[0, 0, 0])


def test_other_seeds_have_files_and_values_of_their_own(tmp_path):
    items = [
        replace(
            item(0),
            others={
                3: Painted({"base": png(7)}, {"base": {"accuracy": 0.0}}),
                5: Painted({}, {}),
            },
        ),
        item(1),
    ]
    write_gallery(tmp_path, items, ROWS, METRICS, seeds=(0, 3, 5))
    (index,) = loaded(tmp_path / INDEX)
    assert index["seeds"] == [0, 3, 5]
    nothing = [[None] * 3] * 3
    assert index["items"][0][4] == [[[None, 0.0, None], *nothing[1:]], nothing]
    assert index["items"][1][4] == [nothing, nothing]
    name, pictures = loaded(tmp_path / "chunk-00000-seed-3.js")
    assert name == "chunk-00000-seed-3"
    assert pixel(pictures[0][0]) == 7
    assert pictures[0][1:] == [None, None]
    assert pictures[1] == [None] * 3
    # With fewer seeds nothing of them is left.
    write_gallery(tmp_path, items, ROWS, METRICS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chunk-00000.js", INDEX]


def test_items_are_taken_one_chunk_at_a_time(tmp_path):
    """Thousands of triplets are never in memory together."""
    taken: list[int] = []

    def source():
        for number in range(3 * CHUNK):
            there = len(list(tmp_path.glob("chunk-*.js")))
            assert there >= len(taken) // CHUNK
            taken.append(number)
            yield item(number)

    write_gallery(tmp_path, source(), ROWS, METRICS)
    assert len(taken) == 3 * CHUNK


def test_a_smaller_gallery_leaves_nothing_of_a_larger_one(tmp_path):
    write_gallery(tmp_path, map(item, range(5 * CHUNK)), ROWS, METRICS)
    write_gallery(tmp_path, map(item, range(2)), ROWS, METRICS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chunk-00000.js", INDEX]


def test_without_method_or_base_it_still_shows(tmp_path):
    rows = {RowKey("m", "rasg_only", "r"): "only RASG"}
    write_gallery(tmp_path, [item(0)], rows, ["known_region_psnr"])
    (index,) = loaded(tmp_path / INDEX)
    assert (index["bases"], index["method"], index["ranking"]) == ([None], 0, [[0, 1.0]])


def numbers(path: str) -> np.ndarray:
    pairs = path.strip("MZ").replace("L", " ").split()
    return np.array(pairs, dtype=float).reshape(-1, 2)


def test_areas_are_densities_on_one_scale(scores):
    drawn = distributions(scores, row_labels(row_keys(scores)))
    assert [item.label for item in drawn] == ["CLIP score", "Aesthetic score"]
    clip = drawn[0]
    part = scores[scores["metric"] == "clip_score"]
    assert [area.label for area in clip.areas] == [
        "base",
        "only PAIntA",
        "only RASG",
        "RASG & PAIntA",
    ]
    shares, tops = [], []
    for area in clip.areas:
        outline = numbers(area.path)
        # Below the box's top there is the same area for the same number of values.
        heights = HEIGHT - outline[1:-1:2, 1]
        shares.append(heights.sum())
        tops.append(heights.max())
        assert outline[:, 0].min() == 0
        assert outline[:, 0].max() == WIDTH
    assert max(tops) == pytest.approx(HEIGHT)
    assert max(shares) == pytest.approx(min(shares), rel=0.03)
    means = part.groupby("ablation")["value"].mean()
    low, high = float(clip.low), float(clip.high)
    for area, name in zip(clip.areas, ("base", "painta_only", "rasg_only", "profi"), strict=True):
        assert float(area.mean) == pytest.approx(means[name], abs=0.006)
        assert area.mean_x == pytest.approx(WIDTH * (means[name] - low) / (high - low), abs=0.2)
    outside = ((part["value"] < low - 0.01) | (part["value"] > high + 0.01)).sum()
    assert clip.n_outside >= outside


def test_constant_and_absent_values_can_be_drawn(scores):
    scores.loc[scores["metric"] == "clip_score", "value"] = 25.0
    scores.loc[scores["metric"] == "aesthetic", "value"] = math.nan
    (clip,) = distributions(scores, row_labels(row_keys(scores)))
    assert {area.mean_x for area in clip.areas} == {WIDTH / 2}
