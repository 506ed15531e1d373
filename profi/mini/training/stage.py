"""What the stages share: the training loop in one process, seeds, mixed precision, the VAE."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from rich.console import Console
from torch import Tensor, nn

from profi.training.checkpoints import OneProcess
from profi.training.loop import Plan, emulates_bfloat16, train
from profi.training.metrics_log import loss_line

console = Console(soft_wrap=True)
SAVE_SECONDS = 120.0


def train_stage(
    model: nn.Module,
    loss_at: Callable[[int], dict[str, Tensor]],
    plan: Plan,
    folder: Path,
    minutes: float,
) -> dict[str, float]:
    """Train `model` on its device by `profi.training.loop.train`, for at most `minutes`.

    (Without accelerate, which would choose the device itself.)
    """

    def show(step: int, seconds: float, losses: dict[str, float]) -> None:
        console.print(f"{folder.name} {loss_line(step, plan.steps, losses)}  {seconds:.0f} s")

    return train(
        model,
        loss_at,
        plan,
        folder,
        OneProcess(next(model.parameters()).device),
        start_counts=True,
        save_seconds=SAVE_SECONDS,
        stop=lambda _, seconds: seconds > 60 * minutes,
        on_log=show,
    )


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
    with torch.autocast(
        device.type, torch.bfloat16, enabled=enabled and not emulates_bfloat16(device)
    ):
        yield


def load_vae(work: Path, device: torch.device) -> AutoencoderKL:
    """The trained VAE in float32, frozen."""
    model = AutoencoderKL.from_pretrained(work / "models" / "vae", torch_dtype=torch.float32)
    return model.to(device).eval().requires_grad_(False)
