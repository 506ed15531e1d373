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
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.architectures import SCHEDULER, SD15, make_backbone
from benchmarks.steps import NAIVE, ROWS, Size, Step
from profi.models.backbone import DTYPES, Backbone
from profi.models.schedule import Schedule
from profi.settings.method import READINGS, Reading


class LiveBytes(TorchDispatchMode):
    """The bytes of all storages made while it is active that are still alive, and their peak.

    What was there before, weights and the views of them, is not among them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: set[int] = set()
        self._from_before: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for storage in _storages((args, kwargs)):
            key = storage._cdata
            if key not in self._alive and key not in self._from_before:
                self._from_before.add(key)
                weakref.finalize(storage, self._from_before.discard, key)
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            self._watch(storage)
        return result

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive or key in self._from_before:
            return
        self._alive.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size


def _storages(tree: Any) -> Iterator[torch.UntypedStorage]:
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor):
            yield leaf.untyped_storage()


class RealSchedule(Schedule):
    """A schedule whose alphas can be read as numbers while all tensors are fake."""

    def alpha(self, t: int) -> float:
        """As the schedule's."""
        with unset_fake_temporarily():
            return super().alpha(t)


def peak_bytes(fake: FakeTensorMode, call: Callable[[], object]) -> int:
    """The most that a call allocates at once, in the mode in which its models were made."""
    live = LiveBytes()
    with fake, live:
        call()
    return live.peak


def readable(backbone: Backbone) -> Backbone:
    """A backbone of fake tensors whose schedule has real numbers."""
    return replace(backbone, schedule=RealSchedule.from_config(SCHEDULER))


def step_bytes(row: str, reading: Reading, size: Size, dtype: torch.dtype) -> tuple[int, int]:
    """(peak of what a step allocates, weights) in bytes."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake:
        backbone = make_backbone(SD15, "cpu", dtype, channels_last=False)
    backbone = readable(backbone)
    weights = sum(p.nbytes for p in backbone.unet.parameters())
    return peak_bytes(fake, Step(row, reading, backbone, size)), weights


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
