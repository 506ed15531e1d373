"""A whole command: all sections, and what is run of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from profi.catalogue import catalogue
from profi.settings.data import DataConfig
from profi.settings.evaluation import Evaluation
from profi.settings.fields import build, changed, check_fields, setting
from profi.settings.method import AblationConfig, RASGSettings, Sampling, VanillaSettings
from profi.settings.metric import MetricConfig
from profi.settings.model import ModelConfig
from profi.settings.reading import DEFAULT_READING, READINGS, Reading
from profi.types import UserError

#: Seeds are stored as 64-bit integers.
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class LoggerConfig:
    """Where progress is logged; every run also writes its own `run.log`."""

    name: Literal["console", "wandb"] = setting("console", "the terminal, or Weights & Biases too")
    level: Literal["info", "debug", "warning", "error"] = setting("info", "of the terminal's lines")
    project: str = setting("profi", "of W&B")
    entity: str | None = setting(None, "of W&B; null: the user's own")
    mode: Literal["online", "offline"] = setting(
        "online", "offline keeps it in the folder wandb of out, for `wandb sync`"
    )
    pictures: int = setting(32, "triplets of each run that W&B shows, the same in all", at_least=0)

    def __post_init__(self) -> None:
        check_fields("logger", self)
        if not self.project:
            raise UserError("logger.project= is empty: name the project that the runs go to")


@dataclass(frozen=True)
class ReportConfig:
    """What the report shows."""

    gallery: int | None = setting(
        1000, "so many triplets can be browsed in its gallery; null: all", at_least=0
    )

    def __post_init__(self) -> None:
        check_fields("report", self)


def _default_reading() -> Reading:
    return READINGS[DEFAULT_READING]


@dataclass(frozen=True)
class Config:
    """One command: a model, a method, data, metrics, and which stages to run.

    `ablations` and `seeds`, where not empty, make one process run every pair of them (that is what
    an experiment is) in place of the single `ablation` and `seed`; of `ablations` a model runs
    those that it has. `models`, named as `model`'s options are, does so for every one of them in
    place of `model`, one after the other.
    """

    model: ModelConfig = setting(ModelConfig, "what paints")
    models: dict[str, ModelConfig] = setting({}, "several, one after the other")
    ablation: AblationConfig = setting(AblationConfig, "the method")
    data: DataConfig = setting(DataConfig, "the triplets")
    metric: MetricConfig = setting(MetricConfig, "the metrics")
    reading: Reading = setting(_default_reading, "how the paper is read")
    evaluation: Evaluation = setting(Evaluation, "the protocol, apart from the method")
    rasg: RASGSettings = setting(RASGSettings, "of RASG")
    vanilla: VanillaSettings = setting(VanillaSettings, "of vanilla_only")
    own: dict[str, Any] = setting({}, "settings of plugins, by their names: own.NAME.KEY=value")
    logger: LoggerConfig = setting(LoggerConfig, "where progress goes")
    report: ReportConfig = setting(ReportConfig, "what the report shows")
    sampling: Sampling = setting(Sampling, "how the diffusion is sampled")
    stage: Literal["all", "generate", "score", "report"] = setting("all", "what is run")
    seed: int = setting(0, "of the run", at_least=0, at_most=MAX_SEED)
    seeds: list[int] = setting([], "several, in place of seed")
    ablations: list[str] = setting([], "several, in place of ablation")
    shard: str = setting("1/1", "i/n: this process takes parts i, i+n, ... (counted from 1)")
    part_size: int = setting(16, "triplets of a part, into which the manifest is cut", at_least=1)
    out: str = setting("outputs", "the folder of all runs")
    name: str | None = setting(None, "of the experiment: its report's folder")
    plugins: list[str] = setting([], "modules that register methods, rows, metrics, data sets")

    def __post_init__(self) -> None:
        check_fields("", self)
        parse_shard(self.shard)
        object.__setattr__(self, "ablations", [method(name) for name in self.ablations])
        for key, values in (("ablations", self.ablations), ("seeds", self.seeds)):
            if len(set(values)) != len(values):
                raise UserError(f"{key}={values}: one of them is named twice")
        if any(seed < 0 for seed in self.seeds):
            raise UserError(f"seeds={self.seeds}: every seed must be at least 0")
        largest = max([self.seed, *self.seeds])
        if largest > MAX_SEED:
            raise UserError(f"seed={largest}: must be at most {MAX_SEED}")
        for name, values in self.own.items():
            self.section(name, values)
        if not self.out:
            raise UserError("out= is empty: name the folder that the runs go to")
        if self.name is not None and (
            self.name in ("", ".", "..") or Path(self.name).name != self.name
        ):
            raise UserError(f"name={self.name}: must be a plain name, it becomes a folder")

        ids = [model.id for model in self.models.values()]
        if len(set(ids)) != len(ids):
            raise UserError(f"models={list(self.models)}: two of them have one id")
        for one in self.models.values() or [self.model]:
            if not set(self._ablations) & set(one.ablations):
                raise UserError(
                    f"model {one.id} has no ablation {', '.join(self._ablations)}: methods are for "
                    f"inpainter=stable_inpainting, this is {one.inpainter}; choose ablation=base"
                )

    @property
    def reading_label(self) -> str:
        """The reading's name, followed by what was changed in it and of the methods.

        For instance `paper, eta=0.05, every=2`.
        """
        told = {**self.reading.changes, **changed(self.rasg)}
        told |= {f"vanilla_{name}": value for name, value in changed(self.vanilla).items()}
        painting = (*catalogue.methods.names(), *catalogue.inpainters.names())
        for name in self.own:
            if name in painting:
                told |= {f"{name}.{key}": v for key, v in changed(self.section(name)).items()}
        return ", ".join([self.reading.name, *(f"{name}={value}" for name, value in told.items())])

    @property
    def sections(self) -> dict[str, Any]:
        """The sections that methods are given, by name."""
        own = {name: self.section(name) for name in self.own}
        return {"rasg": self.rasg, "vanilla": self.vanilla, **own}

    @property
    def per_model(self) -> list[Config]:
        """These settings once per model."""
        return [replace(self, model=model, models={}) for model in self.models.values()] or [self]

    @property
    def wanted(self) -> list[tuple[str, int]]:
        """The (ablation, seed) pairs of this command's one model, ablations outermost.

        Of several ablations, those that the model has.
        """
        return [
            (name, seed)
            for name in self._ablations
            if name in self.model.ablations
            for seed in (self.seeds or [self.seed])
        ]

    @property
    def left_out(self) -> list[str]:
        """Those of the command's ablations that its one model does not have."""
        return [name for name in self._ablations if name not in self.model.ablations]

    @property
    def _ablations(self) -> list[str]:
        return self.ablations or [method(self.ablation.name)]

    def section(self, name: str, values: Mapping[str, Any] | None = None) -> Any:
        """A plugin's own settings; UserError for a name without any."""
        shelves = (catalogue.methods, catalogue.inpainters, catalogue.metrics, catalogue.data)
        for shelf in shelves:
            if name in shelf.names():
                found = shelf.get(name).section()
                if found is not None:
                    return build(found, values if values is not None else self.own.get(name, {}))
        raise UserError(f"own.{name}: nothing of that name has settings of its own; add its plugin")


def method(name: str) -> str:
    """The one spelling of a method's name; UserError for an unknown one."""
    return catalogue.methods.get(name, "ablations").name


def parse_shard(text: str) -> tuple[int, int]:
    """`"2/8"` -> (1, 8): the zero-based index and the count of the shards."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise UserError(f"shard={text}: write shard=i/n with 1 <= i <= n, for instance shard=1/4")
    return int(index) - 1, int(count)
