"""Which device a name means on this machine."""

from __future__ import annotations

import torch

from profi.config import check_device
from profi.types import UserError


def resolve_device(key: str, name: str) -> str:
    """`auto` becomes the best device there is; UserError naming `key` for one that is not there."""
    check_device(key, name)
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    if name.startswith("cuda"):
        index = int(name.partition(":")[2] or 0)
        if not cuda or index >= torch.cuda.device_count():
            raise UserError(f"{key}={name}: PyTorch sees no such device; use auto")
    if name == "mps" and not mps:
        raise UserError(f"{key}=mps: PyTorch sees no such device; use auto")
    return name
