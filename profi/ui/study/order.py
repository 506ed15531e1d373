"""The order in which a participant sees the triplets, and the methods' places on each page."""

from __future__ import annotations

import random
from typing import NamedTuple

from profi.ui.study.folder import Study


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
