"""Our pipeline against a custom pipeline of diffusers' community, such as its hd_painter.

    python -m benchmarks.community --peer FOLDER/hd_painter.py \\
        [--peer-args key=value ...] [--model FOLDER] [--size 256] [--steps 10] [--repeats 5]

The peer is a file of your own copy: it is opened by
`DiffusionPipeline.from_pretrained(model, custom_pipeline=FILE)`, which runs that file's code, and
called as such pipelines are, `(prompt, image, mask_image, ...)`, with the switches of its method as
`--peer-args`. Ours is called with ablation=profi, reading=released. Both get the same pictures,
masks, prompts, seeds, steps and guidance scale, one picture at a time and in batches of four.

Seconds: both in one process, in turns, after a first round that warms up; a ratio is of one round.
Memory: a process of its own for each; on a GPU the most that PyTorch allocates, on a CPU the
largest resident size of the process while it paints (Linux). `model` is a folder in the layout of
diffusers; without one, the architecture of SD 1.5 with random weights (4 GB on disk).
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, StableDiffusionInpaintPipeline
from PIL import Image

from benchmarks.architectures import SCHEDULER, SD15, make_text, make_unet, make_vae
from benchmarks.steps import SHARE
from benchmarks.timing import machine, median_text, timed
from profi import ProFIPainterPipeline
from profi.models.backbone import DTYPES
from profi.types import UserError

OURS, PEER = "ours", "peer"
BATCHES = (1, 4)
GUIDANCE = 7.5


def value_of(text: str) -> Any:
    """A switch's value: a number, true, false or null as in JSON, else the text itself."""
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text


def arguments_of(words: Sequence[str]) -> dict[str, Any]:
    """`key=value` words as keyword arguments; UserError for other words."""
    for word in words:
        if not word.partition("=")[0].isidentifier() or "=" not in word:
            raise UserError(f"--peer-args {word}: write key=value")
    return {key: value_of(value) for key, _, value in (word.partition("=") for word in words)}


