"""The command line of scripts/train_smartbrush.py, and what its arguments become."""

from __future__ import annotations

from dataclasses import fields

import pytest

from profi.cli.arguments import help_text, parsed
from profi.mini.training.smartbrush_stage import MINI
from profi.training.recipe import Recipe
from profi.types import UserError


@pytest.fixture(scope="module")
def script(load_script):  # type: ignore[no-untyped-def]
    return load_script("train_smartbrush")


def test_data_sets_the_defaults_and_what_is_given_comes_over_them(script) -> None:  # type: ignore[no-untyped-def]
    options, recipe = script.read([])
    assert (options.data, options.side, recipe) == ("scenes", 128, MINI)
    options, recipe = script.read(["steps=7", "side=256", "data=coco", "min_share=0.1"])
    assert (options.side, options.min_share, options.val_root) == (256, 0.1, "")
    assert recipe == Recipe(steps=7)
    assert script.read(["side=1", "side=2"])[0].side == 2


def test_the_precision_is_accelerate_s_unless_it_is_given(script) -> None:  # type: ignore[no-untyped-def]
    assert script.read([])[0].precision == ""
    assert script.read(["precision=no"])[0].precision == "no"
    assert script.read(["precision="])[0].precision == ""
    assert [script.read([f"cpu={text}"])[0].cpu for text in ("yes", "no")] == [True, False]


@pytest.mark.parametrize(
    "text", ["", "2024", "no", "null", "1e3", "a b: c", 'q"q', "ä=b", "~/x", "${x}"]
)
def test_a_text_stays_as_it_is(script, text: str) -> None:  # type: ignore[no-untyped-def]
    """YAML would make numbers, truth values and nothing of some."""
    assert script.read([f"model={text}"])[0].model == text


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("data=imagenet", "data=imagenet: choose one of scenes, coco"),
        ("precision=int4", "precision=int4: choose one of .*no, bf16, fp16"),
        ("cpu=maybe", "cpu=maybe: .*bool"),
        ("save_every=0", "save_every=0: must be a finite number of at least 1"),
        ("show_every=1.5", r"show_every=1\.5"),
        ("workers=many", "workers=many"),
        ("workers=", "workers="),
        ("min_share=nan", "min_share=nan: must be a finite number of at least 0"),
        ("side=-64", "side=-64"),
        ("colour=red", "colour=red: settings are data=.* blurs="),
        ("model.x=red", r"model\.x=red: settings are"),
        ("side", "side: settings are"),
        ("blurs=a,b", "blurs=a,b"),
        ("work=", "work=: name a folder"),
        ("val_root=", "go together"),
    ],
)
def test_a_bad_argument_is_refused_by_its_name(script, argument: str, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message) as caught:
        script.read([argument])
    assert "\n" not in str(caught.value)


def test_the_help_names_every_option_and_setting(script) -> None:  # type: ignore[no-untyped-def]
    text = help_text("About it.", **script.DEFAULTS)
    assert text.startswith("About it.")
    for section in (script.Options, Recipe):
        for spec in fields(section):
            assert f"\n  {spec.name}=  {spec.metadata['meaning']}" in text
    assert "(default scenes: 128, coco: 512)" in text


def test_the_other_scripts_read_theirs_alike(load_script) -> None:  # type: ignore[no-untyped-def]
    mini, crops = load_script("train_mini"), load_script("caption_crops")
    (options,) = parsed(["stage=vae", "seed=3", "minutes=1.5"], mini.Options())
    assert (options.stage, options.seed, options.minutes) == ("vae", 3, 1.5)
    assert mini.Options().minutes is None
    for script, argument in ((mini, "stage=vea"), (mini, "seed=x"), (crops, "batch=0")):
        with pytest.raises(UserError, match=f"^{argument}: "):
            script.main([argument])
