from __future__ import annotations

import json
from pathlib import Path

import pytest

from profi.catalogue import catalogue
from profi.harness.runs import Command, runs_of
from profi.settings import AblationConfig, Config, ModelConfig
from profi.store.generations import write_generations
from profi.types import Generation, UserError

DREAMSHAPER = "Lykon/dreamshaper-8-inpainting"


@pytest.fixture
def cost(load_script):  # type: ignore[no-untyped-def]
    return load_script("cost")


def make_run(
    root: Path,
    name: str,
    method: object,
    seconds: list[float],
    device: str,
    **changed: dict[str, object],
) -> Path:
    (root / "settings").mkdir(parents=True)
    settings = {
        "model": {"id": name, **changed.get("model", {})},
        "sampling": {"num_inference_steps": 50, **changed.get("sampling", {})},
        "seed": changed.get("seed", 0),
        **({"method": method} if method else {}),
    }
    (root / "settings" / "x.json").write_text(json.dumps(settings))
    for index, taken in enumerate(seconds):
        item = Generation(str(index), 0, b"png", taken, float("nan"))
        write_generations(root / "generations", index, [item], {"device": device})
    return root


def lines(text: str) -> dict[str, list[str]]:
    table = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {row[0]: row[1:] for row in rows}


def test_hours_are_seconds_times_pictures_and_the_rest_is_not_measured(
    cost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    bld = make_run(tmp_path / "a", "bld", None, [1.0, 3.0], "cuda (H100)")
    profi = make_run(tmp_path / "b", DREAMSHAPER, {"name": "profi", "reading": {}}, [3.6], "cpu")
    table = tmp_path / "rates.csv"
    table.write_text("model,ablation,seconds,device\nglide,base,7.2,cuda (H100)\n")
    cost.main([str(bld), str(profi), "--rates", str(table), "--triplets", "1000", "--seeds", "5"])
    shown = lines(capsys.readouterr().out)
    # 2 s, 7.2 s and 3.6 s times 5000 pictures.
    assert shown["BLD"] == ["2.000", "cuda (H100)", "2.8"]
    assert shown["GLIDE"] == ["7.200", "cuda (H100)", "10.0"]
    assert shown["DreamShaper 8 + ProFI Painter"] == ["3.600", "cpu", "5.0"]
    assert shown["Stable 1.5 Inpainting"] == ["not measured", "", ""]
    assert shown["2 of 11 rows"] == ["", "cuda (H100)", "12.8"]
    assert shown["1 of 11 rows"] == ["", "cpu", "5.0"]
    assert len(shown) == 2 + 11 + 2

    cost.main([str(bld), "--rows", "measured"])
    text = capsys.readouterr().out
    assert list(lines(text))[2:] == ["BLD", "1 of 1 rows"]
    assert "hours of painting 10000 x 5 pictures" in text
    assert text.splitlines()[-1] == "Painting alone, without loading the models and scoring."


GLIDE = {"inpainter": "glide"}


@pytest.mark.parametrize(
    ("model", "one", "other", "named"),
    [
        ("bld", {}, {"sampling": {"num_inference_steps": 2}}, "num_inference_steps (50 and 2)"),
        ("bld", {}, {"sampling": {"guidance_scale": 1.0}}, "sampling.guidance_scale (7.5 and 1.0)"),
        ("bld", {"model": {"long_side": 256}}, {}, "model.long_side (256 and 512)"),
        ("bld", {}, {"model": {"dtype": "float16"}}, "model.dtype (float32 and float16)"),
        ("bld", {}, {"model": {"batch_size": 1}}, "model.batch_size (4 and 1)"),
        (
            "glide",
            {"model": GLIDE},
            {"model": {**GLIDE, "glide": {"base_steps": "50"}}},
            "model.glide.base_steps (100 and 50)",
        ),
    ],
)
def test_runs_of_other_settings_have_no_mean(
    cost, tmp_path: Path, capsys, model: str, one, other, named: str
) -> None:  # type: ignore[no-untyped-def]
    a = make_run(tmp_path / "a", model, None, [1.0], "cpu", **one)
    b = make_run(tmp_path / "b", model, None, [3.0], "cpu", **other)
    with pytest.raises(UserError) as caught:
        cost.main([str(a), str(b)])
    message = str(caught.value)
    for word in (named, str(a), str(b)):
        assert word in message
    assert "\n" not in message
    assert capsys.readouterr().out == ""


def test_a_run_and_a_line_of_a_file_have_no_mean(cost, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(tmp_path / "a", "bld", None, [1.0], "cpu")
    table = tmp_path / "rates.csv"
    table.write_text("model,ablation,seconds,device\nbld,base,3,cpu\n")
    with pytest.raises(UserError, match=r"rates\.csv, line 2, are both of bld base, and of one"):
        cost.main([str(run), "--rates", str(table)])


def test_seeds_places_and_another_device_may_differ(cost, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    one = make_run(tmp_path / "a", "bld", None, [1.0], "cpu", seed=1)
    two = make_run(tmp_path / "b", "bld", None, [3.0], "cpu", seed=2, model={"path": "/there"})
    old = make_run(tmp_path / "c", "bld", None, [8.0], "cuda", model={"dtype": "float16"})
    cost.main([str(one), str(two), str(old), "--triplets", "1800", "--seeds", "1"])
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| BLD")]
    assert shown == ["| BLD | 2.000 | cpu | 1.0 |", "| BLD | 8.000 | cuda | 4.0 |"]


def test_a_rate_of_other_steps_than_the_table_s_is_marked(cost, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    two = {"num_inference_steps": 2}
    runs = [
        make_run(tmp_path / "a", "bld", None, [1.0], "cpu", sampling=two),
        # Whose steps are its own.
        make_run(tmp_path / "b", "glide", None, [1.0], "cpu", sampling=two, model=GLIDE),
        make_run(tmp_path / "c", "sdxl-inpainting", None, [1.0], "cpu"),
    ]
    cost.main([*map(str, runs), "--rows", "measured"])
    shown = lines(capsys.readouterr().out)
    assert list(shown)[2:] == ["GLIDE", "BLD (num_inference_steps=2)", *list(shown)[4:]]
    assert not any("(" in label for label in list(shown)[4:])
    steps = {**GLIDE, "glide": {"base_steps": "25", "upsampler_steps": "fast27"}}
    run = make_run(tmp_path / "d", "glide", None, [1.0], "cpu", model=steps)
    cost.main([str(run), "--rows", "measured"])
    assert "GLIDE (base_steps=25)" in lines(capsys.readouterr().out)


@pytest.mark.parametrize("argument", ["--triplets=0", "--seeds=-1"])
def test_no_pictures_cost_nothing_to_tell(cost, argument: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=f"^{argument}: at least 1$"):
        cost.main([argument])


@pytest.mark.parametrize("name", catalogue.methods.names())
def test_a_method_s_name_is_that_of_the_run_s_settings(cost, tmp_path: Path, name: str) -> None:  # type: ignore[no-untyped-def]
    command = Command(Config(ablation=AblationConfig(name), model=ModelConfig(id="mine")), "", "")
    (run,) = runs_of(command)
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "x.json").write_text(json.dumps(run.settings))
    item = Generation("1", 0, b"png", 2.5, float("nan"))
    write_generations(tmp_path / "generations", 0, [item], {"device": "cpu"})
    rate = cost.rate_of(tmp_path)
    assert (rate.model, rate.ablation, rate.seconds) == ("mine", name, 2.5)
    # A model that is the usual one goes unsaid.
    settings = {**run.settings, "model": {}}
    (tmp_path / "settings" / "x.json").write_text(json.dumps(settings))
    assert cost.rate_of(tmp_path).model == ModelConfig().id


def test_a_run_of_an_older_version_has_no_name(cost, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(tmp_path / "a", "mine", {"painta": {}, "rasg": None}, [1.0], "cpu")
    with pytest.raises(UserError, match="painted by an older version: paint it again"):
        cost.rate_of(run)


def test_what_is_no_rate_is_refused(cost, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match="no run's folder"):
        cost.rate_of(tmp_path)
    empty = make_run(tmp_path / "e", "bld", None, [], "cpu")
    with pytest.raises(UserError, match="no pictures yet"):
        cost.rate_of(empty)
    mixed = make_run(tmp_path / "m", "bld", None, [1.0], "cpu")
    item = Generation("9", 0, b"png", 1.0, float("nan"))
    write_generations(mixed / "generations", 9, [item], {"device": "cuda"})
    with pytest.raises(UserError, match="cpu, cuda"):
        cost.rate_of(mixed)
    table = tmp_path / "rates.csv"
    for text, message in (
        ("model,seconds,device\n", "lacks the column ablation"),
        ("model,ablation,seconds,device\nbld,base,soon,cpu\n", "line 2: seconds=soon"),
        ("model,ablation,seconds,device\nbld,base,-1,cpu\n", "line 2: seconds=-1"),
    ):
        table.write_text(text)
        with pytest.raises(UserError, match=message):
            list(cost.rates_in(table))
    with pytest.raises(UserError, match="cannot be read"):
        list(cost.rates_in(tmp_path / "none.csv"))
