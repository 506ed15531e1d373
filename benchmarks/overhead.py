"""How much of painting a run is spent outside the UNet?

    python -m benchmarks.overhead --device cuda --dtype float16 --batch 8 --count 64
    python -m benchmarks.overhead --device cpu --size 256 --steps 4 --count 2
    python -m benchmarks.overhead --model shipped:cpu/inpaint --size 64 --batch 32 --count 64

The generation stage as a run has it: pictures read and fitted, text, VAE, the sampling loop, PNG,
parts written. "UNet" is its forward passes and the gradient through it; the peer is the whole.
The pictures are the embedded world's, enlarged. Without `--model`, SD-1.5's architecture with
random weights. A first batch warms up and does not count. The share is of `--of-steps` steps,
each as expensive as the measured ones were on average.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.architectures import SD15, make_backbone
from benchmarks.timing import header, median_text, parser
from profi.data.manifest import write_manifest
from profi.harness.build_data import image_root, load_triplets
from profi.harness.generate import Plan, generate
from profi.harness.progress import Meter
from profi.harness.run_folder import RunFolder
from profi.method.inpainting import StableInpainting
from profi.method.methods import compose
from profi.models.backbone import DTYPES, Backbone, load_backbone
from profi.settings import DataConfig, shipped_path
from profi.settings.evaluation import OURS
from profi.settings.method import READINGS, Sampling
from profi.types import UserError


class UNetTime:
    """Seconds in the UNet's passes and in gradients, waiting for the device at both ends."""

    def __init__(self, backbone: Backbone) -> None:
        self.seconds = 0.0
        self._backbone = backbone
        self._begun = 0.0

    def start(self, *_: Any) -> None:
        """A pass begins."""
        self._begun = self._now()

    def stop(self, *_: Any) -> None:
        """It ends."""
        self.seconds += self._now() - self._begun

    def _now(self) -> float:
        if self._backbone.device.type == "cuda":
            torch.cuda.synchronize(self._backbone.device)
        return time.perf_counter()


@contextmanager
def watched(backbone: Backbone) -> Iterator[UNetTime]:
    """A `UNetTime` of all that happens meanwhile."""
    clock, gradient = UNetTime(backbone), torch.autograd.grad

    def timed_gradient(*args: Any, **kwargs: Any) -> Any:
        clock.start()
        try:
            return gradient(*args, **kwargs)
        finally:
            clock.stop()

    before = backbone.unet.register_forward_pre_hook(clock.start)
    after = backbone.unet.register_forward_hook(clock.stop)
    torch.autograd.grad = timed_gradient
    try:
        yield clock
    finally:
        torch.autograd.grad = gradient
        before.remove()
        after.remove()


def measured(inpainter: StableInpainting, plan: Plan, data: DataConfig) -> tuple[float, float]:
    """(seconds in the UNet, seconds of the whole) per picture."""
    triplets, _ = load_triplets(data, None)
    device = inpainter.backbone.device
    with tempfile.TemporaryDirectory() as folder:
        warm, run = (RunFolder(Path(folder) / name) for name in ("warm", "run"))
        for each, some in ((warm, triplets[: plan.batch_size]), (run, triplets)):
            each.root.mkdir()
            write_manifest(each.manifest, some)
        generate(warm, inpainter, triplets[: plan.batch_size], plan, device, _silent())
        with watched(inpainter.backbone) as clock:
            start = time.perf_counter()
            tally = generate(run, inpainter, triplets, plan, device, _silent())
            whole = time.perf_counter() - start
    if tally.failed:
        raise UserError(f"{tally.failed} pictures failed: no numbers for the others")
    return clock.seconds / tally.painted, whole / tally.painted


def _silent() -> Meter:
    return Meter("", 0, None)


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--model", help="a folder in the diffusers layout")
    options.add_argument("--steps", type=int, default=50)
    options.add_argument("--of-steps", type=int, default=50)
    options.add_argument("--count", type=int, default=8, help="pictures")
    options.add_argument("--part-size", type=int, default=16)
    options.add_argument("--rows", nargs="+", default=["base", "profi"])
    args = options.parse_args()
    dtype = DTYPES[args.dtype]
    if args.model is None:
        backbone = make_backbone(SD15, args.device, dtype)
    else:
        folder = shipped_path(args.model)
        backbone = load_backbone(folder, torch.device(args.device), args.dtype)
    data = DataConfig(limit=args.count)
    plan = Plan(
        root=image_root(data),
        seed=0,
        long_side=args.size,
        pad_multiple=backbone.pixel_multiple,
        batch_size=args.batch,
        part_size=args.part_size,
        evaluation=OURS,
    )
    print(header(args, f"{args.steps} steps, {args.count} pictures"), flush=True)
    for row in args.rows:
        method = compose(row, READINGS["released"])
        inpainter = StableInpainting(backbone, method, Sampling(num_inference_steps=args.steps))
        pairs = [measured(inpainter, plan, data) for _ in range(args.repeats)]
        outside = [whole - unet for unet, whole in pairs]
        full = [unet * args.of_steps / args.steps for unet, _ in pairs]
        shares = [100 * a / (a + b) for a, b in zip(outside, full, strict=True)]
        print(
            f"  {row:12s} a picture {median_text([whole for _, whole in pairs])}   "
            "outside the UNet "
            f"{median_text(outside)}   of {args.of_steps} steps {statistics.median(shares):.1f} % "
            f"[{min(shares):.1f}, {max(shares):.1f}]",
            flush=True,
        )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
