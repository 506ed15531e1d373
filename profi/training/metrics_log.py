"""The log of a training's losses: means over all processes, loss.csv, and a W&B run."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from profi.atomic import write_text
from profi.training.checkpoints import OneProcess
from profi.types import UserError

#: In the training's folder: the id of its run.
ID_FILE = "wandb-id"


def open_run(
    accelerator: Accelerator, project: str, work: Path, config: Mapping[str, object]
) -> None:
    """Open the run as a tracker of the accelerator, in the first process.

    Its files are in `work`/wandb; WANDB_MODE=offline keeps them there. Updates that a resumed
    training makes again are sent again, and W&B keeps what came first.

    Raises:
        UserError: nobody is logged in, or W&B refuses.
    """
    if not accelerator.is_main_process:
        return
    import wandb

    path = work / ID_FILE
    try:
        # `init` would ask for a key on a terminal, and wait for the answer.
        online = wandb.setup().settings.mode == "online"
        if online and not wandb.login(prompt=False, verify=False):
            raise UserError(
                f"wandb={project}: nobody is logged in to W&B: `wandb login`, or set "
                "WANDB_MODE=offline"
            )
        run_id = path.read_text().strip() if path.exists() else secrets.token_hex(4)
        accelerator.init_trackers(
            project,
            config=dict(config),
            init_kwargs={"wandb": {"id": run_id, "resume": "allow", "dir": str(work)}},
        )
    except (wandb.Error, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"wandb={project}: {reason} (`wandb login`, or set WANDB_MODE=offline)"
        ) from error
    write_text(path, f"{run_id}\n")


class Means:
    """Means of named losses over the forward passes of updates.

    An update that was skipped counts as `skipped` and not into the means: its losses are often
    not finite.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._of_update: list[dict[str, Tensor]] = []
        self._passes = self._skipped = 0

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """The losses of one forward pass."""
        self._of_update.append({name: term.detach() for name, term in terms.items()})

    def end_update(self, stepped: bool) -> None:
        """The passes so far were an update, which changed the weights or was skipped."""
        if stepped:
            for terms in self._of_update:
                for name, term in terms.items():
                    self._sums[name] = self._sums.get(name, torch.zeros_like(term)) + term
            self._passes += len(self._of_update)
        self._skipped += not stepped
        self._of_update = []

    def over_processes(self, accelerator: Accelerator | OneProcess) -> dict[str, float]:
        """The means over all processes, which must all call this."""
        found: dict[str, float] = {}
        if self._sums:
            means = torch.stack(list(self._sums.values())) / self._passes
            values: Any = accelerator.reduce(means, "mean")
            found = dict(zip(self._sums, values.tolist(), strict=True))
        if self._skipped:
            found["skipped"] = float(self._skipped)
        return found


def loss_line(step: int, steps: int, losses: Mapping[str, float]) -> str:
    """A line for the console."""
    values = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
    return f"{step}/{steps}  {values}"


def append_to_log(path: Path, step: int, seconds: float, means: Mapping[str, float]) -> None:
    """Add a line: update, seconds, name=value of each loss."""
    fields = [str(step), f"{seconds:.1f}", *(f"{name}={means[name]:.5f}" for name in means)]
    with path.open("a", encoding="utf-8") as file:
        file.write(",".join(fields) + "\n")


def cut_log(path: Path, step: int) -> None:
    """Drop what a killed run logged after update `step`, and a line that it did not finish.

    Lines that do not begin with the number of an update are a user's notes and stay.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().decode(errors="replace").splitlines(keepends=True):
        number = line.partition(",")[0].strip()
        if line.endswith("\n") and not (number.isdecimal() and int(number) > step):
            kept.append(line)
    write_text(path, "".join(kept))
