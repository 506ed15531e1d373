"""What a training says on the way and leaves at the end."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from diffusers import UNet2DConditionModel


def told(step: int, steps: int, losses: Mapping[str, float]) -> str:
    """A line of the log."""
    values = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
    return f"{step}/{steps}  {values}"


def save_model(
    unet: UNet2DConditionModel, start: Path, target: Path, parts: Path | None = None
) -> None:
    """Write a folder in the diffusers layout: the UNet in half precision, the scheduler of `start`.

    With `parts`, its VAE, text encoder and tokenizer too. What is at `target` is replaced at the
    end, so that the folder is never half a model. Changes the UNet to half precision.
    """
    beside = target.with_name(f"{target.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    unet.half().save_pretrained(beside / "unet")
    shutil.copytree(start / "scheduler", beside / "scheduler")
    if parts is not None:
        for part in ("vae", "text_encoder", "tokenizer"):
            shutil.copytree(parts / part, beside / part)
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)
