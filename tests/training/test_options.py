from __future__ import annotations

from dataclasses import fields

import pytest

from profi.training.options import Options, help_text
from profi.training.recipe import Recipe
from profi.training.scenes import MINI
from profi.types import UserError


def test_data_sets_the_defaults_and_what_is_given_comes_over_them() -> None:
    options, recipe = Options.read([])
    assert (options.data, options.side, recipe) == ("scenes", 64, MINI)
    options, recipe = Options.read(["steps=7", "side=256", "data=coco", "min_share=0.1"])
    assert (options.side, options.min_share, options.val_root) == (256, 0.1, "")
    assert recipe == Recipe(steps=7)


def test_the_precision_is_accelerate_s_unless_it_is_given() -> None:
    assert Options.read([])[0].precision == ""
    assert Options.read(["precision=no"])[0].precision == "no"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("data=imagenet", "data=imagenet: choose scenes or coco"),
        ("precision=int4", "precision=int4: choose no or bf16 or fp16"),
        ("cpu=maybe", "cpu=maybe: choose no or yes"),
        ("save_every=0", "save_every=0: must be a whole number of at least 1"),
        ("show_every=1.5", r"show_every=1\.5"),
        ("workers=many", "workers=many"),
        ("min_share=nan", "min_share=nan: must be a number of at least 0"),
        ("side=-64", "side=-64"),
        ("colour=red", "colour=red: settings are"),
        ("side", "side: settings are"),
        ("work=", "work=: name a folder"),
        ("val_root=", "go together"),
    ],
)
def test_a_bad_argument_is_refused_by_its_name(argument: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Options.read([argument])


def test_the_help_names_every_option_and_setting() -> None:
    text = help_text("About it.")
    assert text.startswith("About it.")
    for spec in fields(Options):
        assert f"\n  {spec.name}=  {spec.metadata['told']}" in text
    for spec in fields(Recipe):
        assert f"    {spec.name}: " in text
        assert f" {spec.name}=" in text
