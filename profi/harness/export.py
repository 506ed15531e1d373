"""Pictures out of the stores: PNG files in the images' own size, with a table of them."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from profi.atomic import write_text
from profi.data.manifest import read_manifest
from profi.data.masks import triplet_mask
from profi.data.pictures import load_image
from profi.harness.build_data import image_root
from profi.harness.run_folder import (
    RunFolder,
    evaluation_of_run,
    existing_run,
    method_name,
    run_record,
    run_settings,
)
from profi.harness.score import decode
from profi.inputs import blend, in_given_size, pil_image
from profi.settings import DataConfig, ModelConfig
from profi.settings.fields import restored
from profi.store.generations import read_generations
from profi.store.scores import metric_of, newest_scores
from profi.types import Generation, Triplet, UserError

TABLE = "pictures.csv"
COLUMNS = ("file", "run", "model", "ablation", "seed", "triplet", "image", "prompt")


@dataclass(frozen=True)
class Choice:
    """What to write with the pictures, and in which form these are.

    Fields:
        as_painted: the model's output in its own size, in place of the given image's size with the
            given pixels outside of the mask.
        highres: the large pictures of the run (`highres=` of an experiment) in place of the painted
            ones, as stored and without scores; each set of settings in a folder of its own.
        masks, inputs: write the masks and the given images, too.
        data_root: the folder of the given images; None: as the run's settings say.
    """

    as_painted: bool = False
    highres: bool = False
    masks: bool = False
    inputs: bool = False
    data_root: Path | None = None


def export(
    runs: Sequence[Path], target: Path, choice: Choice, progress: Callable[[int], None]
) -> int:
    """Write the pictures of `runs` to `target`/<model>-<ablation>-seed<n>-<run id>/; their number.

    `target`/pictures.csv has a line per picture, with the newest scores of every metric. Masks and
    inputs go to masks/ and inputs/. `progress` is called with the number of pictures so far.

    Raises:
        UserError: a folder is no run or has no picture, an image is missing, or `target` has files.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is not an empty folder: name another one")
    if choice.as_painted and choice.highres:
        raise UserError("choose the pictures as painted or those in high resolution, not both")
    rows: list[dict[str, Any]] = []
    for folder in runs:
        run = existing_run(folder)
        before = len(rows)
        for row in _exported(run, target, choice):
            rows.append(row)
            progress(len(rows))
        if len(rows) == before:
            lacking = "picture in high resolution: run it with highres=ours"
            if not choice.highres:
                lacking = "painted picture: run stage=generate first"
            raise UserError(f"{folder} has no {lacking}")
    metrics = sorted({key for row in rows for key in row} - set(COLUMNS))
    text = StringIO()
    table = csv.DictWriter(text, [*COLUMNS, *metrics], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(target / TABLE, text.getvalue())
    return len(rows)


def _exported(run: RunFolder, target: Path, choice: Choice) -> Iterator[dict[str, Any]]:
    """Write a run's pictures one by one; yields their lines of the table."""
    pixels, settings = run_record(run)["pixels"], run_settings(run)
    model = settings["model"].get("id", ModelConfig.id)
    ablation = method_name(pixels)
    root = choice.data_root or image_root(restored(DataConfig, settings["data"]))
    folder = target / _plain(f"{model}-{ablation}-seed{pixels['seed']}-{run.run_id}")
    stores = {folder: run.generations}
    scores: dict[str, dict[str, float]] = {}
    if choice.highres:
        large = sorted(path for path in run.highres.glob("*") if path.is_dir())
        stores = {folder.with_name(f"{folder.name}-{path.name}"): path for path in large}
    else:
        names = {metric_of(path.name) for path in run.scores.glob("*-*")}
        scores = {name: newest_scores(run.scores, name) for name in sorted(names)}
    triplets = {t.triplet_id: t for t in read_manifest(run.manifest)}
    for into, item in (
        (into, item) for into, at in stores.items() for item in read_generations(at)
    ):
        triplet = triplets[item.triplet_id]
        path = into / f"{_plain(item.triplet_id)}.png"
        _write(target, path, item, triplet, root, choice, run)
        yield {
            "file": path.relative_to(target).as_posix(),
            "run": run.run_id,
            "model": model,
            "ablation": ablation,
            "seed": item.seed,
            "triplet": item.triplet_id,
            "image": triplet.file_name,
            "prompt": triplet.prompt,
            **{name: values.get(item.triplet_id) for name, values in scores.items()},
        }


def _write(
    target: Path,
    path: Path,
    item: Generation,
    triplet: Triplet,
    root: Path,
    choice: Choice,
    run: RunFolder,
) -> None:
    as_stored = choice.as_painted or choice.highres
    if not as_stored or choice.inputs:
        given = load_image(root, triplet)
    if as_stored:
        picture = Image.fromarray(decode(item.image))
    else:
        image = torch.from_numpy(given).permute(2, 0, 1) / 255.0
        painted = torch.from_numpy(decode(item.image)).permute(2, 0, 1)
        mask = torch.from_numpy(triplet_mask(triplet))
        whole = in_given_size(painted, image, evaluation_of_run(run))
        picture = pil_image(blend(whole, image, mask))
    _save(picture, path)
    if choice.inputs:
        _save(Image.fromarray(given), target / "inputs" / path.name)
    if choice.masks:
        mask_bytes = triplet_mask(triplet).astype(np.uint8) * 255
        _save(Image.fromarray(mask_bytes), target / "masks" / path.name)


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, format="PNG")


def _plain(name: str) -> str:
    """A name for a file: letters, digits, '.', '_' and '-'."""
    return re.sub(r"[^\w.-]+", "_", name).strip(".")
