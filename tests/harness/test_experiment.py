from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from experiment_calls import go, pictures, runs

from profi.harness import build_metrics
from profi.harness.build_data import load_triplets
from profi.harness.run_folder import RunFolder
from profi.harness.run_status import (
    Entry,
    check_comparable,
    collect,
    expected,
    latest_scores,
    read_status,
)
from profi.harness.runs import Command, report_folder
from profi.reports import summarise
from profi.settings import (
    ClipConfig,
    Config,
    DataConfig,
    MetricConfig,
    ModelConfig,
    RASGSettings,
)
from profi.settings.evaluation import OURS
from profi.settings.method import READINGS, Reading
from profi.store.generations import read_generations_part, write_generations
from profi.store.parts import part_indices, part_path
from profi.store.scores import scores_folder_name, write_scores
from profi.types import Score, UserError


def test_all_stages_leave_runs_scores_and_a_report(settings: Callable[..., Config]) -> None:
    config = settings(ablations=["base", "profi"], seeds=[0, 1], name="tiny_table")
    shown = go(config)
    assert "RASG & PAIntA" in shown
    folders = runs(config)
    assert len({folder.run_id for folder in folders.values()}) == 4
    for folder in folders.values():
        there = {path.name for path in folder.root.iterdir()}
        assert there >= {"run.json", "config.yaml", "manifest.parquet", "run.log", "starts.jsonl"}
        assert len(pictures(folder)) == 10
        start = json.loads((folder.root / "starts.jsonl").read_text().splitlines()[0])
        assert start["packages"]["torch"] == torch.__version__
        assert (start["device"], start["command"]) == ("cpu", "run.py here")
    assert pictures(folders["base", 0]) != pictures(folders["base", 1])
    assert pictures(folders["base", 0]) != pictures(folders["profi", 0])
    page = Path(config.out) / "reports" / "tiny_table" / "report.html"
    assert "tiny_table" in page.read_text()
    assert {path.name for path in page.parent.iterdir()} == {
        "differences.csv",
        "gallery",
        "report.html",
        "scores.parquet",
        "table.csv",
        "table.md",
        "table.tex",
    }
    # The gain over the base is the question: it stands first, wherever tables are printed.
    names = [path.name for path in page.parent.iterdir() if path.suffix in (".md", ".tex", ".html")]
    for text in (shown, *((page.parent / name).read_text() for name in names)):
        assert 0 <= text.index("Paired differences to base") < text.index("Scores")
    scores = pd.read_parquet(page.parent / "scores.parquet")
    assert len(scores) == 4 * 10 * 2
    assert scores["value"].notna().all()


