"""The catalogue of methods, inpainters, metrics, data sets and figures by name.

Entries are loaded on first use, so importing this module is fast. A plugin is a module with a
function `register(catalogue)`; it is named by `plugins=[module]` or by an entry point of the group
`profi.plugins` (docs/extending.md).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from profi.types import UserError

#: An object, or its place as "module:name".
Target = str | Callable[..., Any]
GROUP = "profi.plugins"


def loaded(target: Any) -> Any:
    """The object that a target names."""
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class Entry:
    """One entry of the catalogue.

    Fields:
        name: the name on the command line.
        target: the function that builds it; the subclasses state its signature.
        label: the name in tables; if empty, `name`.
        settings: the dataclass of a plugin's own settings, which are set by `own.NAME.KEY=value`.
    """

    name: str
    target: Target
    label: str = ""
    settings: Any = None

    def load(self) -> Any:
        """The target's object."""
        return loaded(self.target)

    @property
    def module(self) -> str:
        """The module that defines the target."""
        if isinstance(self.target, str):
            return self.target.partition(":")[0]
        return self.target.__module__

    def section(self) -> type | None:
        """The class of its own settings, or None."""
        return loaded(self.settings) if self.settings is not None else None


@dataclass(frozen=True)
class MethodEntry(Entry):
    """A method: `target(reading, **sections)` gives a `Build` (`profi.method.methods`).

    `reads` are the reading's fields that it uses, without those of the masks. `takes` are the other
    settings sections that it gets; it always gets its own section.
    """

    reads: tuple[str, ...] = ()
    takes: Mapping[str, Any] = field(default_factory=dict)

    def sections(self) -> dict[str, type]:
        """The classes of the sections that it gets, by name."""
        found = {name: loaded(target) for name, target in self.takes.items()}
        own = self.section()
        return found if own is None else found | {self.name: own}


@dataclass(frozen=True)
class InpainterEntry(Entry):
    """A value of `model.inpainter=`: `target(context)` gives a `Row` (`profi.harness.rows`).

    `ablated`: it paints with any method; the others have only the ablation base.
    """

    ablated: bool = False


@dataclass(frozen=True)
class MetricEntry(Entry):
    """A metric: `target(context)` gives a `Metric` (`profi.harness.build_metrics`).

    `decimals`: digits in tables. `higher_is_better`: whether a larger value is better.
    `hit_or_miss`: a sample scores 100 or 0. `identity(context)`: the part of the scores' identity
    that must match the current settings.
    """

    decimals: int = 3
    higher_is_better: bool = True
    hit_or_miss: bool = False
    identity: Target | None = None


@dataclass(frozen=True)
class DataEntry(Entry):
    """A value of `data.source=`: `target(context)` gives `Candidates` (`profi.harness.build_data`).

    `images(data)`: the folder of the triplets' `file_name`s.
    """

    images: Target | None = None


@dataclass(frozen=True)
class FigureEntry(Entry):
    """A figure: `target(context)` gives a `Drawing` (`profi.figures.drawing`).

    Where conf/figure has a file of its name, this is its data and models on the embedded world.
    `needs`: a setting without which `profi figure all` leaves it out.
    """

    needs: str = ""


E = TypeVar("E", bound=Entry)


class Shelf(Generic[E]):
    """The entries of one kind, in the order of their registration."""

    def __init__(self, kind: str, entries: Iterable[E], aliases: Mapping[str, str]) -> None:
        self.kind, self.aliases = kind, dict(aliases)
        self._entries = {entry.name: entry for entry in entries}

    def add(self, entry: E) -> None:
        """Register an entry; UserError if its name is taken."""
        if entry.name in self._entries and self._entries[entry.name] != entry:
            raise UserError(f"{self.kind} {entry.name} is already registered; choose another name")
        self._entries[entry.name] = entry

    def get(self, name: str, key: str = "") -> E:
        """An entry by its name or alias; UserError with `key` for an unknown name."""
        found = self._entries.get(self.aliases.get(name, name))
        if found is None:
            known = ", ".join([*self._entries, *self.aliases])
            raise UserError(f"{key or self.kind}={name}: choose one of {known}")
        return found

    def names(self) -> tuple[str, ...]:
        """All names, without aliases."""
        return tuple(self._entries)

    def entries(self) -> tuple[E, ...]:
        """All entries."""
        return tuple(self._entries.values())

    def label(self, name: str) -> str:
        """The label in tables; a name that is not registered is its own label."""
        entry = self._entries.get(name)
        return entry.label or name if entry is not None else name

    def rank(self, name: str) -> int:
        """The place in the order of registration; unknown names come last."""
        names = list(self._entries)
        return names.index(name) if name in names else len(names)


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
