"""The catalogue of methods, inpainters, metrics, data sets and figures by name.

Entries are loaded on first use, so importing this module is fast. A plugin is a module with a
function `register(catalogue)`; it is named by `plugins=[module]` or by an entry point of the group
`profi.plugins` (docs/extending.md).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any

from profi.entries import (
    DataEntry,
    FigureEntry,
    InpainterEntry,
    MethodEntry,
    MetricEntry,
    Shelf,
    loaded,
)
from profi.types import UserError

__all__ = [
    "Catalogue",
    "DataEntry",
    "FigureEntry",
    "InpainterEntry",
    "MethodEntry",
    "MetricEntry",
    "Shelf",
    "catalogue",
    "loaded",
]

GROUP = "profi.plugins"
_SETTINGS = "profi.settings"
_RASG = {"rasg": f"{_SETTINGS}.method:RASGSettings"}
_OF_PAINTA = ("query", "smoothing", "active", "c_gradient")
_OF_OBJECTIVE = ("offset", "reduction", "vanished_mask")
_OF_RASG = (*_OF_OBJECTIVE, "sigma", "eta")


class Catalogue:
    """All entries; the built-in ones come first, in the paper's order."""

    def __init__(self) -> None:
        methods = "profi.method"
        self.methods = Shelf(
            "ablation",
            (
                MethodEntry("base", f"{methods}.methods:base", "base"),
                MethodEntry(
                    "painta_only", f"{methods}.painta:painta_only", "only PAIntA", reads=_OF_PAINTA
                ),
                MethodEntry(
                    "rasg_only",
                    f"{methods}.rasg:rasg_only",
                    "only RASG",
                    reads=_OF_RASG,
                    takes=_RASG,
                ),
                MethodEntry(
                    "profi",
                    f"{methods}.rasg:profi",
                    "RASG & PAIntA",
                    reads=(*_OF_PAINTA, *_OF_RASG),
                    takes=_RASG,
                ),
                MethodEntry(
                    "vanilla_only",
                    f"{methods}.vanilla:vanilla_only",
                    "only vanilla guidance",
                    reads=_OF_OBJECTIVE,
                    takes={**_RASG, "vanilla": f"{_SETTINGS}.method:VanillaSettings"},
                ),
            ),
            {"paintan_only": "painta_only"},
        )
        rows = "profi.harness.rows"
        self.inpainters = Shelf(
            "model.inpainter",
            (
                InpainterEntry("stable_inpainting", f"{rows}:stable_inpainting", ablated=True),
                *(
                    # Their settings are sections of `ModelConfig`.
                    InpainterEntry(name, f"{rows}:{name}")
                    for name in (
                        "blended_latent_diffusion",
                        "sdxl_inpainting",
                        "controlnet",
                        "glide",
                        "smartbrush",
                    )
                ),
            ),
            {},
        )
        built = "profi.harness.build_metrics"

        def accuracy(name: str, label: str) -> MetricEntry:
            target, identity = f"{built}:accuracy", f"{built}:accuracy_identity"
            return MetricEntry(name, target, label, decimals=2, hit_or_miss=True, identity=identity)

        self.metrics = Shelf(
            "metric.metrics",
            (
                MetricEntry(
                    "clip_score",
                    f"{built}:clip_score",
                    "CLIP score",
                    decimals=2,
                    identity=f"{built}:clip_identity",
                ),
                accuracy("accuracy", "Accuracy, %"),
                MetricEntry(
                    "aesthetic",
                    f"{built}:aesthetic",
                    "Aesthetic score",
                    identity=f"{built}:aesthetic_identity",
                ),
                MetricEntry(
                    "known_region_psnr",
                    f"{built}:known_region_psnr",
                    "Known region, dB",
                    decimals=2,
                ),
                MetricEntry(
                    "known_region_lpips",
                    f"{built}:known_region_lpips",
                    "Known region, LPIPS",
                    decimals=4,
                    higher_is_better=False,
                ),
                MetricEntry("pick_score", f"{built}:pick_score", "PickScore"),
                accuracy("accuracy_mmdet", "Accuracy by RTMDet, %"),
                accuracy("accuracy_transformers", "Accuracy by transformers, %"),
            ),
            {},
        )
        read = "profi.harness.build_data"
        self.data = Shelf(
            "data.source",
            tuple(
                DataEntry(name, f"{read}:read_{name}", images=f"{read}:images_of_{name}")
                for name in ("coco", "coco2017", "folder", "brushbench", "editbench")
            ),
            {},
        )
        needs = {"12": "figure.votes", **dict.fromkeys(("13", "14", "20", "21"), "data.root")}
        self.figures = Shelf(
            "figure",
            tuple(
                FigureEntry(
                    name,
                    f"profi.figures.{target}",
                    label,
                    needs=needs.get(name, ""),
                )
                for name, target, label in (
                    ("3", "similarity:figure_3", "Self-attention without and with PAIntA"),
                    ("5", "side_by_side:figure_5", "Methods, by how the base fails"),
                    ("6", "side_by_side:figure_6", "Ablation of PAIntA"),
                    ("7", "side_by_side:figure_7", "Ablation of RASG"),
                    ("8", "guidance_scales:figure_8", "Vanilla guidance and RASG"),
                    ("9", "objectives:figure_9", "Objectives of RASG"),
                    ("10", "gradients:figure_10", "The gradient's values"),
                    ("11", "gradients:figure_11", "The gradient's values, standardised"),
                    ("12", "study_votes:figure_12", "Votes of the user study"),
                    ("13", "enlargements:figure_13", "High resolution step by step"),
                    ("14", "enlargements:figure_14", "Ways to enlarge"),
                    ("15", "hard_sets:figure_15", "Many objects of the prompt's kind"),
                    ("16", "hard_sets:figure_16", "Masks of two parts"),
                    ("17", "failures:figure_17", "Failures, by score"),
                    ("18", "side_by_side:figure_18", "More of the methods"),
                    ("19", "side_by_side:figure_19", "The methods, drawn at random"),
                    ("20", "enlargements:figure_20", "The upscaler alone and with eq. 16"),
                    ("21", "enlargements:figure_21", "More of the upscaler"),
                    ("22", "galleries:figure_22", "More results"),
                    ("23", "galleries:figure_23", "More results, large"),
                    ("24", "galleries:figure_24", "More results, large"),
                    ("25", "galleries:figure_25", "More results, large"),
                )
            ),
            {},
        )
        self._plugins: set[str] = set()

    @property
    def shelves(self) -> tuple[Shelf[Any], ...]:
        """All kinds of entries."""
        return self.methods, self.inpainters, self.metrics, self.data, self.figures

    def add_plugin(self, name: str) -> None:
        """Import a plugin and let it register its entries, once.

        Raises UserError if there is no such module or it has no function `register`.
        """
        if name in self._plugins:
            return
        if not all(part.isidentifier() for part in name.split(".")):
            raise UserError(
                f"plugins={name}: give a module's name, such as my_package.my_plugin, not a file's"
            )
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise UserError(
                f"plugins={name}: this module cannot be imported ({error}); install it or set "
                "PYTHONPATH"
            ) from error
        register = getattr(module, "register", None)
        if not callable(register):
            raise UserError(f"plugins={name}: the module has no function register(catalogue)")
        register(self)
        self._plugins.add(name)

    def add_plugins(self, names: Iterable[str]) -> None:
        """Add the installed plugins and these: settings may name only what is registered."""
        self.add_installed_plugins()
        for name in names:
            self.add_plugin(name)

    def add_installed_plugins(self) -> None:
        """Add the plugins of the installed entry points."""
        for point in entry_points(group=GROUP):
            self.add_plugin(point.value.partition(":")[0])


#: The catalogue of this process; plugins register in it.
catalogue = Catalogue()