def test_stages_by_themselves_equal_all_at_once_and_a_rerun_is_idle(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    together = settings(out=str(tmp_path / "a"))
    go(together)
    apart = settings(out=str(tmp_path / "b"))
    for stage in ("generate", "score", "report"):
        go(replace(apart, stage=stage))
    tables = []
    for config in (together, apart):
        (folder,) = runs(config).values()
        tables.append(
            pd.read_parquet(Path(config.out) / "reports" / folder.run_id / "scores.parquet")
        )
    assert tables[0].equals(tables[1])
    (folder,) = runs(together).values()
    files = [*folder.generations.iterdir(), *folder.scores.glob("*/*.parquet")]
    before = {path: path.stat().st_mtime_ns for path in files}
    go(together)
    assert {path: path.stat().st_mtime_ns for path in files} == before


def test_three_shards_equal_one_run(settings: Callable[..., Config], tmp_path: Path) -> None:
    whole, cut = settings(out=str(tmp_path / "1")), settings(out=str(tmp_path / "3"))
    go(whole)
    for shard in ("3/3", "1/3", "2/3"):
        go(replace(cut, stage="generate", shard=shard))
    go(replace(cut, stage="score"))
    (one,), (three,) = runs(whole).values(), runs(cut).values()
    assert one.run_id == three.run_id
    assert pictures(one) == pictures(three)
    entry = Entry(one, "m", "profi", "paper", 0)
    frames = [
        collect({e: read_status(e)}, latest_scores([e], ["clip_score", "known_region_psnr"]))
        for e in (entry, replace(entry, run=three))
    ]
    assert frames[0].equals(frames[1])


def test_a_part_lost_in_the_middle_is_painted_to_the_same_bits(
    settings: Callable[..., Config],
) -> None:
    config = settings(stage="generate")
    go(config)
    (folder,) = runs(config).values()
    before = pictures(folder)
    assert part_indices(folder.generations) == [0, 1, 2]
    part_path(folder.generations, 1).unlink()
    go(config)
    assert pictures(folder) == before


def test_what_the_manifest_wants_and_no_run_has_is_missing(
    settings: Callable[..., Config],
) -> None:
    """Half of the parts only: every line says so, though the lines are alike."""
    config = settings(shard="1/2", name="half")
    assert "*" in go(config)
    summary = pd.read_csv(Path(config.out) / "reports" / "half" / "table.csv")
    assert summary["incomplete"].all()
    assert summary["n_missing"].tolist() == [4, 4]
    page = (Path(config.out) / "reports" / "half" / "report.html").read_text()
    assert "8 scores missing" in page


def test_scores_of_pictures_that_were_painted_again_are_missing(
    settings: Callable[..., Config],
) -> None:
    config = settings()
    go(config)
    (folder,) = runs(config).values()
    there = read_generations_part(folder.generations, 1)
    assert there is not None
    other = read_generations_part(folder.generations, 0)
    assert other is not None
    swapped = [replace(there[0], image=other[0].image), *there[1:]]
    write_generations(folder.generations, 1, swapped)
    entry = Entry(folder, "m", "profi", "paper", 0)
    statuses = {entry: read_status(entry)}
    scores = collect(statuses, latest_scores([entry], ["clip_score"]))
    assert len(scores) == 10 - len(there)
    assert summarise(scores, expected(statuses))["n_missing"].tolist() == [len(there)]


def test_runs_of_other_weights_do_not_share_a_table(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    def entry(seed: int, ablation: str = "base", weights: str = "a", method: str = "x") -> Entry:
        run = RunFolder(tmp_path / f"{ablation}-{seed}-{weights}-{method}")
        run.root.mkdir(exist_ok=True)
        pixels = {"backbone": {"weights": weights}, "method": {"m": method}, "seed": seed}
        (run.root / "run.json").write_text(json.dumps({"run_id": run.run_id, "pixels": pixels}))
        return Entry(run, "m", ablation, "paper", seed)

    check_comparable([entry(0), entry(1), entry(0, "profi", method="y")])
    for wrong in (entry(1, weights="b"), entry(0, "profi", "b", "y")):
        with pytest.raises(UserError, match=r"backbone\.weights .*stage=all") as caught:
            check_comparable([entry(0), wrong])
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"method\.m"):
        check_comparable([entry(0), entry(1, method="y")])


def test_scoring_and_reporting_what_is_not_there_says_what_to_do(
    settings: Callable[..., Config],
) -> None:
    config = settings()
    with pytest.raises(UserError, match="stage=generate"):
        go(replace(config, stage="score"))
    with pytest.raises(UserError, match="stage=generate"):
        go(replace(config, stage="report"))
    go(replace(config, stage="generate"))
    with pytest.raises(UserError, match="stage=score"):
        go(replace(config, stage="report"))


@pytest.mark.parametrize("case", ["model", "data", "pad", "metric"])
def test_refusals_come_before_any_folder(
    settings: Callable[..., Config], case: str, tmp_path: Path
) -> None:
    config = settings()
    changed, named = {
        "model": (replace(config, model=ModelConfig(path=str(tmp_path / "no"))), "model.path"),
        "data": (replace(config, data=DataConfig(root=str(tmp_path / "no"))), "data.root"),
        "pad": (replace(config, model=replace(config.model, pad_multiple=4)), "pad_multiple=4"),
        "metric": (replace(config, metric=MetricConfig(metrics=["accuracy"])), "metric.accuracy"),
    }[case]
    with pytest.raises(UserError, match=named) as caught:
        go(changed)
    assert "\n" not in str(caught.value)
    assert not Path(config.out).exists()


def test_an_unreachable_model_is_named_with_its_remedy(settings: Callable[..., Config]) -> None:
    model = ModelConfig(id="Lykon/dreamshaper-8-inpainting", path=None)
    with pytest.raises(UserError, match=r"Lykon/dreamshaper-8-inpainting.*model\.path=") as caught:
        go(settings(model=model))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("openai/clip-vit-base-patch16", "Hugging Face Hub"),
        ("/no/such/folder", "does not exist"),
        ("shipped:cpu/nothing", "does not exist"),
        (None, "is not set"),
        ("my clip", "neither a local folder"),
        ("clip--b16", "neither a local folder"),
    ],
)
def test_weights_of_a_metric_that_are_not_there_name_their_key(
    path: str | None, named: str
) -> None:
    config = MetricConfig(metrics=["clip_score"], clip=ClipConfig(path))
    with pytest.raises(UserError, match=rf"metric\.clip\.path.*{named}") as caught:
        build_metrics.load_metrics(config, "cpu", OURS)
    assert "\n" not in str(caught.value)


