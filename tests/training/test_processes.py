"""Several processes train as one: real ones, started as a user starts them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from launched import ROOT, finished, killed_when, start
from safetensors.torch import load_file
from tiny_model import RECIPE
from tiny_training import run

from profi.training.examples import TextToImage

SCRIPT = ROOT / "scripts" / "train_smartbrush.py"
STEPS = 5
TRAINING = [
    "cpu=yes", "precision=no", f"steps={STEPS}", "batch=2", "warmup=1", "pool=16", "save_every=1",
]  # fmt: skip


def last(folder: Path) -> dict[str, torch.Tensor]:
    """The weights and their average in the last checkpoint."""
    checkpoint = folder / f"checkpoint-{STEPS}"
    averages = load_file(checkpoint / "ema.safetensors")
    return load_file(checkpoint / "model.safetensors") | averages


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes, undisturbed."""
    work = tmp_path_factory.mktemp("two") / "work"
    status, out = finished(
        start(SCRIPT, f"work={work}", "pictures=1", f"show_every={STEPS}", *TRAINING)
    )
    assert status == 0, out
    assert out.count("2 process(es)") == 1
    return work


def test_two_processes_paint_once_and_save_once(whole: Path) -> None:
    state = json.loads((whole / f"checkpoint-{STEPS}" / "state.json").read_text())
    assert state["belongs"]["processes"] == 2
    assert json.loads((whole / "figures.json").read_text())["samples"] == STEPS * 2 * 2
    assert len(list((whole / "pictures").iterdir())) == 1
    assert (whole / "model" / "unet" / "config.json").is_file()


@pytest.mark.slow  # two more starts of two processes
def test_killed_and_resumed_they_are_the_undisturbed_ones(whole: Path, tmp_path: Path) -> None:
    """Bit for bit."""
    work = tmp_path / "work"
    arguments = [f"work={work}", "pictures=0", *TRAINING]
    killed_when(start(SCRIPT, *arguments), (work / "checkpoint-2").is_dir)
    assert not (work / f"checkpoint-{STEPS}").exists()
    assert not (work / "model").exists()
    status, out = finished(start(SCRIPT, *arguments))
    assert status == 0, out
    assert "2 process(es)" in out
    again, undisturbed = last(work), last(whole)
    assert again.keys() == undisturbed.keys()
    assert all(torch.equal(again[name], undisturbed[name]) for name in again)


def test_n_processes_are_one_that_accumulates_n_times(  # type: ignore[no-untyped-def]
    whole: Path, tmp_path: Path, load_script
) -> None:
    """The same samples and the same mean gradient, up to the order of a float sum."""
    AcceleratorState._reset_state(reset_partial_state=True)
    script = load_script("train_smartbrush")
    script.main([f"work={tmp_path}", "pictures=0", "accumulate=2", *TRAINING])
    moments = [
        torch.load(folder / f"checkpoint-{STEPS}" / "optimizer.pt", weights_only=True)["state"]
        for folder in (whole, tmp_path)
    ]
    two, one = (torch.cat([state["exp_avg"].flatten() for state in of.values()]) for of in moments)
    assert (two - one).norm() < 1e-3 * one.norm()
    two, one = (torch.cat([w.flatten() for w in last(f).values()]) for f in (whole, tmp_path))
    assert (two - one).norm() < 1e-4 * one.norm()
    logs = [(f / "loss.csv").read_text().strip().split(",")[2:] for f in (whole, tmp_path)]
    losses = [[float(value.partition("=")[2]) for value in log] for log in logs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.fixture(scope="module")
def differing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("differing")
    status, out = finished(start(Path(__file__).with_name("two_processes.py"), str(folder)))
    assert status == 0, out
    return folder


def test_the_first_process_decides_when_to_stop(differing: Path) -> None:
    for rank in (0, 1):
        figures, logged = json.loads((differing / f"logged-{rank}.json").read_text())
        assert figures == {"processes": 2, "stopped": 2}
        assert len(logged) == (1 if rank == 0 else 0)


def test_the_logged_losses_are_those_of_all_processes(
    differing: Path, model: TextToImage, tmp_path: Path
) -> None:
    logged: list[dict[str, float]] = []
    run(
        model,
        tmp_path,
        replace(RECIPE, accumulate=2),
        stop=lambda step, _: step == 2,
        on_log=lambda *args: logged.append(args[2]),
    )
    _, (theirs,) = json.loads((differing / "logged-0.json").read_text())
    assert theirs == pytest.approx(logged[0], rel=1e-3)


def test_a_bad_sample_of_one_process_is_skipped_by_all(differing: Path) -> None:
    first, second, one = (
        load_file(differing / name) for name in
        ("bad-0.safetensors", "bad-1.safetensors", "one-0.safetensors")
    )  # fmt: skip
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(first[name], one[name]) for name in first)
