"""Lists of runs: what is in a folder, and what the runs of a table still lack."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from profi.data.manifest import read_manifest
from profi.harness.run_folder import RunFolder, existing_run, method_name, run_record, run_settings
from profi.harness.run_status import Absent, Entry, RunStatus, read_status
from profi.reports import Missing
from profi.reports.names import RowKey, metric_style, row_labels
from profi.settings import DataConfig, ModelConfig
from profi.store.generations import painted_count
from profi.store.parts import part_indices, part_path, read_lines
from profi.store.scores import metric_of, newest_scores
from profi.types import UserError

#: Settings that the commands replace.
_REPLACED = ("stage", "shard", "ablation", "ablations", "seed", "seeds")


@dataclass(frozen=True)
class Gap:
    """What one run lacks: unpainted images, and per metric unscored images."""

    key: RowKey
    seed: int
    n_expected: int
    n_unpainted: int
    n_unscored: Mapping[str, int]


def gaps(
    statuses: Mapping[Entry, RunStatus],
    absent: Sequence[Absent],
    scores: pd.DataFrame,
    metrics: Sequence[str],
) -> list[Gap]:
    """The runs that lack something, in the table's order."""
    key = ["run_id", "ablation", "reading", "metric"]
    counted = scores.groupby(key).size().to_dict() if len(scores) else {}
    found = []
    for entry, status in statuses.items():
        run = (entry.run.run_id, entry.ablation, entry.reading)
        painted = len(status.triplets) - status.n_missing
        lacking = {metric: painted - counted.get((*run, metric), 0) for metric in metrics}
        unscored = {metric: count for metric, count in lacking.items() if count > 0}
        if status.n_missing or unscored:
            n_expected = len(status.triplets)
            found.append(Gap(entry.key, entry.seed, n_expected, status.n_missing, unscored))
    n_expected = max((len(status.triplets) for status in statuses.values()), default=0)
    # Where nothing is painted at all, nobody has counted the triplets.
    found += [Gap(item.key, item.seed, n_expected, n_expected or 1, {}) for item in absent]
    order = list(row_labels(gap.key for gap in found))
    return sorted(found, key=lambda gap: (order.index(gap.key), gap.seed))


def missing_lines(
    found: Sequence[Gap],
    labels: Mapping[RowKey, str],
    overrides: Sequence[str],
    models: Mapping[str, str],
    program: Sequence[str] = ("python", "run.py"),
) -> Missing:
    """A line per gap, and the commands that fill the gaps.

    Args:
        found: see `gaps`.
        labels: the rows' printed names.
        overrides: of the command that made the report (`stage=report experiment=table2`).
        models: for a table of several models, a model's id to its option (`model=sd15`); else
            empty.
        program: how the command was called.
    """
    lines = []
    for gap in found:
        parts = []
        if gap.n_unpainted:
            of_all = f"{gap.n_unpainted} of {gap.n_expected} images are not painted"
            parts.append(of_all if gap.n_expected else "no image is painted")
        parts += [f"{count} images have no {metric}" for metric, count in gap.n_unscored.items()]
        lines.append(f"{labels[gap.key]}, seed {gap.seed}: {', '.join(parts)}")
    commands = []
    for stage, chosen in (
        ("generate", [gap for gap in found if gap.n_unpainted]),
        ("score", list(found)),
    ):
        commands += [
            _command(program, overrides, models.get(model), ablations, seeds, stage)
            for model, ablations, seeds in _products(chosen)
        ]
    if commands:
        kept = [text for text in overrides if _key(text) not in ("stage", "shard")]
        commands.append(shlex.join([*program, *kept, "stage=report"]))
    return Missing(lines, commands)


def _products(found: Sequence[Gap]) -> list[tuple[str, list[str], list[int]]]:
    """The gaps as products (model, ablations, seeds): ablations with equal seeds together."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for gap in found:
        seeds.setdefault((gap.key.model, gap.key.ablation), []).append(gap.seed)
    together: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for (model, ablation), numbers in seeds.items():
        together.setdefault((model, tuple(sorted(set(numbers)))), []).append(ablation)
    return [(model, names, list(numbers)) for (model, numbers), names in together.items()]


def _command(
    program: Sequence[str],
    overrides: Sequence[str],
    model: str | None,
    ablations: Sequence[str],
    seeds: Sequence[int],
    stage: str,
) -> str:
    kept = [text for text in overrides if _key(text) not in _REPLACED]
    chosen = []
    if model is not None:
        # One model alone is set by model.*, not by models.NAME.*.
        mine, others = f"models.{model}.", "models."
        kept = [text for text in kept if _key(text).startswith(mine) or others not in _key(text)]
        kept = [text.replace(mine, "model.", 1) for text in kept]
        chosen = [f"model={model}"]
    narrowed = [
        f"ablations=[{','.join(ablations)}]",
        f"seeds=[{','.join(map(str, seeds))}]",
        f"stage={stage}",
    ]
    return shlex.join([*program, *kept, *chosen, *narrowed])


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


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
    # Not as checked settings: those of a plugin that is not here can be shown, too.
    model, data = settings["model"], settings["data"]
    limit = "" if data.get("limit") is None else f", {data['limit']} triplets"
    name = model.get("id", ModelConfig.id)
    shown_data = data.get("name", DataConfig.name)
    return f"{name} {method_name(pixels)} seed {pixels['seed']} on {shown_data}{limit}"


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
