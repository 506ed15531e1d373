"""Which device a name means on this machine."""

from __future__ import annotations

import os

import torch

from profi.settings import check_device
from profi.types import UserError

#: Values of CUDA_VISIBLE_DEVICES that mean none; the last is Slurm's.
NO_GPU = ("", "-1", "NoDevFiles")


def resolve_device(key: str, name: str) -> str:
    """`auto` becomes the best device there is.

    Raises:
        UserError: naming `key`, for a device that is not there; for `auto` on a machine that does
            not have the GPU of CUDA_VISIBLE_DEVICES, which would mean days on its CPU.
    """
    check_device(key, name)
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        assigned = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        if not cuda and assigned not in NO_GPU:
            raise UserError(
                f"CUDA_VISIBLE_DEVICES={assigned}: PyTorch sees no such GPU; "
                f"name one that is there, or choose {key}=cpu"
            )
        return "cuda" if cuda else "mps" if mps else "cpu"
    if name.startswith("cuda"):
        index = int(name.partition(":")[2] or 0)
        if not cuda or index >= torch.cuda.device_count():
            raise UserError(f"{key}={name}: PyTorch sees no such device; use auto")
    if name == "mps" and not mps:
        raise UserError(f"{key}=mps: PyTorch sees no such device; use auto")
    return name
