"""Which files of MSCOCO a training reads: a user's own, or train2017's, which are fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from profi.data.coco2017 import SOURCE, Coco2017, Meter, Source, default_cache, silent
from profi.settings import shipped_path


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
