"""What the runs of a folder are, for a terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from profi.data.manifest import read_manifest
from profi.harness.run_folder import RunFolder, existing_run, method_name, run_record, run_settings
from profi.harness.run_status import Entry, read_status
from profi.reports.names import metric_style
from profi.settings import DataConfig, ModelConfig
from profi.settings.fields import build
from profi.store.generations import painted_count
from profi.store.journal import read_lines
from profi.store.parts import part_indices, part_path
from profi.store.scores import metric_of, newest_scores
from profi.types import UserError


@dataclass(frozen=True)
class Listed:
    """A run: `what` it paints, how many of its triplets, when and by which commit."""

    run: RunFolder
    what: str
    painted: int
    triplets: int
    when: str
    commit: str


def listed(out: Path) -> list[Listed]:
    """The runs in a folder, the latest last, without those of another version."""
    found: list[tuple[float, Listed]] = []
    for record in out.glob("*/run.json"):
        run = RunFolder(record.parent)
        try:
            found.append(_listed(run))
        except (UserError, KeyError):
            continue
    return [item for _, item in sorted(found, key=lambda pair: pair[0])]


def _listed(run: RunFolder) -> tuple[float, Listed]:
    indices = part_indices(run.generations)
    files = [part_path(run.generations, index) for index in indices]
    last = max((path.stat().st_mtime for path in files), default=math.nan)
    painted = painted_count(run.generations)
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(last)) if files else "-"
    starts = read_lines(run.root / "starts.jsonl")
    commit = str((starts[-1] if starts else {}).get("commit") or "-")[:12]
    item = Listed(run, what_of(run), painted, len(read_manifest(run.manifest)), when, commit)
    return (last if files else 0.0), item


def what_of(run: RunFolder) -> str:
    """Model, method, reading, seed and data in a few words."""
    pixels, settings = run_record(run)["pixels"], run_settings(run)
    model = build(ModelConfig, settings["model"])
    data = build(DataConfig, settings["data"])
    limit = "" if data.limit is None else f", {data.limit} triplets"
    return f"{model.id} {method_name(pixels)} seed {pixels['seed']} on {data.name}{limit}"


def details(folder: Path) -> Iterator[str]:
    """Lines about one run: what it is, how far, its scores, its failures."""
    run = existing_run(folder)
    pixels = run_record(run)["pixels"]
    status = read_status(Entry(run, "", method_name(pixels), "", pixels["seed"]))
    yield f"run       {run.run_id}: {what_of(run)}"
    yield f"painted   {len(status.part_of)} of {len(status.triplets)}"
    starts = [
        f"started   {start.get('command')}  ({str(start.get('commit'))[:12]})"
        for start in read_lines(run.root / "starts.jsonl")
    ]
    # The workers of one command write a line each.
    yield from list(dict.fromkeys(starts))[-3:]
    for name in sorted({metric_of(path.name) for path in run.scores.glob("*-*")}):
        values = pd.Series(newest_scores(run.scores, name))
        mean = f"{values.mean():.4g}" if values.notna().any() else "-"
        yield f"score     {metric_style(name).label}: {mean} (mean of {values.notna().sum()})"
    for line in status.failed[:5]:
        yield f"failed    {line['triplet_id']} ({line['stage']}): {line['reason']}"
    if len(status.failed) > 5:
        yield f"          and {len(status.failed) - 5} more in {run.quarantine}"
    for page in sorted(folder.parent.glob("reports/*/report.html")):
        if run.run_id in page.read_text(encoding="utf-8", errors="replace"):
            yield f"report    {page}"
    yield f"pictures  profi export {folder} --to FOLDER"
