"""The settings that conf/ and a command line compose to."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from profi.catalogue import catalogue
from profi.cli.arguments import register
from profi.cli.run import accepted
from profi.cli.words import for_hydra
from profi.reports import paper_numbers
from profi.settings import Config, Sampling
from profi.settings.evaluation import EVALUATIONS
from profi.settings.fields import build
from profi.settings.method import READINGS
from profi.types import UserError

REPOSITORY = Path(__file__).parents[1]


def composed(*overrides: str) -> Config:
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(REPOSITORY / "conf")):
        return accepted(compose("config", list(overrides)), overrides)


def test_a_job_of_a_queue_registers_the_plugins_of_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process never sees the command line."""
    (tmp_path / "queued_plugin.py").write_text(
        "from profi.catalogue import MethodEntry\n\n\n"
        "def register(catalogue):\n"
        "    catalogue.methods.add(MethodEntry('queued', 'profi.method.methods:base'))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(catalogue, "_plugins", set())
    monkeypatch.setattr(catalogue.methods, "_entries", dict(catalogue.methods._entries))
    config = composed("plugins=[queued_plugin]", "ablation.name=queued")
    assert config.methods_and_seeds == [("queued", 0)]


def every_option() -> list[str]:
    return [
        f"{path.parent.name}={path.stem}"
        for path in sorted((REPOSITORY / "conf").glob("*/*.yaml"))
        if path.parent.name != "hydra"
    ]


@pytest.mark.parametrize("option", every_option())
def test_every_option_composes(option: str) -> None:
    # These have no default.
    missing = {
        "data=coco": ["data.root=somewhere", "data.annotations=something"],
        "data=folder": ["data.root=somewhere"],
        "data=brushbench": ["data.root=somewhere"],
        "data=editbench": ["data.root=somewhere"],
    }
    # Which every model has.
    base = ["ablation=base"] if option.startswith("model=") else []
    config = composed(*for_hydra([option, *base, *missing.get(option, [])]))
    # What the file itself says is what the run gets.
    group, name = option.split("=")
    said = yaml.safe_load((REPOSITORY / "conf" / group / f"{name}.yaml").read_text()) or {}
    got = asdict(config)
    if group not in ("experiment", "figure"):
        got = got[group]
    asked = {key.split("=")[0] for key in missing.get(option, [])}
    for key, value in said.items():
        if key != "defaults" and f"{group}.{key}" not in asked and "${" not in str(value):
            assert contains(got[key], value), key


def contains(got: object, said: object) -> bool:
    """Whether a composed value holds all that a file says of it."""
    if isinstance(said, dict):
        return isinstance(got, dict) and all(contains(got[key], said[key]) for key in said)
    return got == said


@pytest.mark.parametrize("name", ["paper", "released"])
def test_the_bundles_of_readings_are_the_method_s(name: str) -> None:
    assert composed(f"reading={name}").reading == READINGS[name]


@pytest.mark.parametrize("name", catalogue.methods.names())
def test_every_method_of_the_catalogue_is_an_ablation(name: str) -> None:
    assert composed(f"ablation={name}").methods_and_seeds == [(name, 0)]


@pytest.mark.parametrize("name", list(EVALUATIONS))
def test_the_bundles_of_evaluations_are_the_protocol_s(name: str) -> None:
    assert composed(f"evaluation={name}").evaluation == EVALUATIONS[name]
    turned = composed(f"evaluation={name}", "evaluation.hull=opencv", "evaluation.bytes=truncated")
    assert turned.evaluation == replace(EVALUATIONS[name], hull="opencv", bytes="truncated")


@pytest.mark.parametrize(
    ("options", "reading", "evaluation"),
    [
        ([], "released", "ours"),
        (["experiment=table2_mini"], "released", "ours"),
        (["experiment=table1_mini"], "released", "ours"),
        (["experiment=table1"], "released", "released"),
        (["experiment=table2"], "released", "released"),
        (["experiment=table2", "evaluation=ours", "reading=paper"], "paper", "ours"),
    ],
)
def test_the_paper_s_tables_are_as_released_unless_another_is_named(
    options: list[str], reading: str, evaluation: str
) -> None:
    config = composed(*options)
    assert config.reading == READINGS[reading]
    assert config.evaluation == EVALUATIONS[evaluation]


def test_the_defaults_are_the_embedded_world_and_the_full_method() -> None:
    config = composed()
    assert (config.model.id, config.data.name, config.metric.name) == ("profi-mini", "mini", "mini")
    assert config.methods_and_seeds == [("profi", 0)]
    assert (config.sampling.num_inference_steps, config.sampling.guidance_scale) == (50, 7.5)
    assert config.sampling.output == "unblended"


def test_val2017_is_the_published_sample_fetched_where_it_is_not_given() -> None:
    data = composed("data=coco2017").data
    assert (data.source, data.sample, data.limit) == ("coco2017", "released", 10_000)
    assert (data.root, data.annotations, data.cache, data.sample_path) == ("", "", None, None)


def test_the_experiment_is_table_2_times_three_seeds() -> None:
    expected = composed("experiment=table2_mini").methods_and_seeds
    assert [name for name, _ in expected[::3]] == ["base", "painta_only", "rasg_only", "profi"]
    assert [seed for _, seed in expected[:3]] == [0, 1, 2]


def test_a_seed_or_an_ablation_takes_the_place_of_an_experiment_s() -> None:
    """Above all in a sweep, each of whose jobs has one of them."""
    one = composed("experiment=table2_mini", "seed=7", "ablation=base")
    assert one.methods_and_seeds == [("base", 7)]
    of_seed = composed("experiment=table2_mini", "seed=7")
    assert {seed for _, seed in of_seed.methods_and_seeds} == {7}
    assert len(of_seed.methods_and_seeds) == 4
    both = composed("experiment=table2_mini", "seed=7", "seeds=[1,2]")
    assert {seed for _, seed in both.methods_and_seeds} == {1, 2}


def test_a_setting_of_one_model_is_refused_where_there_are_several() -> None:
    with pytest.raises(UserError, match=r"model\.path has no effect.*models\.NAME\.path.*mini_bld"):
        composed("experiment=table1_mini", "model.path=/x")
    several = composed("experiment=table1_mini", "models.mini_bld.batch_size=3")
    assert several.models["mini_bld"].batch_size == 3
    assert composed("experiment=table1_mini", "model=mini", "model.batch_size=3").models == {}


def test_values_for_a_plugin_s_settings_need_names() -> None:
    with pytest.raises(UserError, match=r"NAME\.KEY=VALUE"):
        build(Sampling, 5)


def test_a_plugin_is_a_module_and_not_a_file() -> None:
    with pytest.raises(UserError, match=r"plugins=\./mine\.py: give a module's name"):
        composed("plugins=[./mine.py]")


def test_table_2_is_the_paper_s() -> None:
    config = composed("experiment=table2")
    assert config.model.id == "Lykon/dreamshaper-8-inpainting"
    assert (config.data.sample, config.data.limit) == ("released", 10_000)
    assert config.metric.metrics[:3] == ["clip_score", "accuracy", "aesthetic"]
    ablations = ["base", "painta_only", "rasg_only", "profi"]
    assert config.methods_and_seeds == [(name, seed) for name in ablations for seed in range(5)]


def test_table_1_is_the_paper_s_and_one_model_alone_is_a_command_away() -> None:
    config = composed("experiment=table1")
    assert (config.data.sample, config.data.limit) == ("released", 10_000)
    paper = paper_numbers()
    printed = paper[paper["source"].str.endswith("Table 1")]
    expected = {(line.model, line.ablation) for line in printed.itertuples()}
    found = set()
    for one, option in zip(config.per_model, config.models, strict=True):
        # A model's name there is the one that `model=` takes.
        alone = composed("experiment=table1", f"model={option}")
        assert alone.per_model == [one]
        assert {seed for _, seed in one.methods_and_seeds} == set(range(5))
        found |= {(one.model.id, name) for name, _ in one.methods_and_seeds}
    assert found == expected


def test_the_mini_table_has_rows_of_the_embedded_models_alone() -> None:
    config = composed("experiment=table1_mini")
    rows = {(one.model.id, name) for one in config.per_model for name, _ in one.methods_and_seeds}
    assert rows >= {("profi-mini", "base"), ("profi-mini", "profi"), ("mini-bld", "base")}
    for one in config.per_model:
        assert (one.model.path or "").startswith("shipped:")
        assert {seed for _, seed in one.methods_and_seeds} == set(range(5))


def test_a_sweep_over_all_models_takes_each_one_s_ablations(tmp_path: Path) -> None:
    """As `-m experiment=table1 'model=glob(*)'` does: every option by itself."""
    options = sorted(path.stem for path in (REPOSITORY / "conf" / "model").glob("*.yaml"))
    assert {"bld", "sdxl", "mini"} <= set(options)
    for option in options:
        config = composed("experiment=table1", f"model={option}")
        (one,) = config.per_model
        assert one.model == composed(f"model={option}", "ablation=base").model
        ablations = ["base"] if one.left_out else ["base", "profi"]
        assert [name for name, seed in one.methods_and_seeds if seed == 0] == ablations
        assert one.left_out == (
            [] if catalogue.inpainters.get(one.model.inpainter).ablated else ["profi"]
        )


def test_the_first_user_s_spelling_is_the_same_run() -> None:
    assert (
        composed("ablation=paintan_only").methods_and_seeds
        == composed("ablation=painta_only").methods_and_seeds
    )
