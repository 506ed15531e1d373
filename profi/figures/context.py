"""What a figure's function gets: the command, its paintings, and how it chooses among them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from rich.console import Console

from profi.figures.drawing import Pick
from profi.figures.pool import Pool, read_or_paint
from profi.harness.build_data import load_triplets
from profi.harness.build_metrics import load_detector
from profi.harness.rows import load_rows
from profi.harness.run_status import Entry
from profi.harness.runs import Command, Run, context_of, runs_of
from profi.method.inpainting import StableInpainting
from profi.metrics import Detector
from profi.reports.names import RowKey
from profi.settings import Config
from profi.types import Triplet, UserError


@dataclass
class FigureContext:
    """The arguments of a figure's function; it collects what the figure shows.

    `entries` are runs of the stores, and `painted` those of which it painted some pictures itself;
    `facts` are further ones for the caption.

    `drawn_as` is the name of another figure whose examples this one shows.
    """

    command: Command
    console: Console
    entries: list[Entry] = field(default_factory=list)
    painted: list[Run] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    drawn_as: str = ""

    @property
    def config(self) -> Config:
        """The settings."""
        return self.command.config

    @property
    def name(self) -> str:
        """The figure's name."""
        return self.config.figure.name

    def of_one_model(self, *ablations: str) -> Config:
        """The settings with one model and these ablations.

        Of several models the last one that has them all; UserError if none has.
        """
        for one in reversed(self.config.per_model):
            if set(ablations) <= set(one.model.ablations):
                return replace(one, ablations=list(ablations))
        raise UserError(
            f"figure {self.name} shows {', '.join(ablations)}: choose a model that has them, such "
            "as model=mini"
        )

    def pool(self, *configs: Config) -> Pool:
        """The paintings of these settings, see `read_or_paint`."""
        pool = read_or_paint(self.command, configs, self.console)
        self.entries += pool.statuses
        return pool

    def runs(self, config: Config) -> list[Run]:
        """The runs of a model's settings."""
        return runs_of(replace(self.command, config=config))

    def key(self, config: Config) -> RowKey:
        """The row of settings with one model and one ablation."""
        return self.runs(config)[0].key

    def inpainters(self, config: Config) -> dict[str, StableInpainting]:
        """The model with each of its ablations, to look into the painting."""
        rows = load_rows(context_of(config), [run.method for run in self.runs(config)])
        found = {name: row for name, row in rows.items() if isinstance(row, StableInpainting)}
        if len(found) < len(rows):
            raise UserError(
                f"figure {self.name} looks into the sampling: choose a model with "
                "inpainter=stable_inpainting, such as model=mini"
            )
        return found

    def triplets(self, config: Config) -> tuple[Triplet, ...]:
        """The triplets of the settings, without painting them."""
        own = config.sections.get(config.data.source)
        return load_triplets(config.data, self.console, config.evaluation, own)[0]

    @cached_property
    def detector(self) -> Detector:
        """The detector of the metric accuracy."""
        config = self.config
        return load_detector(config.metric, config.per_model[0].model.device, config.evaluation)

    def choose(
        self,
        candidates: Iterable[Pick],
        prompt: Callable[[Pick], str],
        count: int,
        every: Iterable[Pick],
        ordered: bool = False,
    ) -> list[Pick]:
        """`figure.examples` or `count` of the candidates; those of `figure.select`, if it is set.

        The candidates are put in order by `in_order`, unless they are `ordered` already.

        Raises:
            UserError: there is no candidate, or `figure.select` names none of `every`.
        """
        chosen = self.config.figure
        every = list(every)
        if not every:
            raise UserError(
                f"figure {self.name}: the settings have no triplet that it could show: choose "
                "other data or metrics"
            )
        if chosen.select:
            return [self._named(text, every) for text in chosen.select]
        found = list(candidates) if ordered else self.in_order(candidates, prompt)
        if not found:
            raise UserError(
                f"figure {self.name}: no painted triplet fits its rule; paint more with data.limit "
                "or seeds, or name some with figure.select=[...]"
            )
        # Who gives an order has also applied figure.examples.
        return found[: count if ordered else chosen.examples or count]

    def in_order(self, candidates: Iterable[Pick], prompt: Callable[[Pick], str]) -> list[Pick]:
        """The candidates drawn (`drawn`) and spread over the prompts (`spread`)."""
        name = self.drawn_as or self.name
        return spread(drawn(candidates, name, self.config.figure.draw), prompt)

    def rule(self, text: str) -> str:
        """The rule's text: the given one, or that the examples were named."""
        if self.config.figure.select:
            return "Named by figure.select, not by a rule."
        return f"{text} {self.order}"

    @property
    def order(self) -> str:
        """The order in which examples are drawn, in words."""
        text = f"{self.config.figure.draw}:{self.drawn_as or self.name}:ID:SEED"
        return f'Drawn in the order of SHA-256("{text}"), each prompt once before any comes twice.'

    def _named(self, text: str, every: Sequence[Pick]) -> Pick:
        name, _, seed = text.partition("@")
        for pick in every:
            if pick.triplet_id == name and seed in ("", str(pick.seed)):
                return pick
        raise UserError(
            f"figure.select={text}: none of the {len(every)} painted triplets has this name; write "
            f"ID or ID@SEED, such as {every[0].text}"
        )


def drawn(picks: Iterable[Pick], name: str, draw: int) -> list[Pick]:
    """The picks in the order of the SHA-256 of "<draw>:<figure's name>:<triplet id>:<seed>"."""

    def place(pick: Pick) -> bytes:
        text = f"{draw}:{name}:{pick.triplet_id}:{pick.seed}"
        return hashlib.sha256(text.encode()).digest()

    return sorted(picks, key=place)


def spread(picks: Sequence[Pick], prompt: Callable[[Pick], str]) -> list[Pick]:
    """The picks in their order, but each prompt once before any comes twice."""
    seen: Counter[str] = Counter()
    turns = []
    for pick in picks:
        turns.append(seen[prompt(pick)])
        seen[prompt(pick)] += 1
    return [pick for _, pick in sorted(zip(turns, picks, strict=True), key=lambda pair: pair[0])]
