"""The data."""

from __future__ import annotations

from dataclasses import dataclass

from profi.settings.fields import check_fields, choice, number
from profi.settings.paths import SHIPPED
from profi.types import UserError


@dataclass
class DataConfig:
    """The benchmark's triplets (image, mask, prompt), and which of them are painted.

    `source` is how they are given: `coco` are instances of any file of MSCOCO's format, hulled
    (`root` the images' folder, `annotations` the file); `coco2017` are those of val2017, each of
    `root` and `annotations` fetched into `cache` where it is empty (null: the user's cache folder);
    `folder` is one's own set (`root` holds images/, masks/ and prompts.csv).

    `sample=released` (of coco2017) takes the published list, fetched or from `sample_path`;
    `sample=seeded` takes all instances whose hulls have `min_area` square pixels. Of either,
    `limit` are drawn by `sample_seed` (null: all); with `evaluation.order=list` they are the
    published list's first ones.
    """

    name: str = "mini"
    source: str = choice("coco", "coco2017", "folder")
    root: str = f"{SHIPPED}cpu/data/images"
    annotations: str = f"{SHIPPED}cpu/data/instances_val.json"
    cache: str | None = None
    sample: str = choice("seeded", "released")
    sample_path: str | None = None
    limit: int | None = number(None, at_least=1, or_null=True)
    sample_seed: int = number(0, at_least=0)
    min_area: float = number(1.0, at_least=0)

    def __post_init__(self) -> None:
        check_fields("data", self)
        if self.source == "coco":
            self._require("root", "the images' folder")
            self._require("annotations", "an instances JSON")
        if self.source == "folder":
            self._require("root", "a folder with images/, masks/ and prompts.csv")
            if self.annotations:
                raise UserError("data.annotations: data.source=folder has none; leave it empty")
        if self.sample == "released" and self.source != "coco2017":
            raise UserError(
                "data.sample=released: that list is of val2017 alone; use data=coco2017 or "
                "data.sample=seeded"
            )
        if self.sample_path is not None and self.sample != "released":
            raise UserError(
                f"data.sample_path={self.sample_path}: it is a copy of the published list; "
                "use it with data=coco2017 data.sample=released"
            )
        if self.cache == "":
            raise UserError("data.cache= is empty: name a folder, or null for the user's own")

    def _require(self, key: str, what: str) -> None:
        if not getattr(self, key):
            raise UserError(f"data.{key} is not set: name {what} by data.{key}=...")
