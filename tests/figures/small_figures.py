"""Figures of the embedded world in small: a dozen triplets, three steps, one store for all."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console

from profi.cli.arguments import register
from profi.cli.run import accepted
from profi.cli.words import for_hydra
from profi.figures.context import FigureContext
from profi.figures.drawing import Drawing
from profi.figures.figure_stage import draw
from profi.harness.runs import Command
from profi.settings.paths import conf_folder

#: With so low a threshold the detector finds some labels in paintings of three steps.
SMALL = (
    "workers=1",
    "data.limit=12",
    "sampling.num_inference_steps=3",
    "metric.metrics=[clip_score,accuracy,aesthetic]",
    "metric.accuracy.threshold=0.05",
)


@dataclass(frozen=True)
class Studio:
    """Draws figures into one folder; what one of them painted the others read."""

    out: Path

    def command(self, name: str, *words: str) -> Command:
        """The command `profi figure NAME WORDS...`, with the settings of the tests."""
        given = [f"figure={name}", "stage=figure", f"out={self.out}", *SMALL, *words]
        register()
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder().resolve())):
            composed = compose("config", overrides=for_hydra(given))
        config = accepted(composed, given)
        return Command(config, "profi figure", OmegaConf.to_yaml(composed), tuple(given))

    def context(self, name: str, *words: str) -> FigureContext:
        return FigureContext(self.command(name, *words), quiet())

    def draw(self, name: str, *words: str) -> Drawing:
        return draw(self.command(name, *words), quiet())

    def record(self, name: str) -> dict[str, Any]:
        path = self.out / "figures" / f"figure-{name}.json"
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return record


def quiet() -> Console:
    return Console(file=io.StringIO())
