"""The loop that every stage trains in: seeded, resumable, EMA, mixed precision, logged."""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from profi.mini.training.muon import BETAS, Muon

console = Console(soft_wrap=True)
SAVE_SECONDS = 120.0


@dataclass(frozen=True)
class Plan:
    """How long and how fast a stage learns.

    `rate` is AdamW's; with `matrix_rate` matrices learn by Muon at that rate, and only vectors by
    AdamW. The rate rises over `warmup` steps, stays, and falls linearly to nothing over the last
    `decay` share of the steps. `ema` is the longest decay of the weights' moving average.
    `minutes` ends a run early (it resumes from its checkpoint).
    """

    steps: int
    batch: int
    rate: float
    warmup: int = 100
    decay: float = 0.3
    weight_decay: float = 0.01
    ema: float = 0.999
    matrix_rate: float | None = None
    minutes: float = float("inf")

    def rate_at(self, step: int) -> float:
        """The learning rate of a step (from 0), of the matrices where they have their own."""
        fall = (self.steps - step) / max(1.0, self.decay * self.steps)
        return (self.matrix_rate or self.rate) * min(1.0, (step + 1) / self.warmup, max(fall, 0.0))


def make_generator(device: torch.device, *numbers: int) -> torch.Generator:
    """A generator on `device` from a few whole numbers (seed, stage, step)."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % (1 << 62)
    return torch.Generator(device).manual_seed(seed)


@contextmanager
def mixed_precision(device: torch.device, enabled: bool = True) -> Iterator[None]:
    """bfloat16 where matrices multiply, float32 elsewhere and on CPUs that only emulate bfloat16.

    (Emulated, a step takes several times as long as in float32.)
    """
    emulated = device.type == "cpu" and not torch.cpu._is_avx512_bf16_supported()
    with torch.autocast(device.type, torch.bfloat16, enabled=enabled and not emulated):
        yield


def _optimizer(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    trained = [p for p in model.parameters() if p.requires_grad]
    if plan.matrix_rate is not None:
        return Muon(trained, plan.matrix_rate, plan.rate, plan.weight_decay)
    fused = trained[0].device.type == "cuda"
    return torch.optim.AdamW(
        trained, lr=plan.rate, betas=BETAS, weight_decay=plan.weight_decay, fused=fused
    )


def _ema(average: dict[str, Tensor], model: nn.Module, step: int, longest: float) -> None:
    decay = min(longest, (step + 1) / (step + 10))
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value.float(), 1 - decay)
        else:
            average[name].copy_(value)


def _checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a stage, oldest first."""
    found = [p for p in folder.glob("checkpoint-*") if p.suffix != ".tmp"]
    return sorted(found, key=lambda p: int(p.name.removeprefix("checkpoint-")))


def _save(
    folder: Path,
    model: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
) -> None:
    """Write `checkpoint-<step>` beside and rename it, so that one is whole or not there."""
    target = folder / f"checkpoint-{step}"
    if target.exists():
        return
    temporary = target.with_suffix(".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    weights = {k: v.detach().contiguous().cpu() for k, v in model.state_dict().items()}
    save_file(weights, temporary / "model.safetensors")
    averaged = {k: v.contiguous().cpu() for k, v in average.items()}
    save_file(averaged, temporary / "ema.safetensors")
    torch.save(optimizer.state_dict(), temporary / "optimizer.pt")
    (temporary / "state.json").write_text(json.dumps({"step": step, "seconds": seconds}))
    older = _checkpoints(folder)
    temporary.rename(target)
    for path in older:
        shutil.rmtree(path)


def _cut_log(path: Path, step: int) -> None:
    """Drop what a killed run logged after its last checkpoint."""
    if path.exists():
        with path.open(newline="") as file:
            rows = [row for row in csv.reader(file) if int(row[0]) <= step]
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(rows)


def train(
    model: nn.Module,
    loss_at: Callable[[int], dict[str, Tensor]],
    plan: Plan,
    folder: Path,
) -> dict[str, float]:
    """Train `model` in place and leave it holding its moving average.

    `loss_at(step)` returns named losses; their sum is minimised. It must draw all randomness
    from the step, so that a resumed run goes on as an undisturbed one would; what layers draw
    (dropout) comes from torch's own stream, which starts anew in every step. `folder` receives
    checkpoints and `loss.csv`. Returns steps and seconds trained so far.
    """
    device = next(model.parameters()).device
    model.train()
    optimizer = _optimizer(model, plan)
    average = {
        k: v.detach().clone().float() if v.is_floating_point() else v.clone()
        for k, v in model.state_dict().items()
    }
    step, before = 0, 0.0
    for last in _checkpoints(folder)[-1:]:
        state = json.loads((last / "state.json").read_text())
        step, before = state["step"], state["seconds"]
        model.load_state_dict(load_file(last / "model.safetensors"))
        average = {k: v.to(device) for k, v in load_file(last / "ema.safetensors").items()}
        optimizer.load_state_dict(
            torch.load(last / "optimizer.pt", map_location=device, weights_only=True)
        )
        _cut_log(folder / "loss.csv", step)
        console.print(f"{folder.name}: resuming at step {step} of {plan.steps}")
    folder.mkdir(parents=True, exist_ok=True)
    start = saved = shown = time.monotonic()
    sums: dict[str, float] = {}
    count = 0
    with (folder / "loss.csv").open("a", newline="") as file:
        log = csv.writer(file)
        while step < plan.steps and time.monotonic() - start < plan.minutes * 60:
            for group in optimizer.param_groups:
                group["lr"] = plan.rate_at(step) * group.get("share", 1.0)
            torch.manual_seed(step)
            losses = loss_at(step)
            total = torch.stack(list(losses.values())).sum()
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            _ema(average, model, step, plan.ema)
            count += 1
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.item()
            now = time.monotonic()
            if now - shown > 10 or step == plan.steps:
                spent = before + now - start
                means = {name: value / count for name, value in sums.items()}
                log.writerow([step, round(spent, 1), *(f"{k}={v:.5f}" for k, v in means.items())])
                file.flush()
                rate = count * plan.batch / max(now - shown, 1e-9)
                text = ", ".join(f"{k} {v:.4f}" for k, v in means.items())
                console.print(f"{folder.name} {step}/{plan.steps}  {text}  {rate:.0f}/s")
                sums, count, shown = {}, 0, now
            if now - saved > SAVE_SECONDS:
                _save(folder, model, average, optimizer, step, before + now - start)
                saved = now
    seconds = before + time.monotonic() - start
    _save(folder, model, average, optimizer, step, seconds)
    model.load_state_dict(average)
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()  # safetensors takes no other layout
    model.eval()
    return {"steps": step, "seconds": seconds, "samples": step * plan.batch}
