from __future__ import annotations

import json
from pathlib import Path

import pytest

from profi.stores.generations import write_generations
from profi.types import Generation, UserError

DREAMSHAPER = "Lykon/dreamshaper-8-inpainting"


@pytest.fixture
def cost(load_script):  # type: ignore[no-untyped-def]
    return load_script("cost")


def make_run(root: Path, model: str, method: object, seconds: list[float], device: str) -> Path:
    (root / "settings").mkdir(parents=True)
    settings = {"model": {"id": model}, **({"method": method} if method else {})}
    (root / "settings" / "x.json").write_text(json.dumps(settings))
    for index, taken in enumerate(seconds):
        item = Generation(str(index), 0, b"png", taken, float("nan"))
        write_generations(root / "generations", index, [item], {"device": device})
    return root


def lines(text: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows}


def test_hours_are_seconds_times_pictures_and_the_rest_is_not_measured(
    cost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    bld = make_run(tmp_path / "a", "bld", None, [1.0, 3.0], "cuda (H100)")
    profi = make_run(
        tmp_path / "b", DREAMSHAPER, {"painta": {}, "rasg": {}, "vanilla": None}, [3.6], "cpu"
    )
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
    assert list(lines(capsys.readouterr().out))[2:] == ["BLD", "1 of 1 rows"]


@pytest.mark.parametrize(
    ("modules", "name"),
    [
        ({}, "base"),
        ({"painta"}, "painta_only"),
        ({"rasg"}, "rasg_only"),
        ({"painta", "rasg"}, "profi"),
        ({"vanilla"}, "vanilla_only"),
    ],
)
def test_a_method_s_name_is_told_from_what_it_is_made_of(cost, modules, name: str) -> None:  # type: ignore[no-untyped-def]
    from dataclasses import asdict

    from profi.inpainters.ablations import compose
    from profi.inpainters.readings import PAPER

    method = json.loads(json.dumps(asdict(compose(name, PAPER))))
    assert {part for part in ("painta", "rasg", "vanilla") if method[part]} == set(modules)
    assert cost.ablation_of(method) == name


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
    for text, told in (
        ("model,seconds,device\n", "lacks the column ablation"),
        ("model,ablation,seconds,device\nbld,base,soon,cpu\n", "line 2: seconds=soon"),
        ("model,ablation,seconds,device\nbld,base,-1,cpu\n", "line 2: seconds=-1"),
    ):
        table.write_text(text)
        with pytest.raises(UserError, match=told):
            list(cost.rates_in(table))
    with pytest.raises(UserError, match="cannot be read"):
        list(cost.rates_in(tmp_path / "none.csv"))
