"""Make a study from painted runs."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from profi.atomic import whole_file
from profi.data.manifest import read_manifest, sample_triplets
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
from profi.reports.names import RowKey, row_labels
from profi.reports.thumbnails import outlined
from profi.settings import DataConfig, ModelConfig
from profi.settings.fields import build
from profi.store.generations import read_generations
from profi.types import Generation, Triplet, UserError
from profi.ui.study.folder import (
    LETTERS,
    Study,
    StudyFolder,
    StudyMethod,
    StudyTriplet,
    read_study,
    write_study,
)

#: Letters and digits that are hard to mistake for others.
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
#: Smaller inputs are enlarged to this side, so that the outline is thin on the page.
OUTLINE_SIDE = 512

CONSENT = (
    "You will see pictures of which one part was painted anew by several programs, from a short "
    "text. For each picture you choose the results that follow the text best, and those that have "
    "the best overall quality.",
    "Your choices and their times are stored under your code, without your name. You can stop at "
    "any time, and go on later with the same code.",
)


@dataclass(frozen=True)
class Wishes:
    """The settings of a new study.

    Fields:
        triplets: how many to draw.
        participants: how many codes to make.
        repeats: how many of the triplets each participant is shown a second time.
        seed: of the draw of the triplets and of every participant's order.
        title: the heading of the pages.
        consent: the text to agree to, in paragraphs.
        unblended: show what the model painted outside of the mask, too.
        data_root: the folder of the given images; None: as the runs' settings say.
    """

    triplets: int = 20
    participants: int = 12
    repeats: int = 2
    seed: int = 0
    title: str = "Which pictures are best?"
    consent: tuple[str, ...] = CONSENT
    unblended: bool = False
    data_root: Path | None = None


@dataclass(frozen=True)
class _Source:
    """A run, its name in the report, its triplets and painted pictures by triplet id."""

    run: RunFolder
    label: str
    triplets: Mapping[str, Triplet]
    painted: Mapping[str, Generation]


def create(root: Path, runs: Sequence[str], wishes: Wishes) -> Study:
    """Make the study `root` from runs; each is a folder, or LABEL=FOLDER with a name of its own.

    Raises:
        UserError: `root` has files, a run is none, two runs have one name or different triplets,
            or there are too few triplets that all runs painted.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{root} is not an empty folder: name another one")
    sources = _sources(runs)
    chosen = _drawn(sources, wishes)
    data = build(DataConfig, run_settings(sources[0].run)["data"])
    images = wishes.data_root or image_root(data)
    files: dict[str, bytes] = {}

    def keep(picture: Image.Image) -> str:
        name = f"{secrets.token_hex(16)}.png"
        files[name] = _png(picture)
        return name

    triplets = []
    for triplet in chosen:
        given = load_image(images, triplet)
        results = [_result(source, triplet, given, wishes.unblended) for source in sources]
        triplets.append(
            StudyTriplet(
                triplet.triplet_id,
                triplet.image_id,
                triplet.prompt,
                keep(_with_outline(given, triplet_mask(triplet))),
                tuple(keep(picture) for picture in results),
            )
        )
    study = Study(
        wishes.title,
        wishes.seed,
        wishes.repeats,
        wishes.consent,
        _codes(wishes.participants, ()),
        tuple(StudyMethod(source.label, source.run.run_id) for source in sources),
        tuple(triplets),
    )
    folder = StudyFolder(root)
    # By name, so that the files' times do not tell the methods apart.
    for name in sorted(files):
        with whole_file(folder.pictures / name) as file:
            file.write(files[name])
    write_study(folder, study)
    return study


def _sources(runs: Sequence[str]) -> list[_Source]:
    if not 2 <= len(runs) <= len(LETTERS):
        raise UserError(f"{len(runs)} runs: a study compares 2 to {len(LETTERS)}")
    folders: list[RunFolder] = []
    given: list[str | None] = []
    for word in runs:
        label, equals, path = word.partition("=")
        named = bool(equals) and not Path(word).exists()
        folders.append(existing_run(Path(path if named else word)))
        given.append(" ".join(label.split()) if named else None)
    keys = [_row(folder) for folder in folders]
    names = row_labels(keys)
    labels = [label or names[key] for label, key in zip(given, keys, strict=True)]
    for i, label in enumerate(labels):
        if label in labels[:i]:
            one, two = folders[labels.index(label)], folders[i]
            raise UserError(
                f"runs {one.run_id} and {two.run_id} are both called {label!r}: leave one out, or "
                f"name them apart, such as 'another name={two.root}'"
            )
    _check_same_data(folders)
    return [_source(folder, label) for folder, label in zip(folders, labels, strict=True)]


