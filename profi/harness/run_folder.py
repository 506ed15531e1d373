"""The folder of a run: its paths and its records."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profi.atomic import write_text
from profi.data.manifest import write_manifest
from profi.settings.evaluation import Evaluation
from profi.settings.fields import restored
from profi.store.parts import append_line
from profi.types import RunSpec, Triplet, UserError, canonical_json, digest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFolder:
    """`<out>/<run id>/` and the paths in it."""

    root: Path

    @property
    def run_id(self) -> str:
        """The folder's name."""
        return self.root.name

    @property
    def generations(self) -> Path:
        """Parts of painted images."""
        return self.root / "generations"

    @property
    def scores(self) -> Path:
        """A folder of parts per metric."""
        return self.root / "scores"

    @property
    def highres(self) -> Path:
        """A folder of parts of large pictures per set of settings."""
        return self.root / "highres"

    @property
    def manifest(self) -> Path:
        """The triplets of the run."""
        return self.root / "manifest.parquet"

    @property
    def quarantine(self) -> Path:
        """The samples that failed."""
        return self.root / "quarantine.jsonl"

    @property
    def log(self) -> Path:
        """The log lines of the run's commands."""
        return self.root / "run.log"


def open_run(
    out: Path,
    spec: RunSpec,
    settings: Mapping[str, Any],
    triplets: Sequence[Triplet],
    config_text: str,
    command: str,
) -> RunFolder:
    """The run's folder with its records, new or existing.

    `run.json` holds the id and the pixels, `starts.jsonl` a line per start (command, commit,
    versions, device), `config.yaml` the last command's settings, `manifest.parquet` the triplets.
    """
    run = RunFolder(out / spec.run_id)
    run.root.mkdir(parents=True, exist_ok=True)
    record = run.root / "run.json"
    if record.is_file():
        if canonical_json(_read_json(record)["pixels"]) != canonical_json(spec.pixels):
            raise UserError(f"{record} does not match the name of its folder: move the folder away")
    else:
        write_text(record, _pretty({"run_id": spec.run_id, "pixels": spec.pixels}))
    append_line(run.root / "starts.jsonl", {"command": command, **spec.environment})
    # The run's id determines the manifest: writing it again repairs a damaged one.
    write_manifest(run.manifest, triplets)
    write_text(run.root / "config.yaml", config_text)
    write_text(run.root / "settings" / f"{digest(settings)}.json", _pretty(settings))
    return run


def find_run(out: Path, settings: Mapping[str, Any]) -> RunFolder | None:
    """The folder of the run that was last started with these settings; None if there is none."""
    found = list(out.glob(f"*/settings/{digest(settings)}.json"))
    if not found:
        return None
    found.sort(key=lambda path: path.stat().st_mtime)
    if len(found) > 1:
        log.warning(
            "%d runs in %s have these settings (weights or data changed): using the latest",
            len(found),
            out,
        )
    return RunFolder(found[-1].parent.parent)


def run_record(run: RunFolder) -> dict[str, Any]:
    """The run's `run.json`: its id and its pixels; UserError if it cannot be read."""
    return _read_json(run.root / "run.json")


def existing_run(folder: Path) -> RunFolder:
    """The run in a folder; UserError if it is none."""
    if not (folder / "run.json").is_file():
        raise UserError(f"{folder} is not a run's folder: give outputs/<run id>")
    return RunFolder(folder)


def method_name(pixels: Mapping[str, Any]) -> str:
    """The method of a run's pixels; rows without methods have `base` alone."""
    return str((pixels.get("method") or {}).get("name", "base"))


def run_settings(run: RunFolder) -> dict[str, Any]:
    """The settings of the run's last start that differ from their defaults, by section.

    UserError if the folder has none that can be read.
    """
    files = list((run.root / "settings").glob("*.json"))
    if not files:
        raise UserError(f"{run.root} has no settings/: it is no run of this version")
    return _read_json(max(files, key=lambda path: path.stat().st_mtime))


def evaluation_of_run(run: RunFolder) -> Evaluation:
    """The evaluation that a run was painted with; its rules for scores are not recorded.

    UserError for a run of an older version, which did not record the evaluation.
    """
    pixels = run_record(run)["pixels"].get("evaluation")
    if pixels is None:
        raise UserError(f"{run.root} was painted by an older version: paint it again")
    found: Evaluation = restored(Evaluation, pixels)
    return found


def _pretty(value: Mapping[str, Any]) -> str:
    return json.dumps(json.loads(canonical_json(value)), indent=2, sort_keys=True) + "\n"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: move its folder away") from error
    return value
