"""The rehearsal of the GPU's benchmark: parts are written one by one, and a restart goes on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import gpu


def run(out: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    given = ["gpu", "--out", str(out), "--device", "cpu", "--tiny"]
    monkeypatch.setattr("sys.argv", given)
    gpu.main()
    return [json.loads(line) for line in (out / "parts.jsonl").read_text().splitlines()]


def test_parts_are_measured_noted_or_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = True

    def parts(bench: gpu.Bench) -> Iterator[tuple[str, gpu.Part]]:
        def fail() -> gpu.Figures:
            if broken:
                raise RuntimeError("out of memory")
            return {"x": {"seconds": 1.0}}

        yield "memory", lambda: bench.memory(64)
        yield "fails", fail
        yield "row bld", lambda: bench.row("bld")

    monkeypatch.setattr(gpu.Bench, "parts", parts)
    first = run(tmp_path, monkeypatch)
    assert [line["part"] for line in first] == ["memory", "fails", "row bld"]
    assert first[1]["failed"] == "RuntimeError: out of memory"
    figures = first[2]["figures"]["bld"]  # type: ignore[index]
    assert figures["hours of 50,000"] == pytest.approx(figures["seconds a picture"] * 50_000 / 3600)
    assert 0 < figures["texts and decoding"] < 1
    broken = False
    again = run(tmp_path, monkeypatch)
    assert [line["part"] for line in again[3:]] == ["fails"]
    text = (tmp_path / "report.md").read_text()
    assert "not measured: RuntimeError: out of memory" in text
    assert "## row bld" in text


def test_all_parts_have_names_of_their_own() -> None:
    for tiny in (False, True):
        options = argparse.Namespace(tiny=tiny, device="cpu", dtype="float32", steps=2, repeats=1)
        names = [name for name, _ in gpu.Bench(options).parts()]
        assert len(names) == len(set(names)) >= 5


def test_what_needs_cuda_says_so_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def parts(bench: gpu.Bench) -> Iterator[tuple[str, gpu.Part]]:
        yield "graphs", bench.graphs

    monkeypatch.setattr(gpu.Bench, "parts", parts)
    (line,) = run(tmp_path, monkeypatch)
    assert line["skipped"] == "no CUDA"
    assert "skipped: no CUDA" in (tmp_path / "report.md").read_text()


def test_the_parts_of_a_call_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def parts(bench: gpu.Bench) -> Iterator[tuple[str, gpu.Part]]:
        yield "outside", bench.outside
        yield "one pass, batch 1", lambda: bench.one_pass(1)

    monkeypatch.setattr(gpu.Bench, "parts", parts)
    outside, one_pass = run(tmp_path, monkeypatch)
    for figures in outside["figures"].values():  # type: ignore[attr-defined]
        parts_of = ("UNet", "texts", "encoding", "decoding", "the rest")
        assert sum(figures[part] for part in parts_of) == pytest.approx(figures["seconds"])
        assert figures["share outside the UNet"] == pytest.approx(
            1 - figures["UNet"] / figures["seconds"]
        )
        assert figures["UNet"] > 0
    assert set(one_pass["figures"]) == {  # type: ignore[call-overload]
        f"{row}, {name}" for row in gpu.GUIDED for name in ("two passes", "one pass")
    }
