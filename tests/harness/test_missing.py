"""The report lists what is missing with commands; run as printed, they make exactly that."""

from __future__ import annotations

import io
import json
import logging
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from experiment_calls import folder_of
from rich.console import Console

from profi.harness.experiment import run
from profi.harness.run_folder import RunFolder
from profi.harness.run_list import Gap, _command, missing_lines
from profi.harness.run_status import Entry, check_comparable
from profi.harness.runs import Command
from profi.models.backbone import Backbone
from profi.reports.names import RowKey, row_labels
from profi.settings import Config, ModelConfig, ReportConfig
from profi.store.parts import part_indices, part_path, quarantine, read_lines
from profi.types import UserError

OVERRIDES = ("experiment=tiny", "stage=report", "shard=2/3", "model.batch_size=2")


def go(config: Config, overrides: tuple[str, ...] = OVERRIDES) -> str:
    """Run a command; what it printed."""
    shown = io.StringIO()
    # Narrow: a command must be neither cut nor wrapped.
    console = Console(file=shown, width=60)
    result = run(Command(config, "run.py here", "a: 1\n", overrides), console)
    if result is not None:
        result.print(console)
    return shown.getvalue()


def commands_in(shown: str) -> list[list[str]]:
    """The printed commands, as a shell takes them apart."""
    lines = [line.strip() for line in shown.splitlines()]
    return [shlex.split(line)[2:] for line in lines if line.startswith("python run.py ")]


def given(config: Config, words: list[str]) -> Config:
    """The settings that a printed command would give."""
    values = dict(word.split("=", 1) for word in words)
    changes: dict[str, object] = {"stage": values["stage"]}
    if "ablations" in values:
        changes["ablations"] = values["ablations"].strip("[]").split(",")
        changes["seeds"] = [int(seed) for seed in values["seeds"].strip("[]").split(",")]
    return replace(config, **changes)  # type: ignore[arg-type]


def test_the_printed_commands_make_exactly_what_is_missing(settings: Callable[..., Config]) -> None:
    config = settings(ablations=["base", "rasg_only", "profi"], seeds=[0, 1], name="tiny")
    go(replace(config, ablations=["base", "profi"]))
    part_path(folder_of(config, "profi", 1).generations, 2).unlink()
    shutil.rmtree(next(folder_of(config, "base", 0).scores.glob("clip_score-*")))

    report = replace(config, stage="report")
    shown = go(report)
    for line in (
        "base, seed 0: 10 images have no clip_score",
        "only RASG, seed 0: 10 of 10 images are not painted",
        "only RASG, seed 1: 10 of 10 images are not painted",
        "RASG & PAIntA, seed 1: 2 of 10 images are not painted",
    ):
        assert line in shown
    assert "base, seed 1" not in shown
    printed = commands_in(shown)
    kept = ["experiment=tiny", "model.batch_size=2"]
    assert printed == [
        [*kept, "ablations=[rasg_only]", "seeds=[0,1]", "stage=generate"],
        [*kept, "ablations=[profi]", "seeds=[1]", "stage=generate"],
        [*kept, "ablations=[base]", "seeds=[0]", "stage=score"],
        [*kept, "ablations=[rasg_only]", "seeds=[0,1]", "stage=score"],
        [*kept, "ablations=[profi]", "seeds=[1]", "stage=score"],
        [*kept, "stage=report"],
    ]
    summary = pd.read_csv(Path(config.out) / "reports" / "tiny" / "table.csv")
    assert summary.set_index(["ablation", "metric"])["n_missing"].to_dict() == {
        ("base", "clip_score"): 10,
        ("base", "known_region_psnr"): 0,
        ("profi", "clip_score"): 2,
        ("profi", "known_region_psnr"): 2,
        ("rasg_only", "clip_score"): 20,
        ("rasg_only", "known_region_psnr"): 20,
    }
    page = (Path(config.out) / "reports" / "tiny" / "report.html").read_text()
    assert "only RASG, seed 0: 10 of 10 images are not painted" in page
    assert shlex.join(["python", "run.py", *printed[0]]).replace("'", "&#39;") in page

    untouched = folder_of(config, "base", 1).generations
    before = {path: path.stat().st_mtime_ns for path in untouched.iterdir()}
    for words in printed:
        shown = go(given(config, words))
    assert {path: path.stat().st_mtime_ns for path in untouched.iterdir()} == before
    assert "missing" not in shown
    assert commands_in(shown) == []
    summary = pd.read_csv(Path(config.out) / "reports" / "tiny" / "table.csv")
    assert not summary["incomplete"].any()


