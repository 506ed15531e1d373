"""The settings of the evaluation: stated once, refused by name, accepted one at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args, get_type_hints

import pytest

from profi.settings import Config
from profi.settings.evaluation import (
    OF_SCORES,
    OURS,
    RELEASED,
    Evaluation,
    evaluation_of,
)
from profi.types import UserError

CHOICES = {n: get_args(hint) for n, hint in get_type_hints(Evaluation).items() if n != "name"}


def test_the_configuration_has_the_same_defaults() -> None:
    assert Evaluation() == Config().evaluation == OURS


def test_each_choice_has_two_values_and_the_bundles_differ_in_all_but_one() -> None:
    assert all(len(values) == 2 for values in CHOICES.values())
    same = [name for name in CHOICES if getattr(OURS, name) == getattr(RELEASED, name)]
    assert same == ["dilation"]
    # What differs from the usual is named, of pixels and of scores apart.
    assert OURS.of_pixels == {}
    other = replace(RELEASED, dilation="after_padding")
    assert other.of_pixels.keys() | set(OF_SCORES) == CHOICES.keys()
    assert other.of_pixels.keys() & set(OF_SCORES) == set()


@pytest.mark.parametrize("name", ["name", *CHOICES])
def test_an_unknown_value_is_refused_by_name(name: str) -> None:
    for build in (
        lambda: replace(OURS, **{name: "best"}),
        lambda: Evaluation(**{name: "best"}),
    ):
        with pytest.raises(UserError, match=rf"evaluation\.{name}=best: choose one of") as caught:
            build()
        assert "\n" not in str(caught.value)


def test_labels_tell_what_was_changed() -> None:
    assert OURS.label == "ours"
    assert replace(RELEASED, noise="picture", box="painted_mask").label == (
        "released, noise=picture, box=painted_mask"
    )


def test_by_name_or_as_they_are() -> None:
    assert evaluation_of("released") is RELEASED
    mine = replace(OURS, bytes="truncated")
    assert evaluation_of(mine) is mine
    with pytest.raises(UserError, match="evaluation=mine is unknown; choose ours or released"):
        evaluation_of("mine")
