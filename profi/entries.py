"""What the catalogue holds: an entry per kind, and shelves of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from profi.types import UserError

#: An object, or its place as "module:name".
Target = str | Callable[..., Any]


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