def _row(run: RunFolder) -> RowKey:
    model = build(ModelConfig, run_settings(run)["model"]).id
    return RowKey(model, method_name(run_record(run)["pixels"]), "")


def _check_same_data(folders: Sequence[RunFolder]) -> None:
    first = run_record(folders[0])["pixels"]
    for folder in folders[1:]:
        pixels = run_record(folder)["pixels"]
        differing = [name for name in ("manifest", "images") if pixels[name] != first[name]]
        if differing:
            raise UserError(
                f"runs {folders[0].run_id} and {folder.run_id} do not share their triplets (they "
                f"differ in {', '.join(differing)}): give runs of the same data settings"
            )


def _source(run: RunFolder, label: str) -> _Source:
    triplets = {triplet.triplet_id: triplet for triplet in read_manifest(run.manifest)}
    painted = {item.triplet_id: item for item in read_generations(run.generations)}
    if not painted:
        raise UserError(f"{run.root} has no painted picture: run stage=generate first")
    return _Source(run, label, triplets, painted)


def _drawn(sources: Sequence[_Source], wishes: Wishes) -> list[Triplet]:
    """The study's triplets: seeded, of different images as long as there are enough of them."""
    shared = [
        triplet
        for name, triplet in sources[0].triplets.items()
        if all(name in source.painted for source in sources)
    ]
    if not 1 <= wishes.triplets <= len(shared):
        raise UserError(
            f"--triplets {wishes.triplets}: the runs share {len(shared)} painted triplets; choose "
            f"1 to {len(shared)}"
        )
    if not 0 <= wishes.repeats <= wishes.triplets // 3:
        raise UserError(
            f"--repeats {wishes.repeats}: of {wishes.triplets} triplets, 0 to "
            f"{wishes.triplets // 3} can be shown twice with a distance"
        )
    first: dict[int, Triplet] = {}
    others = []
    for triplet in sample_triplets(shared, None, wishes.seed):
        if first.setdefault(triplet.image_id, triplet) is not triplet:
            others.append(triplet)
    return [*first.values(), *others][: wishes.triplets]


def _result(source: _Source, triplet: Triplet, given: np.ndarray, unblended: bool) -> Image.Image:
    """A painted picture in the given image's size, as `profi export` writes it."""
    image = torch.from_numpy(given).permute(2, 0, 1) / 255.0
    painted = torch.from_numpy(decode(source.painted[triplet.triplet_id].image)).permute(2, 0, 1)
    whole = in_given_size(painted, image, evaluation_of_run(source.run))
    if not unblended:
        whole = blend(whole, image, torch.from_numpy(triplet_mask(triplet)))
    return pil_image(whole)


def _with_outline(given: np.ndarray, mask: np.ndarray) -> Image.Image:
    factor = max(1, round(OUTLINE_SIDE / max(mask.shape)))
    size = (mask.shape[1] * factor, mask.shape[0] * factor)
    large = np.asarray(Image.fromarray(given).resize(size, Image.Resampling.BICUBIC))
    hole = np.asarray(
        Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BICUBIC)
    )
    # A dark line around a light one is seen on any picture.
    dark = outlined(large, hole > 127, (20, 20, 20), 10)
    return Image.fromarray(outlined(dark, hole > 127, (255, 255, 255), 4))


def _png(picture: Image.Image) -> bytes:
    """PNG of the pixels alone, the same way for every method."""
    buffer = BytesIO()
    Image.fromarray(np.asarray(picture.convert("RGB"))).save(buffer, format="PNG")
    return buffer.getvalue()


def more_participants(folder: StudyFolder, count: int) -> tuple[Study, tuple[str, ...]]:
    """Add `count` codes to a study: the study with them, and the new ones.

    Nothing changes for those who have a code. A server learns of them when it is started again.
    """
    study = read_study(folder)
    added = _codes(count, study.codes)
    study = replace(study, codes=(*study.codes, *added))
    write_study(folder, study)
    return study, added


def _codes(count: int, taken: Collection[str]) -> tuple[str, ...]:
    """Different random codes such as `k7mq-x2hp` (39 bits: they cannot be guessed by trying).

    At most 1000 with those `taken` already.
    """
    room = 1000 - len(taken)
    if not 1 <= count <= room:
        raise UserError(f"--participants {count}: choose 1 to {room}")
    codes: dict[str, None] = {}
    while len(codes) < count:
        letters = "".join(secrets.choice(ALPHABET) for _ in range(8))
        code = f"{letters[:4]}-{letters[4:]}"
        if code not in taken:
            codes[code] = None
    return tuple(codes)


def paragraphs(text: str) -> tuple[str, ...]:
    """The paragraphs of a text, which empty lines separate."""
    parts = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return tuple(part for part in parts if part)
