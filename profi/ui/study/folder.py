"""A study: its folder (study.json, pictures/ under random names, votes.sqlite), and its order."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from profi.atomic import write_text
from profi.types import UserError

#: The two questions of appendix D, by the name under which their answers are stored.
QUESTIONS: Mapping[str, str] = MappingProxyType(
    {"prompt": "prompt alignment", "quality": "overall quality"}
)
#: Results are shown as A, B, C, ...; the key X is "none".
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVW"
VERSION = 1


@dataclass(frozen=True)
class StudyMethod:
    """A compared method: its name in the report, and the run that painted its pictures."""

    label: str
    run: str


@dataclass(frozen=True)
class StudyTriplet:
    """One triplet of a study.

    `results` has one file per method, in the order of the study's methods; `given` is the input
    with the mask's outline. The files lie in pictures/.
    """

    triplet_id: str
    image_id: int
    prompt: str
    given: str
    results: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """What is asked, of whom, about which pictures.

    `codes` are the participants' codes: participant number i has `codes[i]`. `repeats` is the
    number of triplets that each participant is shown twice. `consent` is the text, in paragraphs,
    to which a participant agrees.
    """

    title: str
    seed: int
    repeats: int
    consent: tuple[str, ...]
    codes: tuple[str, ...]
    methods: tuple[StudyMethod, ...]
    triplets: tuple[StudyTriplet, ...]

    @property
    def steps(self) -> int:
        """The number of pages that a participant answers."""
        return len(self.triplets) + self.repeats

    def picture_names(self) -> frozenset[str]:
        """All files in pictures/."""
        given = (triplet.given for triplet in self.triplets)
        results = (name for triplet in self.triplets for name in triplet.results)
        return frozenset([*given, *results])


@dataclass(frozen=True)
class StudyFolder:
    """The paths in a study's folder."""

    root: Path

    @property
    def record(self) -> Path:
        """The study, with the names of the methods: never served."""
        return self.root / "study.json"

    @property
    def pictures(self) -> Path:
        """The pictures, under random names."""
        return self.root / "pictures"

    @property
    def votes(self) -> Path:
        """The database of the answers."""
        return self.root / "votes.sqlite"

    @property
    def codes(self) -> Path:
        """The participants' codes, one a line."""
        return self.root / "codes.txt"


def write_study(folder: StudyFolder, study: Study) -> None:
    """Write study.json and codes.txt."""
    text = json.dumps({"version": VERSION, **asdict(study)}, indent=2, ensure_ascii=False)
    write_text(folder.codes, "\n".join(study.codes) + "\n")
    write_text(folder.record, text + "\n")


def read_study(folder: StudyFolder) -> Study:
    """The study in a folder; UserError if it is none, or of another version."""
    if not folder.record.is_file():
        raise UserError(f"{folder.root} is not a study's folder: make one with profi study new")
    try:
        value = json.loads(folder.record.read_text(encoding="utf-8"))
        version = value.pop("version")
        study = _study(value) if version == VERSION else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder.record} cannot be read: restore it, or make a new study") from (
            error
        )
    if study is None:
        raise UserError(f"{folder.record} is of another version of profi: make a new study")
    return study


def _study(value: dict[str, Any]) -> Study:
    def strings(items: Sequence[Any]) -> tuple[str, ...]:
        return tuple(str(item) for item in items)

    return Study(
        title=str(value["title"]),
        seed=int(value["seed"]),
        repeats=int(value["repeats"]),
        consent=strings(value["consent"]),
        codes=strings(value["codes"]),
        methods=tuple(StudyMethod(**item) for item in value["methods"]),
        triplets=tuple(
            StudyTriplet(**(item | {"results": strings(item["results"])}))
            for item in value["triplets"]
        ),
    )


class Showing(NamedTuple):
    """One page of a participant.

    `triplet` is its place in the study, `order` has the method (its place in the study) of each
    result from the left; `repeat` marks the second showing of a triplet.
    """

    triplet: int
    repeat: bool
    order: tuple[int, ...]


def showings(study: Study, participant: int) -> list[Showing]:
    """The pages of a participant, shuffled by the study's seed and the participant's number.

    Repeated triplets are drawn from the first third, and come again, with the results shuffled
    anew, somewhere in the last third.
    """
    # A text as the seed gives the same numbers in every process and version.
    rng = random.Random(f"{study.seed}:{participant}")
    places = list(range(len(study.triplets)))
    rng.shuffle(places)
    third = len(places) // 3
    again = rng.sample(places[:third], study.repeats)
    start = len(places) - third
    end = [(place, False) for place in places[start:]] + [(place, True) for place in again]
    rng.shuffle(end)
    pages = [(place, False) for place in places[:start]] + end
    methods = range(len(study.methods))
    return [
        Showing(place, repeat, tuple(rng.sample(methods, len(methods)))) for place, repeat in pages
    ]
