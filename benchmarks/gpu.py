"""Every figure that needs a GPU, in one go of at most ten minutes.

    python -m benchmarks.gpu --out FOLDER                       # an hour of a card is enough by far
    python -m benchmarks.gpu --out FOLDER --device cpu --tiny   # rehearsed on a CPU

Each part is written to FOLDER/parts.jsonl and FOLDER/report.md as soon as it is measured; a part
that fails or finds no time left is noted, and the others go on. The same command again does what is
missing. Random weights, SD 1.5's architecture, float16. A bare CUDA machine needs torch,
diffusers, transformers, safetensors, accelerate, scipy, numpy, pillow, pyarrow, pandas, rich,
pycocotools and this checkout in PYTHONPATH; no Hydra.

    speed      seconds a picture: diffusers' pipeline, our rows, the naive reading; batches 1 and 8
    memory     the measured peak of a plain and of a full picture at 512, 1024 and 2048 pixels
    layout     channels_last against contiguous
    compile    the UNet's blocks compiled against not
    outside    seconds outside the UNet: texts, encoding, decoding, and the rest (the sampler,
               RASG's own arithmetic)
    one pass   a guided step with both branches as one batch against the method's two passes
    graphs     the UNet's pass as a CUDA graph against the same pass launched kernel by kernel
    rows       seconds of each part of each row of Table 1, and the hours of 50,000 pictures
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.architectures import SD15, Architecture, Tower, make_backbone
from benchmarks.graphs import BothBranches, replayed
from benchmarks.overhead import watched
from benchmarks.rows import ROWS, Models, usual_vae_dtype
from benchmarks.speed import MORE, PEER, Inputs, calls
from benchmarks.steps import Size, Step
from benchmarks.timing import in_turns, machine, timed
from profi.method.inpainting import StableInpainting
from profi.method.methods import compose
from profi.models.backbone import DTYPES, Backbone
from profi.models.compiled import CompiledBlocks
from profi.settings.method import RELEASED, Sampling

TINY = Architecture(
    64,
    (Tower(64, 2, 2),),
    {
        "cross_attention_dim": 64,
        "attention_head_dim": 4,
        "block_out_channels": (32, 32, 64, 64),
    },
)
PICTURES = 50_000  # of a row of the paper's tables
PAIR = ("base", "profi")
GUIDED = ("rasg_only", "profi")
Figures = dict[str, Any]
Part = Callable[[], Figures]


class Skipped(Exception):  # noqa: N818 (an outcome, not an error)
    """A part that this device cannot have; its text is the reason."""


def medians(rows: dict[str, Callable[[], object]], of: Backbone, repeats: int) -> Figures:
    """Per row the median seconds and the extremes; the rows take turns after a first round."""
    return {
        name: {
            "seconds": statistics.median(taken),
            "least": min(taken),
            "most": max(taken),
        }
        for name, taken in in_turns(rows, of, repeats).items()
    }


class Bench:
    """The parts and what they share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.of = TINY if options.tiny else SD15
        self.device, self.dtype = torch.device(options.device), DTYPES[options.dtype]
        self.sampling = Sampling(num_inference_steps=options.steps)

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Names and calls, the most important first."""
        tiny = self.options.tiny
        for batch in (1, 2) if tiny else (1, 8):
            yield f"speed, batch {batch}", partial(self.speed, batch)
        for size in (64, 128) if tiny else (512, 1024, 2048):
            yield f"memory, {size} px", partial(self.memory, size)
        yield "outside", self.outside
        for batch in (1,) if tiny else (1, 8):
            yield f"one pass, batch {batch}", partial(self.one_pass, batch)
        yield "graphs", self.graphs
        yield "layout", self.layout
        for name in ("bld",) if tiny else tuple(ROWS):
            yield f"row {name}", partial(self.row, name)
        if not tiny:
            yield "compile", self.compiled

    def backbone(self, channels_last: bool = True) -> Backbone:
        """Random weights; the VAE in the dtype that a run would give it."""
        return make_backbone(self.of, str(self.device), self.dtype, channels_last)

    def painting(self, backbone: Backbone, row: str, size: int, batch: int) -> Callable[[], object]:
        """A whole call of one of our rows."""
        paint = StableInpainting(backbone, compose(row, RELEASED), self.sampling)
        return partial(paint, *Inputs(size, batch).args())

    def speed(self, batch: int) -> Figures:
        """All rows against diffusers' pipeline and the naive reading."""
        backbone = self.backbone()
        names = argparse.Namespace(
            size=self.of.pixels,
            batch=batch,
            steps=self.options.steps,
            reading="released",
            rows=MORE,
        )
        found = medians(calls(names, backbone), backbone, self.options.repeats)
        for figures in found.values():
            figures["over base"] = figures["seconds"] / found["base"]["seconds"]
            figures["over diffusers"] = figures["seconds"] / found[PEER]["seconds"]
            figures["pictures a second"] = batch / figures["seconds"]
        return found

    def memory(self, size: int) -> Figures:
        """The measured peak of whole calls of two steps, weights included."""
        backbone, found = self.backbone(), {}
        for row in PAIR:
            paint = StableInpainting(backbone, compose(row, RELEASED), Sampling(2))
            call = partial(paint, *Inputs(size, 1).args())
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(self.device)
            call()
            peak = torch.cuda.max_memory_allocated() if self.device.type == "cuda" else None
            found[row] = {"GiB": None if peak is None else peak / 2**30}
        return found

    def outside(self) -> Figures:
        """What of a batch's seconds is not the UNet's; the difference of the rows is RASG's own."""
        backbone, found = self.backbone(), {}
        for batch in (1,) if self.options.tiny else (1, 8):
            inputs = Inputs(self.of.pixels, batch)
            size = (self.of.pixels, self.of.pixels)
            images = 2 * inputs.images.to(self.device) - 1
            latents = backbone.encode_images(images)
            parts: dict[str, Callable[[], object]] = {
                "texts": lambda n=inputs.prompts, s=size: backbone.condition(n, s),
                "encoding": lambda x=images: backbone.encode_images(x),
                "decoding": lambda x=latents: backbone.decode(x),
            }
            apart = {
                part: figures["seconds"]
                for part, figures in medians(parts, backbone, self.options.repeats).items()
            }
            for row in PAIR:
                found[f"{row}, batch {batch}"] = self._split(backbone, row, batch, apart)
        return found

    def _split(self, backbone: Backbone, row: str, batch: int, apart: Figures) -> Figures:
        """The median call of a row, in parts."""
        call = self.painting(backbone, row, self.of.pixels, batch)
        taken = []
        for _ in range(self.options.repeats + 1):
            backbone.forget()
            with watched(backbone) as clock:
                whole = timed(call, self.device)
            taken.append((whole, clock.seconds))
        # The first one warms up.
        whole, unet = sorted(taken[1:])[(len(taken) - 1) // 2]
        # Two texts: the prompt's and the empty one.
        outside = {**apart, "texts": 2 * apart["texts"]}
        return {
            "seconds": whole,
            "UNet": unet,
            **outside,
            "the rest": whole - unet - sum(outside.values()),
            "share outside the UNet": 1 - unet / whole,
        }

    def one_pass(self, batch: int) -> Figures:
        """A guided step in one pass over the same step in two."""
        backbone, found = self.backbone(), {}
        size = Size(self.of.pixels, batch)
        for row in GUIDED:
            rows: dict[str, Callable[[], object]] = {
                "two passes": Step(row, RELEASED, backbone, size),
                "one pass": Step(row, RELEASED, backbone, size, one_pass=True),
            }
            measured = medians(rows, backbone, self.options.repeats)
            for name, figures in measured.items():
                over = figures["seconds"] / measured["two passes"]["seconds"]
                found[f"{row}, {name}"] = {**figures, "over two passes": over}
        return found

    def graphs(self) -> Figures:
        """The pass of both branches at batch 1, replayed as a CUDA graph."""
        if self.device.type != "cuda":
            raise Skipped("no CUDA")
        backbone, found = self.backbone(), {}
        for row in ("base", "painta_only"):
            one = BothBranches(row, backbone, Size(self.of.pixels, 1))
            rows = {"launched": one, "replayed": replayed(one)}
            measured = medians(rows, backbone, 10 * self.options.repeats)
            for name, figures in measured.items():
                over = figures["seconds"] / measured["launched"]["seconds"]
                found[f"{row}, {name}"] = {**figures, "over launched": over}
        return found

    def layout(self) -> Figures:
        """channels_last against contiguous, batch 1."""
        found: Figures = {}
        for name, last in (("contiguous", False), ("channels_last", True)):
            backbone = self.backbone(last)
            rows = {row: self.painting(backbone, row, self.of.pixels, 1) for row in PAIR}
            for row, figures in medians(rows, backbone, self.options.repeats).items():
                found[f"{row}, {name}"] = figures
        return found

    def compiled(self) -> Figures:
        """The UNet's blocks compiled against not, batch 1; the first picture apart."""
        backbone, found = self.backbone(), {}
        rows = {row: self.painting(backbone, row, self.of.pixels, 1) for row in PAIR}
        plain = medians(rows, backbone, self.options.repeats)
        with CompiledBlocks(backbone.unet):
            first = {row: timed(call, self.device) for row, call in rows.items()}
            compiled = medians(rows, backbone, self.options.repeats)
        for row in PAIR:
            found[row] = {
                **compiled[row],
                "first": first[row],
                "over plain": compiled[row]["seconds"] / plain[row]["seconds"],
            }
        return found

    def row(self, name: str) -> Figures:
        """A row of Table 1 at batch 8: seconds of its parts, of a picture, hours of all."""
        row, batch = ROWS[name], 1 if self.options.tiny else 8
        if self.options.tiny:
            row = type(row)(TINY, 2, 1, row.role, row.unet, row.has_controlnet, row.guided)
        vae = usual_vae_dtype(row, str(self.device), self.dtype)
        models = Models.make(row, str(self.device), self.dtype, vae)
        total, parts = 0.0, {}
        for part, (times, call) in models.parts(row, row.of.pixels, batch).items():
            taken = [timed(call, self.device) for _ in range(self.options.repeats + 1)][1:]
            parts[part] = statistics.median(taken)
            total += times * parts[part]
        outside = sum(seconds for part, seconds in parts.items() if part in ("texts", "decoding"))
        return {
            name: {
                "seconds a picture": total / batch,
                "hours of 50,000": total / batch * PICTURES / 3600,
                "texts and decoding": outside / total,
            }
        }


def written(folder: Path, line: Figures) -> None:
    """Add a part to parts.jsonl and write report.md anew."""
    with (folder / "parts.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    lines = [json.loads(text) for text in (folder / "parts.jsonl").read_text().splitlines()]
    text = ""
    for part in lines:
        text += f"\n## {part['part']}\n\n{part['machine']}; {part['how']}\n\n"
        if "skipped" in part:
            text += f"skipped: {part['skipped']}\n"
            continue
        if "failed" in part:
            text += f"not measured: {part['failed']}\n"
            continue
        names = list(dict.fromkeys(key for row in part["figures"].values() for key in row))
        text += f"| | {' | '.join(names)} |\n|---|{'---|' * len(names)}\n"
        for row, figures in part["figures"].items():
            cells = [figures.get(name) for name in names]
            shown = [f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells]
            text += f"| {row} | {' | '.join(shown)} |\n"
    (folder / "report.md").write_text(f"# Measured on a GPU\n{text}")


def main() -> None:
    """Measure part by part."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--device", default="cuda")
    options.add_argument("--dtype", choices=tuple(DTYPES), default="float16")
    options.add_argument("--steps", type=int, default=10)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--minutes", type=float, default=9.5)
    options.add_argument("--tiny", action="store_true", help="a rehearsal with small networks")
    chosen = options.parse_args()
    if chosen.tiny:
        chosen.dtype, chosen.steps, chosen.repeats = "float32", 2, 1
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / "parts.jsonl"
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {line["part"] for line in known if "figures" in line}
    start = time.monotonic()
    how = f"{chosen.dtype}, {chosen.steps} steps, median of {chosen.repeats}"
    facts = {"machine": machine(chosen.device), "how": how}
    for name, part in Bench(chosen).parts():
        if name in done:
            continue
        if time.monotonic() - start > 60 * chosen.minutes:
            print(f"{name}: no time left; the same command goes on")
            continue
        try:
            line = {"part": name, **facts, "figures": part()}
        except Skipped as reason:
            line = {"part": name, **facts, "skipped": str(reason)}
        except Exception as error:  # noqa: BLE001  # the other parts are worth having
            line = {"part": name, **facts, "failed": f"{type(error).__name__}: {error}"[:300]}
        written(chosen.out, line)
        print(json.dumps(line), flush=True)
        if chosen.device.startswith("cuda"):
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
