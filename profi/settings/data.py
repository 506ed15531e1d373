"""The settings of the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from profi.catalogue import catalogue
from profi.settings.fields import changed, check_fields, setting
from profi.settings.paths import SHIPPED
from profi.types import UserError

BrushBenchMask = Literal["inpainting", "outpainting"]
EditBenchPrompt = Literal["full", "mask_simple", "mask_rich"]

#: What `data.root` must be, for data sets that have all their files in it.
_OWN_LAYOUTS = {
    "folder": "a folder with images/, masks/ and prompts.csv",
    "brushbench": "BrushBench's folder, with mapping_file.json",
    "editbench": "EditBench's folder, with annotations_natural.csv",
}


@dataclass(frozen=True)
class DataConfig:
    """The benchmark's triplets (image, mask, prompt), and which of them are painted.

    `coco`: the hulls of the instances of any file in MSCOCO's format. `coco2017`: those of val2017;
    files are downloaded if `root` or `annotations` is empty. `folder`: a user's own data set, with
    images/, masks/ and prompts.csv in `root`. `brushbench`, `editbench`: these sets in their own
    layouts, in `root`.
    """

    name: str = setting("mini", "label of the data")
    source: str = setting(
        "coco",
        "a data set of the catalogue: coco, coco2017, folder, brushbench, editbench or a plugin's",
    )
    root: str = setting(
        f"{SHIPPED}cpu/data/images", "folder of the images, or of your own data set"
    )
    annotations: str = setting(f"{SHIPPED}cpu/data/instances_val.json", "an instances JSON")
    cache: str | None = setting(None, "folder of downloads; null: the user's cache folder")
    sample: Literal["seeded", "released"] = setting(
        "seeded", "all instances above min_area, or the published list (coco2017)"
    )
    sample_path: str | None = setting(None, "a copy of the published list; null: download it")
    limit: int | None = setting(
        None,
        "number of triplets, drawn by sample_seed; with evaluation.order=list the first of the "
        "published list; null: all",
        at_least=1,
    )
    sample_seed: int = setting(0, "seed of the draw", at_least=0)
    holes: Literal["one_hull", "hull_per_polygon"] = setting(
        "one_hull",
        "the mask of an instance with several polygons: one hull of all (the paper), or a hull of "
        "each (coco)",
    )
    brushbench_mask: BrushBenchMask = setting(
        "inpainting", "which of BrushBench's two masks is painted (brushbench)"
    )
    editbench_prompt: EditBenchPrompt = setting(
        "mask_simple",
        "which of EditBench's three prompts is used: the whole picture, or what is in the mask in "
        "few or many words (editbench)",
    )
    min_area: float = setting(
        1.0, "smallest area of a hull, in square pixels (sample=seeded)", at_least=0
    )

    def __post_init__(self) -> None:
        check_fields("data", self)
        catalogue.data.get(self.source)
        if self.source == "coco":
            self._require("root", "the images' folder")
            self._require("annotations", "an instances JSON")
        if self.source in _OWN_LAYOUTS:
            self._require("root", _OWN_LAYOUTS[self.source])
            if self.annotations:
                raise UserError(
                    f"data.annotations: data.source={self.source} uses none; leave it empty"
                )
        for key, source in (("brushbench_mask", "brushbench"), ("editbench_prompt", "editbench")):
            if key in changed(self) and self.source != source:
                raise UserError(f"data.{key}={getattr(self, key)} is for data={source} alone")
        if self.holes != "one_hull" and self.source != "coco":
            raise UserError(f"data.holes={self.holes} is for data=coco and data=mini alone")
        if self.sample == "released" and self.source != "coco2017":
            raise UserError(
                "data.sample=released: this list exists only for val2017; use data=coco2017 or "
                "data.sample=seeded"
            )
        if self.sample_path is not None and self.sample != "released":
            raise UserError(
                f"data.sample_path={self.sample_path}: this is for the published list; "
                "use it with data=coco2017 data.sample=released"
            )
        if self.cache == "":
            raise UserError("data.cache= is empty: name a folder, or null for the user's own")

    def _require(self, key: str, what: str) -> None:
        if not getattr(self, key):
            raise UserError(f"data.{key} is not set: give {what} with data.{key}=...")
