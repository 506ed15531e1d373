"""Settings: stated once, checked by name, and the page that is written from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from profi.catalogue import MetricEntry, Shelf, catalogue
from profi.harness.build_metrics import load_metrics
from profi.settings import (
    DEFAULT_READING,
    EVALUATIONS,
    READINGS,
    Config,
    DataConfig,
    MetricConfig,
    ModelConfig,
    Sampling,
)
from profi.settings.evaluation import Evaluation
from profi.settings.fields import (
    build,
    changed,
    check_fields,
    neutral_of,
    recorded,
    restored,
    setting,
    settings_in,
)
from profi.settings.method import Reading
from profi.settings.paths import conf_folder
from profi.types import UserError


def test_the_page_is_up_to_date(load_script: Callable[[str], ModuleType]) -> None:
    script = load_script("settings_page")
    assert script.PAGE.read_text("utf-8") == script.page(), "run scripts/settings_page.py"


def test_every_setting_says_what_it_means_and_its_default_is_allowed() -> None:
    found = list(settings_in(Config))
    assert len(found) > 100
    assert all(spec.metadata["meaning"] for _, _, spec in found)
    Config()


def test_the_default_reading_is_that_of_the_command_line() -> None:
    composed = yaml.safe_load((conf_folder() / "config.yaml").read_text("utf-8"))["defaults"]
    chosen = {
        key: value for item in composed if isinstance(item, dict) for key, value in item.items()
    }
    assert chosen["reading"] == DEFAULT_READING == Config().reading.name
    assert chosen["evaluation"] == Config().evaluation.name


@pytest.mark.parametrize("options", [READINGS, EVALUATIONS], ids=["readings", "evaluations"])
def test_bundles_have_their_own_names_and_differ(options: dict[str, Any]) -> None:
    assert [bundle.name for bundle in options.values()] == list(options)
    assert len({str(asdict(bundle)) for bundle in options.values()}) == len(options)


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Sampling().guidance_scale = 3.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (Sampling, {"num_inference_steps": 0}, "sampling.num_inference_steps=0"),
        (Sampling, {"guidance_scale": float("nan")}, "sampling.guidance_scale=nan"),
        (Sampling, {"guidance_scale": float("inf")}, "sampling.guidance_scale=inf"),
        (Sampling, {"guidance_scale": "much"}, "sampling.guidance_scale=much"),
        (Sampling, {"output": "both"}, "sampling.output=both"),
        (ModelConfig, {"inpainter": "paint"}, "model.inpainter=paint"),
        (DataConfig, {"limit": 0}, "data.limit=0"),
        (Config, {"seed": 2**32}, "seed="),
    ],
)
def test_what_is_not_allowed_is_refused_by_its_key(
    section: type, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(section, values)
    assert "\n" not in str(caught.value)


def test_build_makes_sections_and_keeps_defaults() -> None:
    config = build(Config, {"sampling": {"num_inference_steps": 3}, "seeds": [1, 2]})
    assert config.sampling == replace(Sampling(), num_inference_steps=3)
    assert build(Config, asdict(config)) == config
    with pytest.raises(UserError, match="sampler"):
        build(Config, {"sampler": 1})


def test_a_plugin_s_own_settings_reach_it_with_or_without_a_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @dataclass(frozen=True)
    class Own:
        levels: int = setting(255, "a number", at_least=1)

        def __post_init__(self) -> None:
            check_fields("own.mine", self)

    entry = MetricEntry("mine", lambda context: context.own, settings=Own)
    monkeypatch.setattr(catalogue, "metrics", Shelf("metric.metrics", [entry], {}))
    metric = MetricConfig(metrics=["mine"])
    for own, levels in (({}, 255), ({"mine": {"levels": 7}}, 7)):
        config = Config(metric=metric, own=own)
        (built,) = load_metrics(metric, "cpu", config.evaluation, config.sections)
        assert built == Own(levels)
    with pytest.raises(UserError, match=r"own\.mine\.levels=0"):
        Config(metric=metric, own={"mine": {"levels": 0}})
    # Built-in rows have their settings in the model's section.
    with pytest.raises(UserError, match=r"own\.controlnet"):
        Config(metric=metric, own={"controlnet": {"scale": 0.5}})


def test_a_setting_that_is_new_changes_no_old_id() -> None:
    @dataclass(frozen=True)
    class Before:
        steps: int = 50

    @dataclass(frozen=True)
    class After:
        steps: int = 50
        new: str = "as it was"

    assert recorded(Before(3)) == recorded(After(3)) == {"steps": 3}
    assert recorded(After(3, "another")) == {"steps": 3, "new": "another"}
    assert recorded(Before()) == {}


@dataclass(frozen=True)
class Inner:
    scale: float = setting(2.0, "its default was 1 once", neutral=1.0)


@dataclass(frozen=True)
class Outer:
    inner: Inner = setting(Inner, "a section")
    steps: int = setting(50, "of the sampling")


def test_a_default_that_changes_makes_other_runs_and_continues_no_old_one() -> None:
    old, new = Outer(Inner(1.0)), Outer()
    assert recorded(old) == {}
    assert recorded(new) == {"inner": {"scale": 2.0}}
    for one in (old, new, Outer(Inner(3.0), 7)):
        assert restored(Outer, recorded(one)) == one
    # A label names what differs from today's default.
    assert changed(new) == {}


def test_no_neutral_value_of_a_setting_of_pixels_changes() -> None:
    """The file has the values that run ids leave out, each since its setting exists."""
    known = json.loads((Path(__file__).parent / "neutral_values.json").read_text("utf-8"))
    sections: dict[str, type] = {
        "model": ModelConfig,
        "sampling": Sampling,
        "data": DataConfig,
        "evaluation": Evaluation,
        "reading": Reading,
        **{
            key: cls
            for name in catalogue.methods.names()
            for key, cls in catalogue.methods.get(name).sections().items()
        },
    }
    now = {
        key: neutral_of(spec)
        for name, section in sections.items()
        for key, _, spec in settings_in(section, f"{name}.")
    }
    for key, value in json.loads(json.dumps(now)).items():
        assert key in known, f"a new setting: add {key} with its default to neutral_values.json"
        assert value == known[key], f"{key}: a default that changes keeps neutral={known[key]!r}"
