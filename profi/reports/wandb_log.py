"""Weights & Biases: a W&B run per run of ours, under the same id, in the experiment's group.

`wandb` is imported when the first run is opened, not before, and may be absent. Nothing here waits
for a network without end: opening and finishing have a limit, after which what was not uploaded
lies in the folder and `wandb sync` uploads it.
"""

from __future__ import annotations

import importlib
import io
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from profi.reports.gallery import GalleryItem
from profi.reports.names import ordered_metrics

log = logging.getLogger(__name__)

#: The table of pictures, and what its rows are joined by across runs.
PICTURES, TRIPLET = "pictures", "triplet"
#: What a stage's numbers are drawn over.
IMAGES = "images"
#: Seconds to wait for a server, at the beginning and at the end of a run.
PATIENCE = 60.0


@dataclass(frozen=True)
class WandbSettings:
    """Where to: `folder` gets W&B's own folder `wandb`; `mode` is online or offline."""

    project: str
    entity: str | None
    mode: str
    folder: Path


class WandbLog:
    """One W&B run; opened again under the id of an earlier one, it goes on with it."""

    def __init__(
        self,
        settings: WandbSettings,
        run_id: str,
        name: str,
        group: str,
        config: Mapping[str, Any],
    ) -> None:
        """Open the run.

        Raises:
            Exception: whatever `wandb` raises: it is not installed, nobody is logged in, no server
                answers in time.
        """
        try:
            wandb = importlib.import_module("wandb")
        except ImportError as error:
            raise RuntimeError("W&B is not installed: pip install 'profi[wandb]'") from error
        # `init` would ask for a key on a terminal, and wait for the answer.
        if settings.mode == "online" and not wandb.login(prompt=False, verify=False):
            raise RuntimeError("nobody is logged in to W&B: `wandb login`, or logger.mode=offline")
        self._wandb = wandb
        settings.folder.mkdir(parents=True, exist_ok=True)
        # The pictures of tables wait here for their upload; by default in the home folder, which
        # on a cluster is small.
        os.environ.setdefault("WANDB_DATA_DIR", str((settings.folder / "wandb" / "data").resolve()))
        self._run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            mode=settings.mode,
            dir=str(settings.folder),
            id=run_id,
            name=name,
            group=group,
            config=dict(config),
            resume="allow",
            # Several may be open in one process, and none is anybody's global.
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=PATIENCE,
                finish_timeout=PATIENCE,
            ),
        )
        self._stages: set[str] = set()
        if settings.mode == "online":
            log.info("W&B: %s", self._run.url)

    def progress(self, stage: str, values: Mapping[str, float]) -> None:
        """A step of the history: `<stage>/<name>`, drawn over `<stage>/images`."""
        if stage not in self._stages:
            self._stages.add(stage)
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/{IMAGES}")
        self._run.log({f"{stage}/{name}": value for name, value in values.items()})

    def results(self, summary: Mapping[str, float], pictures: Sequence[GalleryItem]) -> None:
        """The summary that runs are compared by, and a table of pictures with their scores."""
        # A NaN would be no number on the server; an absent entry says the same.
        self._run.summary.update({k: v for k, v in summary.items() if not math.isnan(v)})
        if not pictures:
            return
        metrics = ordered_metrics(
            name for item in pictures for values in item.scores.values() for name in values
        )
        table = self._wandb.Table(columns=[TRIPLET, "prompt", "input", "painted", *metrics])
        for item in pictures:
            (values,) = item.scores.values()
            painted = next(iter(item.outputs.values()), b"")
            row = [item.triplet_id, item.prompt, self._image(item.masked), self._image(painted)]
            table.add_data(*row, *(values.get(name) for name in metrics))
        self._run.log({PICTURES: table})

    def finish(self, succeeded: bool) -> None:
        """Close the run as finished or, where the work was broken off, as failed."""
        self._run.finish(exit_code=0 if succeeded else 1)

    def _image(self, picture: bytes) -> Any:
        if not picture:
            return None
        return self._wandb.Image(Image.open(io.BytesIO(picture)))
