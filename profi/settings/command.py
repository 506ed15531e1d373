"""A whole command: all sections, and what is run of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from profi.settings.data import DataConfig
from profi.settings.evaluation_schema import EvaluationConfig
from profi.settings.fields import check_fields, choice, number
from profi.settings.method import (
    AblationConfig,
    RASGConfig,
    ReadingConfig,
    SamplingConfig,
    VanillaConfig,
    canonical_ablation,
)
from profi.settings.metric import MetricConfig
from profi.settings.model import ABLATED, ModelConfig
from profi.types import UserError

STAGES = ("generate", "score", "report", "all")


MAX_SEED = 2**63 - 1


@dataclass
class LoggerConfig:
    """Where progress is told; every run also writes its own `run.log`.

    `wandb` tells Weights & Biases too: `project` and `entity` (null: the user's own) say where,
    `mode=offline` keeps it in the folder `wandb` of `out` for `wandb sync`; `pictures` triplets of
    each run are shown, the same ones of all runs of the same data.
    """

    name: str = choice("console", "wandb")
    level: str = choice("info", "debug", "warning", "error")
    project: str = "profi"
    entity: str | None = None
    mode: str = choice("online", "offline")
    pictures: int = number(32, at_least=0)

    def __post_init__(self) -> None:
        check_fields("logger", self)
        if not self.project:
            raise UserError("logger.project= is empty: name the project that the runs go to")


@dataclass
class ReportConfig:
    """What the report shows: so many triplets can be browsed in its gallery (null: all of them)."""

    gallery: int | None = number(1000, at_least=0, or_null=True)

    def __post_init__(self) -> None:
        check_fields("report", self)


@dataclass
class Config:
    """One command: a model, a method, data, metrics, and which stages to run.

    `ablations` and `seeds`, where not empty, make one process run every pair of them (that is what
    an experiment is) in place of the single `ablation` and `seed`; of `ablations` a model runs
    those that it has. `models`, named as `model`'s options are, does so for every one of them in
    place of `model`, one after the other. `shard=i/n` takes parts i, i+n, ... (counted from 1) of
    the `part_size` triplets each that the manifest is cut into.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    models: dict[str, ModelConfig] = field(default_factory=dict)
    ablation: AblationConfig = field(default_factory=AblationConfig)
    data: DataConfig = field(default_factory=DataConfig)
    metric: MetricConfig = field(default_factory=MetricConfig)
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    rasg: RASGConfig = field(default_factory=RASGConfig)
    vanilla: VanillaConfig = field(default_factory=VanillaConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    stage: str = choice("all", *STAGES[:-1])
    seed: int = number(0, at_least=0)
    seeds: list[int] = field(default_factory=list)
    ablations: list[str] = field(default_factory=list)
    shard: str = "1/1"
    part_size: int = number(16, at_least=1)
    out: str = "outputs"
    name: str | None = None

    def __post_init__(self) -> None:
        check_fields("", self)
        parse_shard(self.shard)
        ablations = [canonical_ablation("ablations", name) for name in self.ablations]
        for key, values in (("ablations", ablations), ("seeds", self.seeds)):
            if len(set(values)) != len(values):
                raise UserError(f"{key}={values}: one of them is named twice")
        if any(seed < 0 for seed in self.seeds):
            raise UserError(f"seeds={self.seeds}: every seed must be at least 0")
        # They are stored as 64-bit integers.
        largest = max([self.seed, *self.seeds])
        if largest > MAX_SEED:
            raise UserError(f"seed={largest}: must be at most {MAX_SEED}")
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
                    f"model {one.id} has no ablation {', '.join(self._ablations)}: the modules are "
                    f"for inpainter={ABLATED}, this is {one.inpainter}; choose ablation=base"
                )

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
        names = self.ablations or [self.ablation.name]
        return [canonical_ablation("ablations", name) for name in names]


def parse_shard(text: str) -> tuple[int, int]:
    """`"2/8"` -> (1, 8): the zero-based index and the count of the shards."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise UserError(f"shard={text}: write shard=i/n with 1 <= i <= n, for instance shard=1/4")
    return int(index) - 1, int(count)
