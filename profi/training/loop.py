"""The one training loop: exact resume, moving average, mixed precision, any number of processes.

A forward pass has a number, counted over all processes, and everything random in it depends on
that number alone. So a resumed run equals the undisturbed one (bit for bit on one CPU thread), and
N processes see the samples of one process that accumulates N times as many passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from profi.settings.fields import check_fields, setting
from profi.training.checkpoints import Checkpoints, MovingAverage, OneProcess, Progress
from profi.training.metrics_log import Means, append_to_log, cut_log
from profi.training.muon import BETAS, Muon
from profi.types import UserError

#: Updates in a row without a finite gradient after which the training ends with an error.
PATIENCE = 5
#: Between two lines of the log.
LOG_SECONDS = 10.0
#: Of a setting: beyond, the optimizer's own arithmetic leaves float32.
LARGEST = 1e30


@dataclass(frozen=True)
class Plan:
    """How long and how fast a model learns."""

    steps: int = setting(1000, "updates of the weights, in all", at_least=1)
    batch: int = setting(64, "samples per process and forward pass", at_least=1)
    accumulate: int = setting(1, "forward passes per update", at_least=1)
    rate: float = setting(1e-3, "AdamW's learning rate", at_least=0, at_most=LARGEST)
    matrix_rate: float | None = setting(
        None, "with it matrices learn by Muon at this rate, and only vectors by AdamW", at_least=0
    )
    warmup: int = setting(100, "updates in which the rate rises linearly", at_least=0)
    decay: float = setting(
        0.3, "last share of the updates, in which the rate falls to zero", at_least=0, at_most=1
    )
    weight_decay: float = setting(0.01, "of the optimizer", at_least=0, at_most=LARGEST)
    clip: float = setting(1.0, "largest norm of the gradient", at_least=0, at_most=LARGEST)
    ema: float = setting(0.999, "longest decay of the weights' moving average", at_least=0)

    def __post_init__(self) -> None:
        check_fields("", self)
        if self.matrix_rate == 0:
            raise UserError("matrix_rate=0: give a rate above 0, or none")
        if self.ema >= 1.0:
            raise UserError(f"ema={self.ema}: from 0 (no average) to less than 1")

    def rate_at(self, step: int) -> float:
        """The learning rate of an update (from 0); of the matrices where they have their own."""
        fall = (self.steps - step) / max(1.0, self.decay * self.steps)
        rise = (step + 1) / max(1, self.warmup)
        rate = self.rate if self.matrix_rate is None else self.matrix_rate
        return rate * min(1.0, rise, max(fall, 0.0))

    def optimizer(self, model: nn.Module, fused: bool) -> torch.optim.Optimizer:
        """AdamW or Muon for the parameters that are not frozen."""
        trained = [p for p in model.parameters() if p.requires_grad]
        if self.matrix_rate is not None:
            return Muon(trained, self.matrix_rate, self.rate, self.weight_decay)
        return torch.optim.AdamW(
            trained, lr=self.rate, betas=BETAS, weight_decay=self.weight_decay, fused=fused
        )


def stratified_timesteps(n: int, g: torch.Generator, count: int = 1000) -> Tensor:
    """n timesteps in [0, count), one in every n-th of the range; each is uniform by itself.

    The loss varies strongly with t; an even spread steadies it.
    """
    spread = torch.arange(n, device=g.device) + torch.rand(n, generator=g, device=g.device)
    return (spread / n * count).long().clamp(max=count - 1)


def emulates_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is slower than float32 here: a CPU that only emulates it."""
    return device.type == "cpu" and not torch.cpu._is_avx512_bf16_supported()


