"""Which triplets the report shows, and what is shown of one."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from profi.atomic import write_text
from profi.reports.names import RowKey, base_of, metric_style, ordered_metrics, ordered_rows
from profi.reports.statistics import row_keys, validate
from profi.types import UserError

GAIN, LOSS, RANDOM = "largest gain", "largest loss", "random"
#: Gains are by accuracy, ties by CLIP score: accuracy moves in steps of 100 and CLIP scores by less
#: than 200, so that this sum orders by accuracy first.
RANKING: Mapping[str, float] = MappingProxyType({"accuracy": 1000.0, "clip_score": 1.0})


@dataclass(frozen=True)
class GalleryChoice:
    """A triplet to show, painted with `seed`; `reason` says why this one."""

    triplet_id: str
    seed: int
    reason: str


@dataclass(frozen=True)
class GalleryItem:
    """What the report shows of a triplet; pictures are PNG, JPEG or WebP bytes of the size to show.

    Attributes:
        triplet_id: the triplet.
        prompt: the caption.
        masked: the input with its mask outlined, see `figures.outlined`; empty where the image is
            not at hand.
        outputs: a row's label (`names.row_labels`) to the painted image's bytes.
        scores: a row's label to its values per metric; accuracy colours the frame.
        reason: why it was chosen.
        failures: what failed of it, a line each.
    """

    triplet_id: str
    prompt: str
    masked: bytes
    outputs: Mapping[str, bytes]
    scores: Mapping[str, Mapping[str, float]]
    reason: str = ""
    failures: tuple[str, ...] = ()


def choose_gallery(
    scores: pd.DataFrame,
    k: int,
    *,
    base: str = "base",
    method: str = "profi",
    seed: int = 0,
) -> list[GalleryChoice]:
    """Up to `k` triplets: a third where `method` gains most on `base`, a third where it loses most.

    The rest is drawn at random, so that a reader sees what is typical. Gains are by accuracy,
    ties by CLIP score, of the smallest seed that both have in the first model and reading; only
    true gains and losses are called so. Without a method or a base all are random.

    Args:
        scores: the long table.
        k: how many.
        base: ablation compared with.
        method: ablation compared.
        seed: of the random third.

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
    """Gain per triplet by RANKING, best first, and the seed that it is of."""
    nothing = pd.Series(dtype=float), int(scores["seed"].min())
    if method is None or base is None:
        return nothing
    ours, theirs = (
        scores[(scores["ablation"] == row.ablation) & (scores["reading"] == row.reading)]
        for row in (method, base)
    )
    seeds = sorted(set(ours["seed"]) & set(theirs["seed"]))
    if not seeds:
        return nothing
    difference = _weighted(ours, seeds[0]) - _weighted(theirs, seeds[0])
    ranked = difference.dropna().sort_index().sort_values(ascending=False, kind="stable")
    return ranked, int(seeds[0])


def _weighted(scores: pd.DataFrame, seed: int) -> pd.Series:
    part = scores[(scores["seed"] == seed) & scores["metric"].isin(list(RANKING))]
    # As floats: an empty selection would otherwise stay one of text, which cannot be multiplied.
    values = part["value"] * part["metric"].map(dict(RANKING)).astype("float64")
    # A triplet with a NaN is not ranked: skipna would rank it by half of its scores.
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
) -> int:
    """Write the pictures of `items` and their index into `folder`; returns how many there are.

    What an earlier gallery left there is removed. The index is written last.

    Args:
        folder: the one that the page's `FOLDER` names, made where needed.
        items: taken one by one, so that they need not fit into memory together.
        rows: the rows' labels, in order (`names.row_labels`).
        metrics: their names.
        base: the ablation that gains are to, see `names.base_of`.
        method: the ablation whose gains are shown first.
    """
    names = ordered_metrics(metrics)
    lines: list[list[Any]] = []
    written = {INDEX}
    source = iter(items)
    for number, chunk in enumerate(iter(lambda: list(islice(source, CHUNK)), [])):
        name = f"chunk-{number:05d}.js"
        pictures = [
            [_uri(item.masked), [_uri(item.outputs.get(label, b"")) for label in rows.values()]]
            for item in chunk
        ]
        write_text(folder / name, f"gallery.chunk({number},{_json(pictures)});\n")
        written.add(name)
        lines += [_line(item, list(rows.values()), names) for item in chunk]
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
        # How the page ranks where no metric is chosen: [metric, weight], as `choose_gallery` does.
        "ranking": [[names.index(n), w] for n, w in RANKING.items() if n in names] or [[0, 1.0]],
        "chunk": CHUNK,
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
        ValueError: none of these.
    """
    for magic, kind in _MAGIC.items():
        if image.startswith(magic):
            return f"data:{kind};base64,{base64.b64encode(image).decode('ascii')}"
    raise ValueError(f"not a PNG, JPEG or WebP picture: starts with {image[:8]!r}")


def _uri(image: bytes) -> str | None:
    return data_uri(image) if image else None


def _line(item: GalleryItem, rows: Sequence[str], metrics: Sequence[str]) -> list[Any]:
    """[id, prompt, [[value or null per metric] per row], failures]."""
    values = [list(_values(item.scores.get(row, {}), metrics)) for row in rows]
    return [item.triplet_id, item.prompt, values, list(item.failures)]


def _values(scores: Mapping[str, float], metrics: Sequence[str]) -> Iterator[float | None]:
    for name in metrics:
        value = scores.get(name, math.nan)
        yield round(value, metric_style(name).decimals) if math.isfinite(value) else None


def _json(value: Any) -> str:
    # ASCII: the separators U+2028 and U+2029 would end a line of the script.
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
