"""What a picture costs in each row of the paper's tables, counted beforehand.

The figures are those of docs/baselines.md: operations and peak memory of the released
architectures with a float16 UNet (`python -m benchmarks.rows`; painta_only and rasg_only by the
same counting). They are counted, not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType

import torch

from profi.settings import ModelConfig, Sampling
from profi.types import UserError

#: The steps of the counted pictures.
STEPS = Sampling.num_inference_steps


@dataclass(frozen=True)
class Cost:
    """Of a picture: TFLOP, and GiB with all weights, painted alone and in a batch of 8."""

    tflop: float
    gib_alone: float
    gib_of_8: float

    def gib(self, batch: int) -> float:
        """The peak of a batch, which grows with every picture by the same."""
        return self.gib_alone + (self.gib_of_8 - self.gib_alone) * (batch - 1) / 7


#: Operations per second that a row without any measured one is estimated at, in TFLOP.
ASSUMED_RATE = 100.0


@dataclass(frozen=True)
class Expected:
    """What is known of a row's cost: its measured seconds a picture, its counted cost, or neither.

    `count` is the number of its pictures, `batch` how many are painted at once, `dtype` the UNet's.
    """

    label: str
    count: int
    batch: int
    seconds: float | None
    cost: Cost | None
    dtype: str = "float16"

    @property
    def gib(self) -> float | None:
        """The peak of a batch in GiB, at most; the counted one is that of two bytes a number."""
        if self.cost is None:
            return None
        return self.cost.gib(self.batch) * (2 if self.dtype == "float32" else 1)


_SD15 = {
    "base": Cost(84.0, 2.6, 5.2),
    "painta_only": Cost(84.5, 2.6, 5.2),
    "rasg_only": Cost(105.8, 2.6, 5.3),
    "profi": Cost(106.6, 2.6, 5.6),
}
_SD2 = {
    "base": Cost(84.2, 3.4, 6.0),
    "painta_only": Cost(84.7, 3.4, 6.0),
    "rasg_only": Cost(106.0, 3.4, 6.0),
    "profi": Cost(106.8, 3.5, 6.3),
}
_SDXL = {"base": Cost(691.7, 11.1, 32.2), "profi": Cost(1001.5, 13.7, 52.6)}
#: By the model's id, then by the ablation.
COUNTED: Mapping[str, Mapping[str, Cost]] = MappingProxyType(
    {
        "bld": {"base": Cost(64.8, 3.4, 6.0)},
        "sdxl_inpainting": {"base": Cost(683.1, 11.1, 32.2)},
        "controlnet": {"base": Cost(113.4, 3.3, 5.9)},
        "smartbrush": {"base": Cost(85.1, 2.6, 5.2)},
        "stable-diffusion-v1-5/stable-diffusion-inpainting": _SD15,
        "Lykon/dreamshaper-8-inpainting": _SD15,
        "sd2-community/stable-diffusion-2-inpainting": _SD2,
        "diffusers/stable-diffusion-xl-1.0-inpainting-0.1": _SDXL,
    }
)


def counted(model: ModelConfig, ablation: str, sampling: Sampling) -> Cost | None:
    """The cost of a picture of a row, or None where it was not counted.

    A picture of other steps takes as many more or fewer operations (its texts, encoding and
    decoding, some 4 %, are counted as if they grew too). Other working sizes were not counted.
    """
    found = COUNTED.get(model.id, {}).get(ablation)
    usual = 1024 if "xl" in model.id else ModelConfig.long_side
    if found is None or model.long_side != usual:
        return None
    return Cost(found.tflop * sampling.num_inference_steps / STEPS, found.gib_alone, found.gib_of_8)


def cost_lines(rows: Sequence[Expected]) -> list[str]:
    """A line per row that is not painted here, and a sum.

    A row without a picture takes as long as its counted operations do at the rate of the rows that
    were painted (the median), or at ASSUMED_RATE where none was.
    """
    rates = [row.cost.tflop / row.seconds for row in rows if row.cost and row.seconds]
    rate = median(rates) if rates else ASSUMED_RATE
    at = f"at {rate:.3g} TFLOP/s, {'as measured here' if rates else 'an assumption'}"
    lines, hours, unknown = [], 0.0, []
    for row in rows:
        seconds = row.seconds
        if seconds is None and row.cost is not None:
            seconds = row.cost.tflop / rate
            memory = f"{row.gib:.1f} GiB in batches of {row.batch} ({row.dtype})"
            work = f" {seconds * row.count / 3600:.3g} h for {row.count}" if row.count else ""
            lines.append(
                f"counted {row.label}: {row.cost.tflop:.1f} TFLOP a picture, {seconds:.2g} s {at};"
                f"{work or ' its pictures are not known'}; {memory}"
            )
        if seconds is None:
            unknown.append(row.label)
        else:
            hours += seconds * row.count / 3600
    pictures = sum(row.count for row in rows)
    left_out = f", without {', '.join(unknown)} (not known)" if unknown else ""
    if pictures:
        lines.append(f"in all: about {hours:.3g} h of painting for {pictures} pictures{left_out}")
    return lines


def fits(rows: Sequence[Expected], device: str) -> str:
    """The largest counted batch in words; UserError if the GPU is smaller."""
    known = [(row.gib, row) for row in rows if row.gib is not None]
    if not known:
        return "not counted for these models"
    needed, row = max(known, key=lambda pair: pair[0])
    text = f"about {needed:.1f} GiB for {row.label} in batches of {row.batch} ({row.dtype})"
    there = gpu_memory(device)
    if there is None:
        return text
    if needed > there:
        raise UserError(f"{text}, the GPU has {there:.1f}; set model.batch_size lower")
    return f"{text}, the GPU has {there:.1f}"


def gpu_memory(device: str) -> float | None:
    """A GPU's memory in GiB; None for other devices."""
    wants_gpu = device == "auto" or device.startswith("cuda")
    if not wants_gpu or not torch.cuda.is_available():
        return None
    index = int(device.partition(":")[2] or torch.cuda.current_device())
    return float(torch.cuda.get_device_properties(index).total_memory) / 2**30
