"""Weights & Biases: one W&B run per run, with the same id, in the experiment's group.

`wandb` is imported when the first run is opened; it may be missing. Opening and finishing a run
wait for the network for a limited time. After that, `wandb sync` uploads the rest from the folder.
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

#: The name of the table of pictures, and the column that joins its rows across runs.
PICTURES, TRIPLET = "pictures", "triplet"
#: The x axis of a stage's numbers.
IMAGES = "images"
#: Seconds to wait for the server, at the start and at the end of a run.
PATIENCE = 60.0


@dataclass(frozen=True)
class WandbSettings:
    """The settings of a W&B run: its files lie in `folder`/wandb; `mode` is online or offline.

    W&B's own variable WANDB_MODE overrules `mode`.
    """

    project: str
    entity: str | None
    mode: str
    folder: Path


class WandbLog:
    """One W&B run; the id of an earlier run resumes that run."""

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
            RuntimeError: `wandb` is not installed, or nobody is logged in.
            Exception: from `wandb`, such as no answer from the server.
        """
        try:
            wandb = importlib.import_module("wandb")
        except ImportError as error:
            raise RuntimeError(
                "W&B is not installed: pip install -c constraints.txt -e '.[wandb]'"
            ) from error
        # On a terminal `init` would ask for a key and wait.
        mode = os.environ.get("WANDB_MODE") or settings.mode
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            raise RuntimeError("nobody is logged in to W&B: `wandb login`, or logger.mode=offline")
        self._wandb = wandb
        settings.folder.mkdir(parents=True, exist_ok=True)
        # Pictures of tables are stored here until the upload. The default is the home folder, which
        # is small on a cluster.
        os.environ.setdefault("WANDB_DATA_DIR", str((settings.folder / "wandb" / "data").resolve()))
        self._run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            mode=mode,
            dir=str(settings.folder),
            id=run_id,
            name=name,
            group=group,
            config=dict(config),
            resume="allow",
            # One process may have several open runs, without a global one.
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=PATIENCE,
                finish_timeout=PATIENCE,
            ),
        )
        self._stages: set[str] = set()
        self._mode = mode
        if mode == "online":
            log.info("W&B: %s", self._run.url)

    def progress(self, stage: str, values: Mapping[str, float]) -> None:
        """Log a step of the history: `<stage>/<name>`, plotted over `<stage>/images`."""
        if stage not in self._stages:
            self._stages.add(stage)
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/{IMAGES}")
        self._run.log({f"{stage}/{name}": value for name, value in values.items()})

    def results(self, summary: Mapping[str, float], pictures: Sequence[GalleryItem]) -> None:
        """Log the summary and a table of pictures with their scores."""
        # The server does not accept NaN as a number: leave such entries out.
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
        """Close the run as finished or as failed."""
        folder = Path(self._run.dir).parent
        self._run.finish(exit_code=0 if succeeded else 1)
        if self._mode == "offline":
            log.info("W&B: stored; to upload it: wandb sync %s", folder)

    def _image(self, picture: bytes) -> Any:
        if not picture:
            return None
        return self._wandb.Image(Image.open(io.BytesIO(picture)))