def test_scoring_goes_on_with_what_is_painted(settings: Callable[..., Config]) -> None:
    config = settings(ablations=["base", "profi"], seeds=[0])
    go(replace(config, ablations=["base"], stage="generate"))
    go(replace(config, stage="score"))
    assert len(list(folder_of(config, "base", 0).scores.iterdir())) == 2
    assert not (folder_of(config, "base", 0).root.parent / "reports").exists()


def test_nothing_at_all_is_refused(settings: Callable[..., Config]) -> None:
    config = settings(ablations=["base", "profi"], seeds=[0, 1])
    for stage in ("score", "report"):
        with pytest.raises(UserError, match=r"nothing painted .*stage=generate") as caught:
            go(replace(config, stage=stage))
        assert "\n" not in str(caught.value)


def test_without_any_score_the_report_says_what_is_missing(
    settings: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    config = settings(ablations=["base", "profi"], seeds=[0, 1])
    report = replace(config, stage="report")

    def missing() -> str:
        caplog.clear()
        with caplog.at_level(logging.INFO, "profi"), pytest.raises(UserError):
            go(report)
        return "\n".join(caplog.messages)

    nothing = missing()
    assert "base, seed 0: no image is painted" in nothing
    assert "ablations=[base,profi]' 'seeds=[0,1]' stage=generate" in nothing
    go(replace(config, ablations=["base"], seeds=[0], stage="generate"))
    unscored = missing()
    assert "base, seed 0: 10 images have no clip_score" in unscored
    assert "base, seed 1: 10 of 10 images are not painted" in unscored


def test_the_command_of_one_model_keeps_its_settings_and_no_other_s() -> None:
    given = ["experiment=t", "models.a.batch_size=3", "+models.b.long_side=64", "limit=2"]
    found = _command(["python", "run.py"], given, "a", ["base"], [0], "generate")
    assert shlex.split(found)[2:] == [
        "experiment=t", "model.batch_size=3", "limit=2", "model=a", "ablations=[base]",
        "seeds=[0]", "stage=generate",
    ]  # fmt: skip


def test_equal_seeds_go_together_and_models_are_named() -> None:
    def gap(model: str, ablation: str, seed: int, unpainted: int = 1) -> Gap:
        return Gap(RowKey(model, ablation, "r"), seed, 8, unpainted, {"accuracy": 3})

    found = [
        gap("A/a", "base", 0),
        gap("A/a", "base", 1),
        gap("A/a", "profi", 1),
        gap("A/a", "profi", 0),
        gap("A/a", "rasg_only", 2, unpainted=0),
        gap("B/b", "base", 0),
    ]
    labels = row_labels(item.key for item in found)
    overrides = ["experiment=table1", "+stage=report", "ablation=base", "seed=3", "seeds=[1]"]
    missing = missing_lines(found, labels, overrides, {"A/a": "sd15", "B/b": "sd2"})
    assert (
        missing.lines[0]
        == "A/a: base, seed 0: 1 of 8 images are not painted, 3 images have no accuracy"
    )
    assert missing.lines[4] == "A/a: only RASG, seed 2: 3 images have no accuracy"
    words = [shlex.split(command)[3:] for command in missing.commands]
    assert {command.split()[2] for command in missing.commands} == {"experiment=table1"}
    assert words == [
        ["model=sd15", "ablations=[base,profi]", "seeds=[0,1]", "stage=generate"],
        ["model=sd2", "ablations=[base]", "seeds=[0]", "stage=generate"],
        ["model=sd15", "ablations=[base,profi]", "seeds=[0,1]", "stage=score"],
        ["model=sd15", "ablations=[rasg_only]", "seeds=[2]", "stage=score"],
        ["model=sd2", "ablations=[base]", "seeds=[0]", "stage=score"],
        ["ablation=base", "seed=3", "seeds=[1]", "stage=report"],
    ]
    assert missing_lines([], labels, overrides, {}) == ([], [])


def test_several_models_make_one_table(
    settings: Callable[..., Config],
    new_backbone: Callable[..., Backbone],
    save_model: Callable[[Path, Backbone], Path],
    tmp_path: Path,
) -> None:
    one = settings()
    other = save_model(tmp_path / "other", new_backbone(seed=1))
    models = {
        "first": one.model,
        "second": replace(one.model, id="other", path=str(other)),
    }
    config = settings(
        models=models,
        ablations=["base", "profi"],
        seeds=[0],
        name="t1",
        data=replace(one.data, limit=4),
        report=ReportConfig(gallery=0),
    )
    go(replace(config, models={"first": models["first"]}))
    shown = go(replace(config, stage="report"))
    assert "other: base, seed 0: 4 of 4 images are not painted" in shown
    assert "model=second" in commands_in(shown)[0]
    shown = go(config)
    assert "not painted" not in shown
    summary = pd.read_csv(Path(config.out) / "reports" / "t1" / "table.csv")
    assert set(zip(summary["model"], summary["ablation"], strict=True)) == {
        (model, ablation) for model in ("tiny", "other") for ablation in ("base", "profi")
    }
    assert not summary["incomplete"].any()
    differences = pd.read_csv(Path(config.out) / "reports" / "t1" / "differences.csv")
    assert set(differences["n_pairs"]) == {4}


def test_models_of_one_id_are_refused(settings: Callable[..., Config]) -> None:
    with pytest.raises(UserError, match=r"models=.*same id"):
        settings(models={"a": ModelConfig(), "b": ModelConfig()})


def test_rows_of_other_models_are_on_the_same_triplets(tmp_path: Path) -> None:
    def entry(model: str, **pixels: str) -> Entry:
        folder = RunFolder(tmp_path / f"{model}-{'-'.join(pixels.values())}")
        folder.root.mkdir(exist_ok=True)
        values = {"backbone": {"weights": model}, "dtype": model, "manifest": "a", "images": "b"}
        record = {"run_id": folder.run_id, "pixels": {**values, **pixels}}
        (folder.root / "run.json").write_text(json.dumps(record))
        return Entry(folder, model, "base", "r", 0)

    one = entry("one")
    check_comparable([one, entry("two")])
    for name in ("manifest", "images"):
        with pytest.raises(UserError, match=f"differ in {name} and"):
            check_comparable([one, entry("two", **{name: "another"})])


def test_what_failed_is_on_the_page_until_it_is_mended(settings: Callable[..., Config]) -> None:
    config = settings(ablations=["profi"], seeds=[1], name="failed")
    go(config)
    folder = folder_of(config, "profi", 1)
    part_path(folder.generations, 0).unlink()
    manifest = pd.read_parquet(folder.manifest)
    lost, kept = manifest["triplet_id"].iloc[0], manifest["triplet_id"].iloc[9]
    for name in (lost, kept):
        quarantine(folder.quarantine, name, "generate", RuntimeError("out of memory"))
    assert len(read_lines(folder.quarantine)) == 2
    assert part_indices(folder.generations) == [1, 2]
    shown = go(replace(config, stage="report"))
    # The other one was painted after all.
    assert "quarantined samples: 1 (listed in report.html)" in shown
    report = Path(config.out) / "reports" / "failed"
    text = (report / "gallery" / "index.js").read_text()
    index = json.loads(text.removeprefix("gallery.index(").removesuffix(");\n"))
    failures = {item[0]: item[3] for item in index["items"]}
    # What is painted, and what is quarantined.
    assert set(failures) == {lost, *manifest["triplet_id"].iloc[4:]}
    assert failures.pop(lost) == ["RASG & PAIntA, seed 1, generate: RuntimeError: out of memory"]
    assert not any(failures.values())
    assert "out of memory" in (report / "report.html").read_text()
    go(config)
    assert "out of memory" not in (report / "report.html").read_text()


def test_the_gallery_is_as_large_as_wanted(settings: Callable[..., Config]) -> None:
    config = settings(ablations=["profi"], seeds=[0], name="g")
    go(config)
    folder = Path(config.out) / "reports" / "g"
    for expected, shown in ((None, 10), (0, None)):
        shutil.rmtree(folder)
        go(replace(config, stage="report", report=replace(config.report, gallery=expected)))
        page = (folder / "report.html").read_text()
        assert ("gallery-view" in page) == (shown is not None)
        assert (folder / "gallery").is_dir() == (shown is not None)


def test_the_gallery_has_every_seed_or_as_many_as_wanted(settings: Callable[..., Config]) -> None:
    config = settings(ablations=["profi"], seeds=[2, 1, 5], name="g")
    go(config)
    folder = Path(config.out) / "reports" / "g" / "gallery"

    def seeds() -> list[int]:
        text = (folder / "index.js").read_text()
        index = json.loads(text.removeprefix("gallery.index(").removesuffix(");\n"))
        # Another seed, another picture.
        (chunk, *others) = sorted(folder.glob("chunk-00000*.js"), key=lambda path: len(path.name))
        assert len({path.read_bytes() for path in (chunk, *others)}) == len(index["seeds"])
        assert all(len(line[4]) == len(others) for line in index["items"])
        found: list[int] = index["seeds"]
        return found

    assert seeds() == [1, 2, 5]
    two = replace(config.report, gallery_seeds=2)
    go(replace(config, stage="report", report=two))
    assert seeds() == [1, 2]