def test_the_settings_of_a_reading_are_the_method_s_own() -> None:
    assert [f.name for f in fields(Reading)] == [f.name for f in fields(Reading)]
    assert Reading(**asdict(Reading())) == READINGS["paper"]


def test_a_changed_bundle_says_what_was_changed(settings: Callable[..., Config]) -> None:
    config = settings()
    assert config.reading_label == "released"
    changed = replace(config, reading=replace(config.reading, eta=0.05), name="x")
    assert changed.reading_label == "released, eta=0.05"
    fewer = replace(changed, rasg=RASGSettings(every=2))
    assert fewer.reading_label == "released, eta=0.05, every=2"
    folders = [
        report_folder(Command(c, "", ""), []).name for c in (replace(config, name="x"), changed)
    ]
    assert folders == ["x", "x-released-eta=0.05"]


def test_scores_of_another_threshold_are_not_taken(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for threshold in (0.3, 0.5):
        folder = run.scores / scores_folder_name("accuracy", {"threshold": threshold})
        write_scores(folder, 0, [Score("a", 0, "accuracy", 100.0)], "x")
        (folder / "_identity.json").write_text(json.dumps({"threshold": threshold}))
    entry = Entry(run, "m", "base", "paper", 0)
    for threshold in (0.3, 0.5):
        expected = {"threshold": threshold}
        found = latest_scores([entry], ["accuracy"], {"accuracy": expected})
        assert found == {"accuracy": scores_folder_name("accuracy", expected)}
    with pytest.raises(UserError, match=r"threshold=0\.4.*stage=score"):
        latest_scores([entry], ["accuracy"], {"accuracy": {"threshold": 0.4}})


def test_some_missing_images_are_logged_and_most_are_refused(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    data = settings().data
    root = tmp_path / "images"
    shutil.copytree(data.root, root)
    files = sorted(root.iterdir())
    files[0].unlink()
    changed = replace(data, root=str(root))
    assert len(load_triplets(changed)[0]) == 10
    for path in files[1:6]:
        path.unlink()
    with pytest.raises(UserError, match=r"6 of the 10 sampled images.*data\.root"):
        load_triplets(changed)


def test_an_out_that_cannot_be_written_is_refused_at_once(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"out=.*is not a folder"):
        go(settings(out=str(tmp_path / "file" / "runs")))
