"""The settings of a whole command: all sections, and the stages to run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from profi.catalogue import catalogue
from profi.settings.data import DataConfig
from profi.settings.evaluation import Evaluation
from profi.settings.fields import build, changed, check_fields, setting
from profi.settings.highres import HIGHRES, NONE, HighRes, upscaler_source
from profi.settings.method import (
    DEFAULT_READING,
    READINGS,
    AblationConfig,
    RASGSettings,
    Reading,
    Sampling,
    VanillaSettings,
)
from profi.settings.metric import MetricConfig
from profi.settings.model import ModelConfig
from profi.types import MAX_SEED, UserError

#: submitit sets this variable in the processes of its jobs, on this machine and on Slurm.
QUEUED = "SUBMITIT_EXECUTOR"


@dataclass(frozen=True)
class LoggerConfig:
    """Where progress is logged. Every run also writes its own `run.log`."""

    name: Literal["console", "wandb"] = setting(
        "console", "the terminal alone, or Weights & Biases too"
    )
    level: Literal["info", "debug", "warning", "error"] = setting(
        "info", "level of the terminal's log lines"
    )
    project: str = setting("profi", "W&B project")
    entity: str | None = setting(None, "W&B entity; null: the user's own")
    mode: Literal["online", "offline"] = setting(
        "online", "offline: store the W&B data in the folder wandb of out, for `wandb sync`"
    )
    pictures: int = setting(
        32, "number of triplets that W&B shows per run, the same in all runs", at_least=0
    )

    def __post_init__(self) -> None:
        check_fields("logger", self)
        if not self.project:
            raise UserError("logger.project= is empty: name the W&B project of the runs")


@dataclass(frozen=True)
class ReportConfig:
    """What the report shows."""

    gallery: int | None = setting(
        1000, "number of triplets in the report's gallery; null: all", at_least=0
    )
    gallery_seeds: int | None = setting(
        None, "number of seeds in the gallery, the smallest first; null: all", at_least=1
    )

    def __post_init__(self) -> None:
        check_fields("report", self)


@dataclass(frozen=True)
class FigureConfig:
    """Which of the paper's figures the stage `figure` draws, and how."""

    name: str = setting("", "the figure's number in the paper, or its name in the catalogue")
    select: list[str] = setting(
        [], "show these triplets, ID or ID@SEED, in place of those that the figure's rule chooses"
    )
    examples: int | None = setting(
        None, "number of examples; null: the figure's own", at_least=1, at_most=100
    )
    draw: int = setting(0, "seed of the order in which a rule draws", at_least=0)
    colormap: Literal["jet", "cividis"] = setting(
        "jet", "colours of figure 3's maps: jet as the paper, or cividis, which is perceptual"
    )
    scenes: str | None = setting(
        None,
        "an instances JSON with all objects of the scenes, for the kinds of prompt neglect; null: "
        "data.annotations",
    )
    votes: str | None = setting(None, "a user study's votes, a CSV (figure 12)")

    def __post_init__(self) -> None:
        check_fields("figure", self)


def _default_reading() -> Reading:
    return READINGS[DEFAULT_READING]


def _no_highres() -> HighRes:
    return NONE


