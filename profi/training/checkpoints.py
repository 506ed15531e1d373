"""Checkpoints of a training, each whole or not there, the last two kept; a single process."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from profi.types import UserError

MODEL, AVERAGE, OPTIMIZER = "model.safetensors", "ema.safetensors", "optimizer.pt"
SCALER, STATE = "scaler.pt", "state.json"
#: A second one to go back to, in case the last is damaged.
KEPT = 2
PREFIX = "checkpoint-"


@dataclass(frozen=True)
class OneProcess:
    """What the loop uses of an `Accelerator`, for one process in the model's own precision."""

    device: torch.device
    is_main_process = True
    num_processes, process_index = 1, 0
    mixed_precision = "no"
    scaler = None
    optimizer_step_was_skipped = False

    def prepare(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimizer as it is."""
        return optimizer

    def unwrap_model(self, model: nn.Module) -> nn.Module:
        """The model as it is."""
        return model

    def accumulate(self, model: nn.Module) -> AbstractContextManager[None]:
        """Nothing to do: gradients of one process add up by themselves."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add to the gradients."""
        loss.backward()

    def clip_grad_norm_(self, parameters: Any, clip: float) -> Tensor:
        """Limit the gradients' norm to `clip`; returns what it was."""
        return nn.utils.clip_grad_norm_(parameters, clip)

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        """The mean over one process."""
        return tensor

    def wait_for_everyone(self) -> None:
        """Nobody to wait for."""


class MovingAverage:
    """The moving average of a model's weights and buffers, in float32, as a `state_dict`.

    It is the mean of few weights at first and of the last ones later: the n-th that is counted
    gets the share 1 - min(longest, n / (n + 9)), and the first all. `counted` is 1 where the
    starting weights are the first, else 0.
    """

    def __init__(self, model: nn.Module, longest: float, counted: int) -> None:
        self.longest, self.counted = longest, counted
        self.weights = {
            name: value.detach().clone().float() if value.is_floating_point() else value.clone()
            for name, value in model.state_dict().items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Count the model's weights."""
        self.counted += 1
        n = self.counted
        decay = min(self.longest, n / (n + 9)) if n > 1 else 0.0
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value.float(), 1 - decay)
            else:
                self.weights[name].copy_(value)

    def load(self, weights: Mapping[str, Tensor], counted: int) -> None:
        """Go on from an average of the same model."""
        for name, value in self.weights.items():
            value.copy_(weights[name])
        self.counted = counted


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    `step` updates; weights in the average; seconds; and how many updates in a row, up to now, had
    a gradient that was not finite.
    """

    step: int = 0
    averaged: int = 0
    seconds: float = 0.0
    not_finite: int = 0


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in `folder`, `checkpoint-<update>` each.

    `belongs` names everything that a checkpoint depends on, as JSON values; only a training with
    the same resumes it. `model` is the plain one, `optimizer` the prepared one.
    """

    folder: Path
    accelerator: Accelerator | OneProcess
    model: nn.Module
    optimizer: Any
    average: MovingAverage
    belongs: Mapping[str, object]

    def found(self) -> list[Path]:
        """The whole ones, the oldest first; other files and folders of such a name do not count."""
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
            state = json.loads((last / STATE).read_text())
            theirs = dict(state.get("belongs", {}))
            at = self._progress(state)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(last, error) from error
        self._check_belongs(theirs)
        try:
            self._load(last, at)
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
        return at

    def _progress(self, state: Mapping[str, Any]) -> Progress:
        """Of `state.json`; in an older layout of {step, seconds} all updates were averaged."""
        if "progress" in state:
            return Progress(**state["progress"])
        step = state["step"]
        return Progress(step, step + self.average.counted, state["seconds"])

    def _load(self, path: Path, at: Progress) -> None:
        """Set model, average, optimizer and scaler.

        In an older layout, that of `Accelerator.save_state`, the optimizer is in optimizer.bin and
        the average's weights have numbers for names.
        """
        self.model.load_state_dict(load_file(path / MODEL))
        weights = load_file(path / AVERAGE)
        if "0" in weights and "0" not in self.average.weights:
            names = [name for name, _ in self.model.named_parameters()]
            weights = {name: weights[str(i)] for i, name in enumerate(names)}
        self.average.load(weights, at.averaged)
        older = path / "optimizer.bin"
        file = older if older.exists() else path / OPTIMIZER
        # (`load_state_dict` moves it to the device; torch.load does not know the name "cpu:0".)
        self.optimizer.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(torch.load(path / SCALER, weights_only=True))

    def save(self, at: Progress) -> None:
        """Write one under another name and rename it; called by all processes.

        Raises:
            UserError: in all processes, where a weight, an average or the optimizer's state is
                not finite.
        """
        if not all(bool(tensor.isfinite().all()) for tensor in self._tensors()):
            raise self.no_good(f"update {at.step}: a weight is not finite")
        if self.accelerator.is_main_process:
            target = self.folder / f"{PREFIX}{at.step}"
            temporary = target.with_suffix(".tmp")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            for name, weights in (
                (MODEL, self.model.state_dict()),
                (AVERAGE, self.average.weights),
            ):
                held = {key: value.detach().contiguous().cpu() for key, value in weights.items()}
                save_file(held, temporary / name)
            torch.save(self.optimizer.state_dict(), temporary / OPTIMIZER)
            if self.accelerator.scaler is not None:
                torch.save(self.accelerator.scaler.state_dict(), temporary / SCALER)
            state = {"progress": asdict(at), "belongs": dict(self.belongs)}
            (temporary / STATE).write_text(json.dumps(state, indent=1) + "\n")
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
        yield from self.model.parameters()
        yield from self.average.weights.values()
        for moments in self.optimizer.state.values():
            yield from (value for value in moments.values() if isinstance(value, Tensor))

    def _check_belongs(self, theirs: Mapping[str, object]) -> None:
        mine = json.loads(json.dumps(dict(self.belongs)))
        names = [name for name in mine | theirs if mine.get(name) != theirs.get(name)]
        if names:
            differs = "; ".join(
                f"{name}={_text(theirs.get(name))}, not {_text(mine.get(name))}" for name in names
            )
            raise UserError(
                f"{self.folder} was trained with {differs}: give the same again, or another work="
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
