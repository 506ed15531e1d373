"""Checkpoints of a training: each whole or not there, the last two kept, gone on with only by a
training of the same recipe, model and data.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from profi.types import UserError

EMA_FILE, STATE_FILE = "ema.safetensors", "state.json"
#: So that there is one to go back to when the last turns out to be no good.
KEPT = 2
PREFIX = "checkpoint-"


@dataclass(frozen=True)
class Progress:
    """How far a training is: updates, of them averaged ones, seconds, and updates whose gradient
    was not finite, in a row up to now.
    """

    step: int = 0
    averaged: int = 0
    seconds: float = 0.0
    not_finite: int = 0


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in `folder`, `checkpoint-<update>` each.

    `belongs` names everything that a checkpoint is of; JSON values. `optimizer` is the prepared
    one, and `unet` what it updates.
    """

    folder: Path
    accelerator: Accelerator
    unet: UNet2DConditionModel
    optimizer: torch.optim.Optimizer
    average: EMAModel
    belongs: Mapping[str, object]

    def found(self) -> list[Path]:
        """The whole ones, the oldest first; whatever else has such a name is none."""
        numbers = {
            int(path.name.removeprefix(PREFIX)): path
            for path in self.folder.glob(f"{PREFIX}*")
            if path.is_dir() and path.name.removeprefix(PREFIX).isdecimal()
        }
        return [numbers[number] for number in sorted(numbers)]

    def resume(self) -> Progress:
        """Load the last one, if there is one.

        Raises:
            UserError: it is damaged, or of another recipe, model, data, precision or number of
                processes.
        """
        if not self.found():
            return Progress()
        last = self.found()[-1]
        try:
            state = json.loads((last / STATE_FILE).read_text())
            theirs = dict(state["belongs"])
            at = Progress(**state["progress"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(last, error) from error
        self._check_belongs(theirs)
        try:
            self.accelerator.load_state(str(last))
            weights = load_file(last / EMA_FILE)
            for i, shadow in enumerate(self.average.shadow_params):
                shadow.copy_(weights[str(i)])
        except (
            OSError,
            ValueError,
            KeyError,
            RuntimeError,
            EOFError,
            SafetensorError,
            pickle.UnpicklingError,
        ) as error:
            raise self._damaged(last, error) from error
        self.average.optimization_step = at.averaged
        return at

    def save(self, at: Progress) -> None:
        """Write one beside and rename it; called by all processes.

        Raises:
            UserError: in all processes, where a weight, an average or the optimizer's state is
                not finite.
        """
        if not all(bool(tensor.isfinite().all()) for tensor in self._tensors()):
            raise self.no_good(f"update {at.step}: a weight is not finite")
        target = self.folder / f"{PREFIX}{at.step}"
        temporary = target.with_suffix(".tmp")
        main = self.accelerator.is_main_process
        if main:
            shutil.rmtree(temporary, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(temporary))
        self.accelerator.wait_for_everyone()
        if main:
            shadows = self.average.shadow_params
            save_file(
                {str(i): p.contiguous().cpu() for i, p in enumerate(shadows)}, temporary / EMA_FILE
            )
            state = {"progress": asdict(at), "belongs": self.belongs}
            (temporary / STATE_FILE).write_text(json.dumps(state, indent=1) + "\n")
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
            for older in self.found()[:-KEPT]:
                shutil.rmtree(older)
        self.accelerator.wait_for_everyone()

    def no_good(self, what: str) -> UserError:
        """The error for a training that has left the finite numbers."""
        kept = self.found()
        last = f"; {kept[-1]} is the last checkpoint" if kept else ""
        precision = " or precision=bf16" if self.accelerator.scaler is not None else ""
        return UserError(f"{what}: train with a lower rate={precision} and another work={last}")

    def _tensors(self) -> Iterator[Tensor]:
        """All numbers that a checkpoint holds."""
        yield from self.unet.parameters()
        yield from self.average.shadow_params
        for moments in self.optimizer.state.values():
            yield from (value for value in moments.values() if isinstance(value, Tensor))

    def _check_belongs(self, theirs: Mapping[str, object]) -> None:
        mine = json.loads(json.dumps(self.belongs))
        names = [name for name in mine | theirs if mine.get(name) != theirs.get(name)]
        if names:
            told = "; ".join(
                f"{name}={_text(theirs.get(name))}, not {_text(mine.get(name))}" for name in names
            )
            raise UserError(
                f"{self.folder} was trained with {told}: give the same again, or another work="
            )

    def _damaged(self, path: Path, error: Exception) -> UserError:
        reason = " ".join(str(error).split())[:160]
        return UserError(
            f"{path} is damaged ({type(error).__name__}: {reason}): delete that folder, and the "
            "training goes on from the checkpoint before it, or begins anew"
        )


def _text(value: object) -> str:
    """A value as it is written on the command line."""
    if value is None:
        return "unknown"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