def save_random_model(folder: Path) -> None:
    """SD 1.5's architecture with random weights, in diffusers' layout."""
    torch.manual_seed(0)
    tower = make_text(SD15, "cpu").first
    StableDiffusionInpaintPipeline(
        vae=make_vae("cpu"),
        text_encoder=tower.encoder,
        tokenizer=tower.tokenizer,
        unet=make_unet(SD15, "cpu"),
        scheduler=DDIMScheduler.from_config(SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def opened(name: str, options: argparse.Namespace) -> Any:
    """Our pipeline or the peer's, from the same folder; each has models of its own."""
    given: dict[str, Any] = {"torch_dtype": DTYPES[options.dtype], "safety_checker": None}
    if name == OURS:
        pipe = ProFIPainterPipeline.from_pretrained(options.model, **given)
    else:
        # "remote" code is the file that the caller named; without consent diffusers runs none.
        pipe = DiffusionPipeline.from_pretrained(
            options.model, custom_pipeline=str(options.peer), trust_remote_code=True, **given
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(options.device)


def painting(
    name: str, pipe: Any, batch: int, options: argparse.Namespace
) -> Callable[[], Sequence[Image.Image]]:
    """A call that paints `batch` pictures of noise."""
    size = options.size
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    hole = np.zeros((size, size), dtype=np.uint8)
    hole[: round(SHARE * size)] = 255
    images = [Image.fromarray(one) for one in pixels]
    masks = [Image.fromarray(hole)] * batch
    own = {"ablation": "profi", "reading": "released"} if name == OURS else options.arguments
    several = batch > 1

    def call() -> Sequence[Image.Image]:
        seeds = [torch.Generator().manual_seed(seed) for seed in range(batch)]
        found: Sequence[Image.Image] = pipe(
            ["a cat"] * batch if several else "a cat",
            images if several else images[0],
            masks if several else masks[0],
            height=size,
            width=size,
            num_inference_steps=options.steps,
            guidance_scale=GUIDANCE,
            generator=seeds if several else seeds[0],
            **own,
        ).images
        if len(found) != batch:
            raise UserError(f"{name} gave {len(found)} pictures for a batch of {batch}")
        return found

    return call


def seconds(options: argparse.Namespace, batch: int) -> dict[str, list[float]]:
    """Seconds of a call of each, in turns."""
    device = torch.device(options.device)
    calls = {name: painting(name, opened(name, options), batch, options) for name in (OURS, PEER)}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(options.repeats + 1):
        for name, call in calls.items():
            needed = timed(call, device)
            if number > 0:
                taken[name].append(needed)
    return taken


def peak(name: str, options: argparse.Namespace, batch: int) -> tuple[int, int]:
    """(weights and what loading left, the most while painting) in bytes, in this process."""
    device = torch.device(options.device)
    pipe = opened(name, options)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        painting(name, pipe, batch, options)()
        return before, torch.cuda.max_memory_allocated(device)
    before = _resident("VmRSS")
    # Linux: "5" sets the largest resident size to the present one.
    Path("/proc/self/clear_refs").write_text("5")
    painting(name, pipe, batch, options)()
    return before, _resident("VmHWM")


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (one for one in lines if one.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def in_own_process(name: str, options: argparse.Namespace, batch: int) -> tuple[int, int]:
    """`peak` in a process that does nothing else."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        return pool.submit(peak, name, options, batch).result()


def measure(options: argparse.Namespace, batch: int) -> str:
    """The lines about one batch size."""
    taken = seconds(options, batch)
    gc.collect()
    memory = {name: in_own_process(name, options, batch) for name in (OURS, PEER)}
    lines = [f"batch {batch}"]
    for name in (OURS, PEER):
        loaded, most = memory[name]
        lines.append(
            f"  {name:5s} {median_text([one / batch for one in taken[name]])} a picture   "
            f"{most / 2**30:.2f} GiB at most, {(most - loaded) / 2**30:.2f} above the loaded models"
        )
    ratios = [theirs / own for own, theirs in zip(taken[OURS], taken[PEER], strict=True)]
    lines.append(
        f"  ours is {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}] times "
        f"as fast per picture, at {_over(memory, lambda own: own[1])} of the peer's memory "
        f"({_over(memory, lambda own: own[1] - own[0])} of what it takes above the models)"
    )
    return "\n".join(lines)


def _over(memory: Mapping[str, tuple[int, int]], what: Callable[[tuple[int, int]], int]) -> str:
    ours, theirs = what(memory[OURS]), what(memory[PEER])
    return f"{ours / theirs:.2f}" if theirs > 0 else "–"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peer", type=Path, required=True, help="the custom pipeline's file")
    parser.add_argument("--peer-args", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--model", type=Path, help="a folder in diffusers' layout")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    try:
        options.arguments = arguments_of(options.peer_args)
        if options.peer.suffix != ".py" or not options.peer.is_file():
            raise UserError(f"--peer {options.peer}: this is no .py file")
        if options.model is not None and not options.model.is_dir():
            raise UserError(f"--model {options.model}: this is no folder")
    except UserError as error:
        sys.exit(f"error: {error}")
    options.peer = options.peer.absolute()
    print(
        f"{machine(options.device)}\n{options.peer.name} {' '.join(options.peer_args)}\n"
        f"{options.size}x{options.size}, {options.steps} steps, {options.dtype}, "
        f"median of {options.repeats} [extremes]",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        if options.model is None:
            options.model = Path(folder)
            save_random_model(options.model)
        for batch in BATCHES:
            print(_line_of(partial(measure, options, batch), batch), flush=True)


def _line_of(work: Callable[[], str], batch: int) -> str:
    """What a batch size gives; where a pipeline cannot paint it, its reason."""
    try:
        return work()
    except (UserError, RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        return f"batch {batch}\n  not measured: {type(error).__name__}: {str(error)[:300]}"


if __name__ == "__main__":
    main()
