"""Chooses the triplets that a report shows, and writes the gallery."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from profi.atomic import write_text
from profi.reports.names import RowKey, base_of, metric_style, ordered_metrics, ordered_rows
from profi.reports.statistics import row_keys, validate
from profi.types import UserError

GAIN, LOSS, RANDOM = "largest gain", "largest loss", "random"
#: Weights to rank gains by accuracy first and by CLIP score among equals: accuracy is 0 or 100, and
#: CLIP scores differ by less than 200.
RANKING: Mapping[str, float] = MappingProxyType({"accuracy": 1000.0, "clip_score": 1.0})


@dataclass(frozen=True)
class GalleryChoice:
    """A triplet to show, painted with `seed`, and the reason for the choice."""

    triplet_id: str
    seed: int
    reason: str


class Painted(NamedTuple):
    """What one seed gave of a triplet; see `GalleryItem.outputs` and `scores`."""

    outputs: Mapping[str, bytes]
    scores: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class GalleryItem:
    """A triplet in the report; its pictures are PNG, JPEG or WebP bytes in the size to show.

    Attributes:
        triplet_id: the triplet.
        prompt: the caption.
        masked: the input with the outline of its mask (`figures.outlined`); empty if the image is
            missing.
        outputs: a row's label (`names.row_labels`) to the painted image's bytes.
        scores: a row's label to its values per metric; accuracy decides the frame's colour.
        reason: why it was chosen.
        failures: one line per failure.
        others: what the other seeds gave, by seed.
    """

    triplet_id: str
    prompt: str
    masked: bytes
    outputs: Mapping[str, bytes]
    scores: Mapping[str, Mapping[str, float]]
    reason: str = ""
    failures: tuple[str, ...] = ()
    others: Mapping[int, Painted] = field(default_factory=dict)


def choose_gallery(
    scores: pd.DataFrame,
    k: int,
    *,
    base: str = "base",
    method: str = "profi",
    seed: int = 0,
) -> list[GalleryChoice]:
    """Up to `k` triplets: largest gains of `method` over `base`, largest losses, and random ones.

    Each kind is a third; if there are too few gains or losses, more are random. Gains are by
    accuracy, then by CLIP score, for the smallest seed that both rows have in the first model and
    reading. Without a method or a base all triplets are random.

    Args:
        scores: the long table.
        k: number of triplets.
        base: the ablation to compare with.
        method: the ablation to compare.
        seed: seed of the random choice.

    Raises:
        UserError: see `statistics.validate`; or `k` is negative.
    """
    validate(scores)
    if k < 0:
        raise UserError(f"a gallery of {k} triplets: set its size to 0 or more")
    rows = ordered_rows(row_keys(scores))
    ours = next((row for row in rows if row.ablation == method), None)
    shown = scores if ours is None else scores[scores["model"] == ours.model]
    gains, run_seed = _gains(shown, ours, None if ours is None else base_of(ours, rows, base))
    chosen: list[GalleryChoice] = []
    third = k // 3
    better, worse = gains[gains > 0], gains[gains < 0].iloc[::-1]
    for reason, ranked in ((GAIN, better), (LOSS, worse)):
        chosen += [GalleryChoice(str(name), run_seed, reason) for name in ranked.index[:third]]
    taken = {choice.triplet_id for choice in chosen}
    rest = sorted(set(shown.loc[shown["seed"] == run_seed, "triplet_id"].astype(str)) - taken)
    drawn = np.random.default_rng(seed).permutation(len(rest))[: k - len(chosen)]
    return chosen + [GalleryChoice(rest[index], run_seed, RANDOM) for index in drawn]


def _gains(
    scores: pd.DataFrame, method: RowKey | None, base: RowKey | None
) -> tuple[pd.Series, int]:
    """The gain per triplet by RANKING, best first, and the seed that it is for."""
    nothing = pd.Series(dtype=float), int(scores["seed"].min())
    if method is None or base is None:
        return nothing
    of_method, of_base = (
        scores[(scores["ablation"] == row.ablation) & (scores["reading"] == row.reading)]
        for row in (method, base)
    )
    seeds = sorted(set(of_method["seed"]) & set(of_base["seed"]))
    if not seeds:
        return nothing
    difference = _weighted(of_method, seeds[0]) - _weighted(of_base, seeds[0])
    ranked = difference.dropna().sort_index().sort_values(ascending=False, kind="stable")
    return ranked, int(seeds[0])


def _weighted(scores: pd.DataFrame, seed: int) -> pd.Series:
    part = scores[(scores["seed"] == seed) & scores["metric"].isin(list(RANKING))]
    # As floats: an empty selection has the type of text, which cannot be multiplied.
    values = part["value"] * part["metric"].map(dict(RANKING)).astype("float64")
    # A triplet with a NaN is not ranked: skipna would rank it by the other scores only.
    return values.groupby(part["triplet_id"]).agg(lambda cells: cells.sum(skipna=False))


FOLDER = "gallery"
INDEX = "index.js"
CHUNK = 4
_MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}


def write_gallery(
    folder: Path,
    items: Iterable[GalleryItem],
    rows: Mapping[RowKey, str],
    metrics: Iterable[str],
    *,
    base: str = "base",
    method: str = "profi",
    seeds: Sequence[int] = (0,),
) -> int:
    """Write the pictures of `items` and their index into `folder`; returns the number of items.

    Each seed's pictures are in files of their own, so a page loads only the seeds that it shows.
    The index is written last; then files of an earlier gallery are removed.

    Args:
        folder: `FOLDER` next to the page; created if needed.
        items: read one by one, so that they need not fit into memory together.
        rows: the rows' labels, in order (`names.row_labels`).
        metrics: their names.
        base: the ablation to compare with, see `names.base_of`.
        method: the ablation whose gains are shown first.
        seeds: the seed of the items, then those of their `others`.
    """
    names = ordered_metrics(metrics)
    lines: list[list[Any]] = []
    written = {INDEX}
    source = iter(items)
    for number, chunk in enumerate(iter(lambda: list(islice(source, CHUNK)), [])):
        pictures: list[Any] = [[_uri(i.masked), _uris(i.outputs, rows.values())] for i in chunk]
        for seed in seeds:
            name = f"chunk-{number:05d}"
            if seed != seeds[0]:
                name += f"-seed-{seed}"
                nothing = Painted({}, {})
                pictures = [_uris(i.others.get(seed, nothing)[0], rows.values()) for i in chunk]
            call = f"gallery.chunk({json.dumps(name)},{_json(pictures)});\n"
            write_text(folder / f"{name}.js", call)
            written.add(f"{name}.js")
        lines += [_line(item, list(rows.values()), names, seeds) for item in chunk]
    keys = list(rows)
    partners = [base_of(key, keys, base) for key in keys]
    index = {
        "rows": list(rows.values()),
        "bases": [None if partner is None else keys.index(partner) for partner in partners],
        "method": next((i for i, key in enumerate(keys) if key.ablation == method), 0),
        "metrics": [
            {
                "label": metric_style(name).label,
                "decimals": metric_style(name).decimals,
                "higher": metric_style(name).higher_is_better,
                "hit": metric_style(name).hit_or_miss,
            }
            for name in names
        ],
        # The page's ranking without a chosen metric, as in `choose_gallery`: [metric, weight].
        "ranking": [[names.index(n), w] for n, w in RANKING.items() if n in names] or [[0, 1.0]],
        "chunk": CHUNK,
        "seeds": list(seeds),
        "items": lines,
    }
    write_text(folder / INDEX, f"gallery.index({_json(index)});\n")
    for path in folder.glob("chunk-*.js"):
        if path.name not in written:
            path.unlink(missing_ok=True)
    return len(lines)


def data_uri(image: bytes) -> str:
    """`image` (PNG, JPEG or WebP bytes) as a data URI.

    Raises:
        ValueError: another format.
    """
    for magic, kind in _MAGIC.items():
        if image.startswith(magic):
            return f"data:{kind};base64,{base64.b64encode(image).decode('ascii')}"
    raise ValueError(f"not a PNG, JPEG or WebP picture: starts with {image[:8]!r}")


def _uri(image: bytes) -> str | None:
    return data_uri(image) if image else None


def _uris(outputs: Mapping[str, bytes], rows: Iterable[str]) -> list[str | None]:
    return [_uri(outputs.get(row, b"")) for row in rows]


def _line(
    item: GalleryItem, rows: Sequence[str], metrics: Sequence[str], seeds: Sequence[int]
) -> list[Any]:
    """[id, prompt, values, failures, [values of each other seed]].

    Values are [[value or null per metric] per row].
    """

    def values(scores: Mapping[str, Mapping[str, float]]) -> list[list[float | None]]:
        return [list(_values(scores.get(row, {}), metrics)) for row in rows]

    nothing = Painted({}, {})
    others = [values(item.others.get(seed, nothing).scores) for seed in seeds[1:]]
    return [item.triplet_id, item.prompt, values(item.scores), list(item.failures), others]


def _values(scores: Mapping[str, float], metrics: Sequence[str]) -> Iterator[float | None]:
    for name in metrics:
        value = scores.get(name, math.nan)
        yield round(value, metric_style(name).decimals) if math.isfinite(value) else None


def _json(value: Any) -> str:
    # ASCII: the separators U+2028 and U+2029 would end a line of the script.
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