@dataclass(frozen=True)
class Config:
    """One command: a model, a method, data, metrics, and the stages to run.

    An experiment sets `ablations` and `seeds`. Then one process runs every pair of them, in place
    of the single `ablation` and `seed`; each model runs only the ablations that it has. With
    `models` all of this runs for each of the models, one after the other, in place of `model`.
    """

    model: ModelConfig = setting(ModelConfig, "the model")
    models: dict[str, ModelConfig] = setting({}, "several models, one after the other")
    ablation: AblationConfig = setting(AblationConfig, "the method")
    data: DataConfig = setting(DataConfig, "the triplets")
    metric: MetricConfig = setting(MetricConfig, "the metrics")
    reading: Reading = setting(_default_reading, "how the paper is read")
    evaluation: Evaluation = setting(Evaluation, "the protocol, without the method")
    rasg: RASGSettings = setting(RASGSettings, "settings of RASG")
    vanilla: VanillaSettings = setting(VanillaSettings, "settings of vanilla_only")
    own: dict[str, Any] = setting({}, "settings of plugins: own.NAME.KEY=value")
    logger: LoggerConfig = setting(LoggerConfig, "where progress is logged")
    report: ReportConfig = setting(ReportConfig, "what the report shows")
    figure: FigureConfig = setting(FigureConfig, "the figure to draw")
    sampling: Sampling = setting(Sampling, "how the diffusion is sampled")
    highres: HighRes = setting(
        _no_highres,
        "after painting, every picture is enlarged in high resolution by these settings and stored "
        "in the run's folder highres (docs/highres.md)",
    )
    upscaler: str | None = setting(
        None, "of highres: mini, x4, a folder or a repository; null: mini for the shipped model"
    )
    stage: Literal["all", "generate", "score", "report", "fetch", "check", "figure"] = setting(
        "all",
        "the stage to run; fetch gets data and weights, check also tries everything on one "
        "picture, figure draws a figure of the paper",
    )
    seed: int = setting(0, "seed of the run", at_least=0, at_most=MAX_SEED)
    seeds: list[int] = setting([], "several seeds, in place of seed")
    ablations: list[str] = setting([], "several ablations, in place of ablation")
    shard: str = setting("1/1", "i/n: this process does the parts i, i+n, ... (counted from 1)")
    workers: str = setting(
        "auto",
        "processes of this machine that share the parts; auto: one per GPU, or as many as the CPU "
        "has cores for, if the model sets its threads",
    )
    part_size: int = setting(16, "number of triplets per part of the manifest", at_least=1)
    out: str = setting("outputs", "the folder of all runs")
    name: str | None = setting(None, "name of the experiment and of its report's folder")
    plugins: list[str] = setting(
        [], "modules that register methods, inpainters, metrics and data sets"
    )

    def __post_init__(self) -> None:
        check_fields("", self)
        if self.upscaler is not None:
            upscaler_source(self.upscaler)
        if self.highres.name == "none" and self.highres.changes:
            key = min(self.highres.changes)
            raise UserError(f"highres.{key} has no effect without highres={' or '.join(HIGHRES)}")
        if self.stage != "figure" and (self.highres.crop, self.highres.long_side) != (None, None):
            raise UserError(
                "highres: stored pictures have their size: leave highres.crop and "
                "highres.long_side null"
            )
        parse_shard(self.shard)
        if self.workers != "auto" and not re.fullmatch(r"[1-9]\d{0,3}", self.workers):
            raise UserError(f"workers={self.workers}: write a number of processes, or auto")
        object.__setattr__(self, "ablations", [method(name) for name in self.ablations])
        for key, values in (("ablations", self.ablations), ("seeds", self.seeds)):
            if len(set(values)) != len(values):
                raise UserError(f"{key}={values}: a value is given twice; give each once")
        if any(seed < 0 for seed in self.seeds):
            raise UserError(f"seeds={self.seeds}: every seed must be at least 0")
        largest = max([self.seed, *self.seeds])
        if largest > MAX_SEED:
            raise UserError(f"seed={largest}: must be at most {MAX_SEED}")
        for name, values in self.own.items():
            self.section(name, values)
        if self.stage == "figure":
            if not self.figure.name:
                raise UserError(f"figure is not set: choose one of {figures_text()}")
            catalogue.figures.get(self.figure.name)
        if not self.out:
            raise UserError("out= is empty: name the folder of the runs")
        if self.name is not None and (
            self.name in ("", ".", "..") or Path(self.name).name != self.name
        ):
            raise UserError(f"name={self.name}: must be a plain folder name without slashes")

        ids = [model.id for model in self.models.values()]
        if len(set(ids)) != len(ids):
            raise UserError(f"models={list(self.models)}: two of them have the same id")
        for one in self.models.values() or [self.model]:
            if not set(self._ablations) & set(one.ablations):
                raise UserError(
                    f"model {one.id} has no ablation {', '.join(self._ablations)}: methods need "
                    f"inpainter=stable_inpainting, not {one.inpainter}; choose ablation=base"
                )

    @property
    def reading_label(self) -> str:
        """The reading's name and all changed settings of the reading and the methods.

        For instance `paper, eta=0.05, every=2`.
        """
        changes = {**self.reading.changes, **changed(self.rasg)}
        changes |= {f"vanilla_{name}": value for name, value in changed(self.vanilla).items()}
        painting = (*catalogue.methods.names(), *catalogue.inpainters.names())
        for name in self.own:
            if name in painting:
                changes |= {f"{name}.{key}": v for key, v in changed(self.section(name)).items()}
        return ", ".join(
            [self.reading.name, *(f"{name}={value}" for name, value in changes.items())]
        )

    @property
    def sections(self) -> dict[str, Any]:
        """The sections of RASG and of vanilla guidance and every plugin's own settings, by name."""
        own = {
            entry.name: self.section(entry.name)
            for shelf in catalogue.shelves
            for entry in shelf.entries()
            if entry.settings is not None
        }
        return {"rasg": self.rasg, "vanilla": self.vanilla, **own}

    @property
    def per_model(self) -> list[Config]:
        """The settings of each model's own command."""
        return [replace(self, model=model, models={}) for model in self.models.values()] or [self]

    @property
    def methods_and_seeds(self) -> list[tuple[str, int]]:
        """The (ablation, seed) pairs to run with this command's one model, ablations outermost.

        Ablations that the model does not have are left out.
        """
        return [
            (name, seed)
            for name in self._ablations
            if name in self.model.ablations
            for seed in (self.seeds or [self.seed])
        ]

    @property
    def left_out(self) -> list[str]:
        """The command's ablations that its one model does not have."""
        return [name for name in self._ablations if name not in self.model.ablations]

    @property
    def _ablations(self) -> list[str]:
        return self.ablations or [method(self.ablation.name)]

    def section(self, name: str, values: Mapping[str, Any] | None = None) -> Any:
        """A plugin's own settings; UserError for a name that has none."""
        for shelf in catalogue.shelves:
            if name in shelf.names():
                found = shelf.get(name).section()
                if found is not None:
                    return build(found, values if values is not None else self.own.get(name, {}))
        raise UserError(f"own.{name}: no plugin with settings has this name; add it to plugins")


def method(name: str) -> str:
    """The canonical name of a method; UserError for an unknown name."""
    return catalogue.methods.get(name, "ablations").name


def figures_text() -> str:
    """All figures: "figure=3 (Similarity maps), ..."."""
    return ", ".join(f"figure={one.name} ({one.label})" for one in catalogue.figures.entries())


def parse_shard(text: str) -> tuple[int, int]:
    """`"2/8"` -> (1, 8): the shard's index, from 0, and the number of shards."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise UserError(f"shard={text}: write shard=i/n with 1 <= i <= n, for instance shard=1/4")
    return int(index) - 1, int(count)