def train(
    model: nn.Module,
    loss_at: Callable[[int], Mapping[str, Tensor]],
    plan: Plan,
    folder: Path,
    accelerator: Accelerator | OneProcess,
    *,
    start_counts: bool = False,
    belongs: Mapping[str, object] = MappingProxyType({}),
    save_every: int | None = None,
    save_seconds: float = float("inf"),
    stop: Callable[[int, float], bool] = lambda *_: False,
    on_log: Callable[[int, float, dict[str, float]], None] = lambda *_: None,
    validate: Callable[[Mapping[str, Tensor], int], None] | None = None,
    validate_every: int = 1000,
) -> dict[str, float]:
    """Train `model` from the last checkpoint in `folder`, or from the beginning.

    The model ends in `eval` mode with its moving average as its weights.

    Args:
        model: on the accelerator's device, and prepared by it.
        loss_at: named losses, whose sum is minimised, of a forward pass by its number: with one
            process and no accumulation the number of the update, from 0. What it draws must depend
            on the number; torch's own stream, which dropout uses, is seeded with it.
        plan: the settings.
        folder: gets `checkpoint-<update>` (the last two) and `loss.csv`.
        accelerator: made with the plan's `accumulate`.
        start_counts: whether the weights before the first update are part of the average.
        belongs: what decides the result apart from `loss_at`'s code, as JSON values. A checkpoint
            in `folder` must have the same.
        save_every: updates between two checkpoints.
        save_seconds: seconds between two checkpoints.
        stop: called after every update, in the first process, with the update and the seconds of
            this call; True saves a checkpoint and ends.
        on_log: called about every ten seconds, in the first process, with the update, all seconds
            so far and the mean losses of all processes.
        validate: called every `validate_every` updates, in the first process, with the average's
            `state_dict` and the update; the others wait. Given in all processes or in none.
        validate_every: see `validate`.

    Returns:
        The figures steps, seconds and samples.

    Raises:
        UserError: `folder` belongs to something else or is damaged; the gradient was not finite
            in PATIENCE updates in a row, or a weight is not (no checkpoint is then written).
    """
    main, ranks = accelerator.is_main_process, accelerator.num_processes
    plain = accelerator.unwrap_model(model).train()
    fused = accelerator.device.type == "cuda" and accelerator.scaler is None
    optimizer: Any = accelerator.prepare(plan.optimizer(plain, fused))
    average = MovingAverage(plain, plan.ema, int(start_counts))
    checkpoints = Checkpoints(folder, accelerator, plain, optimizer, average, belongs)
    begun = checkpoints.resume()
    step, not_finite, log = begun.step, begun.not_finite, folder / "loss.csv"
    if main:
        folder.mkdir(parents=True, exist_ok=True)
        cut_log(log, step)
    started = logged = saved = time.monotonic()
    means, ends = Means(), step >= plan.steps
    while not ends:
        for group in optimizer.param_groups:
            group["lr"] = plan.rate_at(step) * group.get("share", 1.0)
        for part in range(plan.accumulate):
            number = (step * plan.accumulate + part) * ranks + accelerator.process_index
            torch.manual_seed(number)
            with accelerator.accumulate(model):
                terms = loss_at(number)
                accelerator.backward(torch.stack(list(terms.values())).sum())
            means.add(terms)
        stepped = _update(accelerator, optimizer, plain, plan.clip)
        step += 1
        means.end_update(stepped)
        if stepped:
            average.update(plain)
            not_finite = 0
        elif not _seeks_scale(accelerator):
            not_finite += 1
            if not_finite == PATIENCE:
                raise checkpoints.no_good(
                    f"update {step}: the gradient was not finite in {PATIENCE} updates in a row"
                )
        now = time.monotonic()
        ends, logs, saves = _decided_by_the_first(
            accelerator,
            step == plan.steps or (main and stop(step, now - started)),
            now - logged > LOG_SECONDS,
            (save_every is not None and step % save_every == 0) or now - saved > save_seconds,
        )
        seconds = begun.seconds + now - started
        if ends or logs:
            values = means.over_processes(accelerator)
            means, logged = Means(), now
            if main:
                append_to_log(log, step, seconds, values)
                on_log(step, seconds, values)
        # (not among bad updates, where the kept ones could be the last good ones)
        if ends or (saves and not not_finite):
            checkpoints.save(Progress(step, average.counted, seconds, not_finite))
            saved = now
        if validate is not None and step % validate_every == 0:
            if main:
                validate(average.weights, step)
            accelerator.wait_for_everyone()
    plain.load_state_dict(average.weights)
    for parameter in plain.parameters():
        parameter.data = parameter.data.contiguous()  # safetensors takes no other layout
    plain.eval()
    seconds = begun.seconds + time.monotonic() - started
    samples = step * plan.batch * plan.accumulate * ranks
    return {"steps": step, "seconds": seconds, "samples": samples}


def settings_of(plan: Plan, accelerator: Accelerator) -> dict[str, object]:
    """What a checkpoint belongs to by the plan and how it is run."""
    return {
        **asdict(plan),
        "betas": BETAS,
        "processes": accelerator.num_processes,
        "precision": accelerator.mixed_precision,
    }


def _update(
    accelerator: Accelerator | OneProcess, optimizer: Any, model: nn.Module, clip: float
) -> bool:
    """Step the optimizer unless the gradient is not finite; returns whether it did.

    All processes do the same: the gradient is their mean.
    """
    norm: Any = accelerator.clip_grad_norm_(model.parameters(), clip)
    finite = bool(torch.isfinite(norm))
    if finite:
        optimizer.step()
    elif accelerator.scaler is not None:
        accelerator.scaler.update()  # to a smaller scale
    optimizer.zero_grad()
    return finite and not accelerator.optimizer_step_was_skipped


def _seeks_scale(accelerator: Accelerator | OneProcess) -> bool:
    """Whether float16's losses are still scaled up, so that an overflow is no bad sign.

    The scale begins high, and every overflow halves it.
    """
    return accelerator.scaler is not None and accelerator.scaler.get_scale() >= 1.0


def _decided_by_the_first(accelerator: Accelerator | OneProcess, *decisions: bool) -> list[bool]:
    """The first process's decisions, in all processes: their clocks differ."""
    if accelerator.num_processes == 1:
        return list(decisions)
    shared = torch.tensor(decisions, dtype=torch.int32, device=accelerator.device)
    return [bool(one) for one in broadcast(shared).tolist()]
