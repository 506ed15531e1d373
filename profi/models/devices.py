"""Resolution of a device's name on this machine."""

from __future__ import annotations

import os

import torch

from profi.settings import check_device
from profi.types import UserError

#: Values of CUDA_VISIBLE_DEVICES for no GPU; the last is Slurm's.
NO_GPU = ("", "-1", "NoDevFiles")


def resolve_device(key: str, name: str) -> str:
    """A device's name; `auto` becomes the best available device.

    Raises:
        UserError: the device is not available (the message names `key`); or the name is `auto` and
            PyTorch does not see the GPU of CUDA_VISIBLE_DEVICES (on the CPU a run takes days).
    """
    check_device(key, name)
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        assigned = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        if not cuda and assigned not in NO_GPU:
            raise UserError(
                f"CUDA_VISIBLE_DEVICES={assigned}: PyTorch sees no such GPU; "
                f"set an available one, or choose {key}=cpu"
            )
        return "cuda" if cuda else "mps" if mps else "cpu"
    if name.startswith("cuda"):
        index = int(name.partition(":")[2] or 0)
        if not cuda or index >= torch.cuda.device_count():
            raise UserError(f"{key}={name}: PyTorch sees no such device; use auto")
    if name == "mps" and not mps:
        raise UserError(f"{key}=mps: PyTorch sees no such device; use auto")
    return name
