"""What the page and the studio say to each other: orders in, progress and pictures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from profi.catalogue import catalogue
from profi.ui.painter.settings import Settings


@dataclass(frozen=True)
class Order:
    """One call: the names of a kept picture and mask, and the settings."""

    picture: str
    mask: str
    settings: Settings


@dataclass(frozen=True)
class Progress:
    """`step` of `total` is done; `previews` are (label, WebP bytes) since the last one that had."""

    step: int
    total: int
    label: str
    previews: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True)
class Painted:
    """A finished picture: its name in the store, and how it was made."""

    name: str
    ablation: str
    seed: int
    facts: Mapping[str, Any] = field(repr=False)

    @property
    def label(self) -> str:
        """For people."""
        return f"{catalogue.methods.label(self.ablation)}, seed {self.seed}"


@dataclass(frozen=True)
class Result:
    """The finished pictures of an order, the variants of a method one after the other.

    They are all of them unless the order was cancelled. `centre` is the mask's, as a share of the
    width.
    """

    order: Order
    pictures: tuple[Painted, ...]
    seconds: float
    centre: float = 0.5


@dataclass(frozen=True)
class Waiting:
    """The order starts after `before` others; 0: it runs."""

    before: int


Event = Waiting | Progress | Result
