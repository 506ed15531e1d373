"""Which files of MSCOCO a training reads: a user's own, or train2017's, which are fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from profi.data.coco2017 import SOURCE, Coco2017, Meter, Source, default_cache, silent
from profi.download import sha256_of
from profi.settings import shipped_path

SHOWN = 16  # hex digits of a hash, enough to tell files apart


class CocoFiles(NamedTuple):
    """The pictures' folder, their instances and their captions."""

    root: Path
    annotations: Path
    image_captions: Path


def coco_files(
    chosen: Mapping[str, str], meter: Meter = silent, source: Source = SOURCE
) -> CocoFiles:
    """The files that `chosen` names by CocoFiles' fields; what it leaves empty is fetched.

    `chosen["cache"]` is where to (empty: the user's cache folder).

    Raises:
        UserError: what cannot be had; see `Coco2017`.
    """
    cache = Path(chosen["cache"]).expanduser() if chosen["cache"] else default_cache()
    data = Coco2017(cache, source, "train2017")

    def own(name: str) -> Path | None:
        return shipped_path(chosen[name]) if chosen[name] else None

    # The small files first: what is wrong with them shows before a long download.
    annotations = own("annotations") or data.fetched_annotations(meter)
    captions = own("image_captions") or data.fetched_annotations(meter, "captions")
    return CocoFiles(own("root") or data.fetched_images(meter), annotations, captions)


def coco_fingerprint(
    files: CocoFiles, crop_captions: Path | None, instances: int, side: int, min_share: float
) -> dict[str, object]:
    """What MSCOCO's samples depend on: its files (except the pictures), the number of instances
    that they gave, and the squares. `crop_captions` is None for a training without.
    """
    return {
        "annotations": sha256_of(files.annotations)[:SHOWN],
        "image_captions": sha256_of(files.image_captions)[:SHOWN],
        "crop_captions": sha256_of(crop_captions)[:SHOWN] if crop_captions else "none",
        "instances": instances,
        "side": side,
        "min_share": min_share,
    }
