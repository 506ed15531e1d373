"""The page's settings: checked at one place, and back from a file what went into it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from profi.types import UserError
from profi.ui.painter.settings import Settings, as_json, settings_of, settings_of_facts

FULL = {
    "prompt": 'an "apple" in Zürich, \\ and 苹果',
    "model": "mini",
    "ablations": ["base", "profi"],
    "seed": 7,
    "variants": 3,
    "steps": 12,
    "guidance_scale": 5.0,
    "reading": "paper",
    "evaluation": "released",
    "positive": "clean",
    "negative": "blurry",
    "blended": False,
    "crop": 16,
    "feather": 3,
    "highres": False,
}


def test_all_settings_come_back_from_a_files_text() -> None:
    settings = settings_of(FULL)
    assert as_json(settings) == FULL
    for seed in settings.seeds:
        facts = json.dumps(settings.facts("base", seed), ensure_ascii=False)
        assert settings_of_facts(facts) == settings


def test_every_setting_is_in_the_example() -> None:
    assert set(FULL) == set(Settings.__dataclass_fields__)
    usual = as_json(Settings(prompt="x"))
    assert all(FULL[name] != usual[name] for name in FULL if name not in ("model", "highres"))
    large = {**FULL, "highres": True, "blended": True, "feather": 0}
    settings = settings_of(large)
    assert settings_of_facts(json.dumps(settings.facts("base", 7))) == settings


def test_the_settings_of_profi_paint_come_back() -> None:
    facts = {"prompt": "cup", "model": "mini", "dtype": "float32", "seed": 4, "ablation": "base"}
    assert settings_of_facts(json.dumps(facts)) == Settings("cup", ablations=("base",), seed=4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", ""),
        ("prompt", " "),
        ("prompt", "x" * 2001),
        ("prompt", 3),
        ("prompt", None),
        ("model", ["mini"]),
        ("ablations", []),
        ("ablations", "profi"),
        ("ablations", ["nothing"]),
        ("ablations", [["profi"]]),
        ("ablations", ["base", "base"]),
        ("seed", -1),
        ("seed", 2**32),
        ("seed", 1.5),
        ("seed", True),
        ("seed", "0"),
        ("seed", None),
        ("variants", 0),
        ("variants", 9),
        ("steps", 0),
        ("steps", 10**9),
        ("steps", float("nan")),
        ("guidance_scale", float("inf")),
        ("guidance_scale", -1),
        ("guidance_scale", True),
        ("reading", "mine"),
        ("reading", ["paper"]),
        ("evaluation", {}),
        ("blended", "yes"),
        ("blended", 1),
        ("highres", True),
        ("highres", "yes"),
        ("crop", -1),
        ("crop", 10**6),
        ("feather", 1000),
        ("path", "/etc/passwd"),
        ("long_side", 4096),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_it(name: str, value: Any) -> None:
    with pytest.raises(UserError) as refused:
        settings_of({"prompt": "cup", "feather": 1, name: value})
    text = str(refused.value)
    assert "\n" not in text
    assert name in text or (name == "ablations" and "method" in text)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '"x"', "[" * 100_000, '{"prompt": 1}']
)
def test_a_files_text_that_is_none_of_ours(text: str) -> None:
    with pytest.raises(UserError):
        settings_of_facts(text)


@pytest.mark.parametrize("values", [None, [], "prompt", 3])
def test_settings_are_an_object(values: Any) -> None:
    with pytest.raises(UserError, match="JSON object"):
        settings_of(values)


def test_too_many_pictures_at_once() -> None:
    with pytest.raises(UserError, match="make 24 pictures: at most 16"):
        settings_of(
            {"prompt": "cup", "ablations": ["base", "painta_only", "rasg_only"], "variants": 8}
        )
