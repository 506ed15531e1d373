"""The gallery beside the page: an index of all triplets, and their pictures in chunks.

Both are scripts that hand their data to the page's `gallery` object, since a page opened from a
disk may load scripts and pictures beside it but no other files. The page asks for the index once
and for a chunk when a triplet of it is shown, so that thousands of triplets cost as little as a
screenful.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from profi.atomic import write_text
from profi.reports.gallery import RANKING, GalleryItem
from profi.reports.names import RowKey, base_of, metric_style, ordered_metrics

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
