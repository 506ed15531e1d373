"""The stages `fetch` and `check`: what a command needs, got and tried before its long work.

`fetch` gets data and weights. `check` also paints one picture per row, scores it by every metric,
and estimates time, memory and room: from that picture, and from the counted costs (`estimates`)
where there is no picture. Nothing of it is stored, and one failure does not hide the next.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import netrc
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from profi.harness.build_data import load_triplets
from profi.harness.build_metrics import load_metrics
from profi.harness.enlarge import upscaler_choice
from profi.harness.estimates import Expected, cost_lines, counted, fits
from profi.harness.generate import paint_together
from profi.harness.part_work import Painted
from profi.harness.rows import load_rows
from profi.harness.runs import Command, Run, context_of, existing_parent, runs_of
from profi.harness.score import originals_of, samples_of
from profi.harness.work import cpu_threads
from profi.highres.upscaler import load_upscaler
from profi.inpainter import Row
from profi.metrics import Metric
from profi.models.model_folder import HUB_ERRORS
from profi.settings import Config, Sampling
from profi.types import MachineError, Triplet, UserError

log = logging.getLogger(__name__)
T = TypeVar("T")
#: What a failing thing may raise here: each becomes one line.
ERRORS: tuple[type[Exception], ...] = (
    UserError,
    MachineError,
    OSError,
    RuntimeError,
    ValueError,
    *HUB_ERRORS,
)
#: Steps of the trial: the fewest that every row can do, and more, for the time of a step.
STEPS = (2, 4)
#: A stored picture's share of scores, manifest and logs.
EXTRA_ROOM = 1.1
#: Bytes per pixel of a painted photo as PNG, where no picture could be painted.
ASSUMED_BYTES = 1.75


@dataclass
class Findings:
    """The lines of a check, each logged as soon as it is known."""

    good: int = 0
    bad: list[str] = field(default_factory=list)

    def tried(self, what: str, work: Callable[[], T], detail: Callable[[T], str]) -> T | None:
        """The result of `work`, or None if it fails; logs which."""
        try:
            result = work()
            text = detail(result)
        except ERRORS as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            self.bad.append(what)
            log.error("failed  %s: %s", what, reason)
            return None
        self.good += 1
        log.info("ok      %s: %s", what, text)
        return result


def check(command: Command, console: Console) -> None:
    """Get and, with the stage `check`, try everything that the command needs.

    Raises:
        UserError: something failed; the lines before say what.
    """
    config, findings = command.config, Findings()
    triplets = findings.tried(
        f"data {config.data.name}",
        lambda: _triplets(config, console),
        lambda t: f"{len(t)} triplets",
    )
    metrics = [m for name in config.metric.metrics for m in _metric(config, name, findings)]
    if config.logger.name == "wandb" and config.stage == "check":
        findings.tried("W&B", lambda: _logged_in(config), str)
    if config.highres.name != "none":
        choice = upscaler_choice(config, "cpu")
        findings.tried(f"upscaler {choice[0]}", lambda: load_upscaler(*choice), lambda _: "loaded")
    room = 0.0
    costs: list[Expected] = []
    for one in config.per_model:
        runs = runs_of(replace(command, config=one))
        rows = findings.tried(
            f"model {one.model.id}",
            partial(load_rows, context_of(one), [run.method for run in runs]),
            lambda rows: f"{len(rows)} row(s) loaded",
        )
        if config.stage == "fetch":
            continue
        for name in dict.fromkeys(run.method.name for run in runs):
            of_row = [run for run in runs if run.method.name == name]
            # Without the data, as many as the settings ask for.
            count = (len(triplets) if triplets else config.data.limit or 0) * len(of_row)
            size, seconds = 0.0, None
            if rows and triplets:
                with cpu_threads(one.model.threads):
                    size, seconds = _try_row(one, rows[name], of_row, triplets, metrics, findings)
            size = size or ASSUMED_BYTES * one.model.long_side**2
            room += size * count * EXTRA_ROOM
            cost = counted(one.model, name, one.sampling)
            label = f"{one.model.id} {name}"
            costs.append(
                Expected(label, count, one.model.batch_size, seconds, cost, one.model.dtype)
            )
        del rows
    if config.stage == "check":
        for line in cost_lines(costs):
            log.info("%s", line)
        findings.tried("memory", lambda: fits(costs, config.model.device), str)
        findings.tried(f"room in {command.out}", lambda: _free(command.out, room), str)
    if findings.bad:
        raise UserError(
            f"{len(findings.bad)} of {findings.good + len(findings.bad)} checks failed: "
            f"{', '.join(findings.bad)} (see above)"
        )


def _triplets(config: Config, console: Console) -> tuple[Triplet, ...]:
    own = config.sections.get(config.data.source)
    return load_triplets(config.data, console, config.evaluation, own)[0]


def _metric(config: Config, name: str, findings: Findings) -> list[Metric]:
    """The metric, or nothing if it cannot be loaded."""
    alone = replace(config.metric, metrics=[name])
    arguments = (alone, config.model.device, config.evaluation, config.sections)
    found = findings.tried(f"metric {name}", lambda: load_metrics(*arguments), lambda _: "loaded")
    return found or []


def _try_row(
    config: Config,
    row: Row,
    runs: Sequence[Run],
    triplets: Sequence[Triplet],
    metrics: Sequence[Metric],
    findings: Findings,
) -> tuple[float, float | None]:
    """Paint and score one triplet; returns a picture's bytes and seconds, if it was painted."""
    run, triplet, count = runs[0], triplets[0], len(triplets) * len(runs)
    label = f"{config.model.id} {run.key.ablation}"

    def paint() -> tuple[Painted, float]:
        loaded = [(triplet, run.plan.fitted(triplet))]
        found: list[Painted] = []
        # The first picture warms up.
        for steps in (STEPS[0], *STEPS):
            short = of_steps(row, config.sampling, steps)
            found += paint_together(short, loaded, run.plan, row.device, lambda _: None)
            if short is row:
                return found[0], found[0].seconds
        per_step = max(0.0, (found[2].seconds - found[1].seconds) / (STEPS[1] - STEPS[0]))
        rest = max(0.0, found[1].seconds - per_step * STEPS[0])
        return found[2], rest + per_step * config.sampling.num_inference_steps

    def shown(result: tuple[Painted, float]) -> str:
        painted, seconds = result
        peak = painted.peak_memory_bytes
        memory = "" if math.isnan(peak) else f", {peak / 2**30:.1f} GiB"
        hours = seconds * count / 3600
        return f"{seconds:.2g} s a picture{memory}: {hours:.2g} h for {count}, one at a time"

    result = findings.tried(f"painting {label}", paint, shown)
    if result is None:
        return 0.0, None
    item = result[0].encoded()
    originals = originals_of(run.plan) if any(m.needs_original for m in metrics) else None
    samples = findings.tried(
        f"crops of {label}",
        lambda: samples_of([item], {triplet.triplet_id: triplet}, originals, config.evaluation),
        lambda _: "made",
    )
    for metric in metrics if samples else ():
        (sample,) = (samples or {}).values()
        findings.tried(
            f"{metric.name} of {label}",
            partial(lambda m, s: m([s])[0], metric, sample),
            lambda value: f"{value:.4g}",
        )
    return len(item.image), result[1]


