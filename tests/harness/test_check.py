"""The stages fetch and check: everything tried, every failure reported."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from profi.harness import estimates
from profi.harness.estimates import Cost, Expected, cost_lines
from profi.harness.experiment import run
from profi.harness.runs import Command
from profi.settings import ClipConfig, Config, LoggerConfig, ModelConfig, Sampling
from profi.types import UserError

Settings = Callable[..., Config]


def lines(config: Config, caplog: pytest.LogCaptureFixture) -> list[str]:
    with caplog.at_level(logging.INFO, "profi"):
        run(Command(config, "run.py here", "a: 1\n"), Console(quiet=True))
    return caplog.messages


def test_all_rows_and_metrics_are_tried_and_nothing_is_stored(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    config = settings(ablations=["base", "profi"], seeds=[0, 1, 2], stage="check")
    printed = lines(config, caplog)
    assert "ok      data test: 10 triplets" in printed
    assert "ok      model tiny: 2 row(s) loaded" in printed
    for row in ("base", "profi"):
        (painting,) = [
            line for line in printed if line.startswith(f"ok      painting tiny {row}: ")
        ]
        assert "for 30, one at a time" in painting
        for metric in ("clip_score", "known_region_psnr"):
            assert any(line.startswith(f"ok      {metric} of tiny {row}: ") for line in printed)
    assert "ok      memory: not counted for these models" in printed
    (whole,) = [line for line in printed if line.startswith("in all: ")]
    assert whole.endswith("h of painting for 60 pictures")
    assert "GB needed" in printed[-1]
    assert not Path(config.out).exists()


def test_one_failure_does_not_hide_the_next(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", "/nowhere")
    config = settings(stage="check", logger=LoggerConfig(name="wandb"))
    config = replace(
        config,
        model=replace(config.model, path="/no/model"),
        metric=replace(config.metric, clip=ClipConfig("/no/clip")),
    )
    with pytest.raises(UserError, match=r"3 of \d checks failed: metric clip_score, W&B, model"):
        lines(config, caplog)
    assert sum(line.startswith("failed ") for line in caplog.messages) == 3
    assert "ok      metric known_region_psnr: loaded" in caplog.messages


def test_too_little_room_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=3)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"1 of 10 checks failed: room in .*out"):
        run(Command(settings(stage="check"), "run.py", "a: 1\n"), Console(quiet=True))


def test_fetch_loads_and_paints_nothing(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    printed = lines(settings(stage="fetch"), caplog)
    assert any(line.startswith("ok      model tiny") for line in printed)
    assert not any("painting" in line or "room" in line for line in printed)


def test_a_table_whose_weights_and_data_are_missing_is_estimated(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Table 2's rows without a network: 4 rows x 5 seeds x 10,000 pictures, from counted costs."""
    config = settings(
        ablations=["base", "painta_only", "rasg_only", "profi"], seeds=[*range(5)], stage="check"
    )
    config = replace(
        config,
        model=ModelConfig(id="Lykon/dreamshaper-8-inpainting", path="/no/model", batch_size=8),
        data=replace(config.data, root="/no/images", limit=10_000),
        sampling=Sampling(),
    )
    with pytest.raises(UserError, match="data test, model Lykon"):
        lines(config, caplog)
    rows = [line for line in caplog.messages if line.startswith("counted ")]
    assert len(rows) == 4
    assert rows[3] == (
        "counted Lykon/dreamshaper-8-inpainting profi: 106.6 TFLOP a picture, 1.1 s at 100 "
        "TFLOP/s, an assumption; 14.8 h for 50000; 11.2 GiB in batches of 8 (float32)"
    )
    tflop = 84.0 + 84.5 + 105.8 + 106.6
    (whole,) = [line for line in caplog.messages if line.startswith("in all: ")]
    assert f"about {tflop / 100 * 50_000 / 3600:.3g} h of painting for 200000 pictures" in whole
    # 0.46 MB a picture of 512 pixels, and a tenth for the rest.
    (room,) = [line for line in caplog.messages if " room in " in line]
    assert f"about {1.75 * 512**2 * 200_000 * 1.1 / 1e9:.2g} GB needed" in room
    # A GPU that is too small is a failure, a larger one is not.
    for there, verdict in ((4.0, "failed  memory: "), (24.0, "ok      memory: ")):
        caplog.clear()
        monkeypatch.setattr(estimates, "gpu_memory", lambda _, there=there: there)
        with pytest.raises(UserError):
            lines(config, caplog)
        (line,) = [one for one in caplog.messages if one.startswith(verdict)]
        assert "about 11.2 GiB for Lykon/dreamshaper-8-inpainting profi in batches of 8" in line
        assert f"the GPU has {there}" in line


def row(label: str, seconds: float | None, tflop: float | None, count: int = 100) -> Expected:
    return Expected(label, count, 1, seconds, Cost(tflop, 2.0, 9.0) if tflop else None)


def test_rows_without_a_picture_go_at_the_rate_of_the_painted_ones() -> None:
    rows = [row("a", 2.0, 80.0), row("b", None, 120.0), row("c", 5.0, None), row("d", None, None)]
    line, whole = cost_lines(rows)
    assert line.startswith("counted b: 120.0 TFLOP a picture, 3 s at 40 TFLOP/s, as measured here;")
    hours = (2.0 + 3.0 + 5.0) * 100 / 3600
    assert whole == (
        f"in all: about {hours:.3g} h of painting for 400 pictures, without d (not known)"
    )


def test_counted_costs_are_those_of_the_page() -> None:
    """docs/baselines.md, of which `python -m benchmarks.rows` prints the figures."""
    page = (Path(__file__).parents[2] / "docs" / "baselines.md").read_text()
    table = page.partition("## What a picture takes")[2].partition("\n\nTFLOP are")[0]
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in table.strip().splitlines()]
    found = {c[0]: (float(c[1]), float(c[3]), float(c[4])) for c in cells[3:]}

    def of(model: str, ablation: str = "base") -> tuple[float, float, float]:
        cost = estimates.COUNTED[model][ablation]
        return cost.tflop, cost.gib_alone, cost.gib_of_8

    dreamshaper = "Lykon/dreamshaper-8-inpainting"
    assert found["BLD"] == of("bld")
    assert found["SDXL Inpainting"] == of("sdxl_inpainting")
    assert found["DreamShaper-ControlNet"] == of("controlnet")
    assert found["SmartBrush"] == of("smartbrush")
    assert found["Stable 1.5, DreamShaper Inpainting"] == of(dreamshaper)
    assert found["... only PAIntA"] == of(dreamshaper, "painta_only")
    assert found["... only RASG"] == of(dreamshaper, "rasg_only")
    assert found["Stable 2.0 Inpainting"] == of("sd2-community/stable-diffusion-2-inpainting")
    assert Cost(1.0, 2.0, 9.0).gib(1) == 2.0
    assert Cost(1.0, 2.0, 9.0).gib(8) == 9.0


def test_only_what_was_counted_is_estimated() -> None:
    model = ModelConfig(id="Lykon/dreamshaper-8-inpainting")
    full = estimates.counted(model, "profi", Sampling())
    half = estimates.counted(model, "profi", Sampling(num_inference_steps=25))
    assert full is not None
    assert half is not None
    assert half.tflop == pytest.approx(full.tflop / 2)
    assert estimates.counted(replace(model, long_side=768), "profi", Sampling()) is None
    assert estimates.counted(replace(model, id="mine"), "profi", Sampling()) is None
    xl = ModelConfig(id="sdxl_inpainting", long_side=1024)
    assert estimates.counted(xl, "base", Sampling()) is not None
