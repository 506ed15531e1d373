"""How much memory does one step take at its peak, against a plain one?

    python -m benchmarks.memory [--size 512] [--batch 1] [--dtype float16] [--reading released]

Counted, not measured: the step runs on fake tensors, which have a size and no values, and every
storage alive at the same time is added up, weights included. Left out are the workspaces inside
kernels and what an allocator wastes; attention is the fused kind, as on a GPU. SD-1.5 inpainting
architecture; the UNet alone (the VAE and the text encoder run before and after).
"""

from __future__ import annotations

import argparse
import weakref
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import sd15
from benchmarks.steps import NAIVE, ROWS, Size, Step
from profi.diffusion.schedule import Schedule
from profi.inpainters.backbone import DTYPES
from profi.inpainters.readings import READINGS, Reading


class LiveBytes(TorchDispatchMode):
    """The bytes of all tensors made while it is active that are still alive, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._watch(leaf.untyped_storage())
        return result

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self._alive.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size


class RealSchedule(Schedule):
    """A schedule whose alphas can be read as numbers while all tensors are fake."""

    def alpha(self, t: int) -> float:
        """As the schedule's."""
        with unset_fake_temporarily():
            return super().alpha(t)


def step_bytes(row: str, reading: Reading, size: Size, dtype: torch.dtype) -> tuple[int, int]:
    """(peak of what a step allocates, weights) in bytes."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        backbone = sd15.backbone("cpu", dtype, channels_last=False)
    backbone = replace(backbone, schedule=RealSchedule.from_config(sd15.SCHEDULER))
    weights = sum(p.nbytes for p in backbone.unet.parameters())
    step = Step(row, reading, backbone, size)
    live = LiveBytes()
    with FakeTensorMode(allow_non_fake_inputs=True), live:
        step()
    return live.peak, weights


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float16")
    parser.add_argument("--reading", choices=tuple(READINGS), default="released")
    args = parser.parse_args()
    size = Size(args.size, args.batch)
    print(
        f"one step, SD-1.5 inpainting, {args.size}x{args.size}, batch {args.batch}, {args.dtype}, "
        f"reading={args.reading}"
    )
    plain = None
    for row in (*ROWS, NAIVE):
        peak, weights = step_bytes(row, READINGS[args.reading], size, DTYPES[args.dtype])
        total = peak + weights
        plain = plain or total
        print(
            f"  {row:12s} {total / 2**30:6.2f} GiB ({weights / 2**30:.2f} of weights)   "
            f"{total / plain:.2f} x plain"
        )


if __name__ == "__main__":
    main()