def of_steps(row: Row, sampling: Sampling, steps: int) -> Row:
    """The row with another number of steps; the row itself, if it has none that can be set."""
    own = getattr(row, "own_steps", False)
    if own or not (is_dataclass(row) and isinstance(getattr(row, "sampling", None), Sampling)):
        return row
    return replace(row, sampling=replace(sampling, num_inference_steps=steps))


def _logged_in(config: Config) -> str:
    """How W&B will be reached."""
    if importlib.util.find_spec("wandb") is None:
        raise UserError(
            "the package is not installed: pip install -c constraints.txt -e '.[wandb]'"
        )
    if (os.environ.get("WANDB_MODE") or config.logger.mode) != "online":
        return f"offline, into {config.out}/wandb"
    if os.environ.get("WANDB_API_KEY"):
        return "the key of WANDB_API_KEY"
    try:
        known = netrc.netrc().authenticators("api.wandb.ai")
    except (OSError, netrc.NetrcParseError):
        known = None
    if known is None:
        raise UserError("not logged in: run wandb login, or set logger.mode=offline")
    return "the key of ~/.netrc"


def _free(out: Path, needed: float) -> str:
    """The room for the pictures; UserError if there is too little."""
    free = shutil.disk_usage(existing_parent(out)).free
    text = f"{free / 1e9:.1f} GB free, about {needed / 1e9:.2g} GB needed"
    if free < needed:
        raise UserError(f"{text}; name another folder with out=...")
    return text
