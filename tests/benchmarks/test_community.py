"""The benchmark against a custom pipeline, rehearsed with diffusers' own inpainting pipeline."""

from __future__ import annotations

import argparse
import mmap
import re
from pathlib import Path

import pytest
from tiny_pipelines import make_pipeline

from benchmarks import community
from profi.types import UserError

PEER = '''
from diffusers import StableDiffusionInpaintPipeline


class StandIn(StableDiffusionInpaintPipeline):
    """Diffusers' own pipeline with two switches, which must be given."""

    def __call__(self, prompt, image, mask_image, *, use_method, scale, **more):
        assert use_method is True and scale == 0.5, (use_method, scale)
        if isinstance(prompt, list) and REFUSES_LISTS:
            raise ValueError("one prompt at a time")
        return super().__call__(prompt, image, mask_image, **more)
'''


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    make_pipeline("sd1").save_pretrained(folder)
    return folder


def run(model: Path, peer: Path, monkeypatch: pytest.MonkeyPatch, *switches: str) -> None:
    given = ["community", "--peer", str(peer), "--model", str(model), "--device", "cpu"]
    small = ["--size", "64", "--steps", "2", "--repeats", "2"]
    monkeypatch.setattr("sys.argv", [*given, *small, "--peer-args", *switches])
    community.main()


@pytest.mark.slow
@pytest.mark.parametrize("refuses", [False, True])
def test_ratios_of_both_batches_are_printed(
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refuses: bool,
) -> None:
    peer = tmp_path / f"stand_in_{refuses}.py"
    peer.write_text(f"REFUSES_LISTS = {refuses}\n{PEER}")
    run(model, peer, monkeypatch, "use_method=True", "scale=0.5")
    printed = capsys.readouterr().out
    number = r"(\d+\.\d+)"
    found = re.findall(
        rf"ours is {number} \[{number}, {number}\] times as fast per picture, at {number} of",
        printed,
    )
    assert len(found) == (1 if refuses else 2)
    for median, least, most, memory in found:
        assert 0 < float(least) <= float(median) <= float(most)
        assert float(memory) > 0
    assert ("batch 4\n  not measured: ValueError: one prompt at a time" in printed) == refuses


def test_switches_are_values_of_json_or_texts() -> None:
    given = ["a=true", "b=False", "c=3", "d=0.5", "e=null", "f=text=more", "g="]
    expected = {"a": True, "b": False, "c": 3, "d": 0.5, "e": None, "f": "text=more", "g": ""}
    assert community.arguments_of(given) == expected
    for wrong in ("a", "=1", "a b=1"):
        with pytest.raises(UserError, match="key=value"):
            community.arguments_of([wrong])


def test_a_peer_or_model_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=r"error: --peer .*none\.py: this is no \.py file"):
        run(tmp_path, tmp_path / "none.py", monkeypatch)
    (tmp_path / "x.py").write_text("")
    with pytest.raises(SystemExit, match="error: --model"):
        run(tmp_path / "none", tmp_path / "x.py", monkeypatch)


def test_memory_is_the_process_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """256 MiB that a pipeline touches while it paints are counted above the loaded models."""

    class Hungry:
        def __call__(self, *_: object, **__: object) -> argparse.Namespace:
            # Mapped anew: an allocator could hand out memory that earlier tests left resident.
            with mmap.mmap(-1, 2**28) as held:
                for place in range(0, 2**28, mmap.PAGESIZE):
                    held[place] = 1
            return argparse.Namespace(images=[None])

    monkeypatch.setattr(community, "opened", lambda *_: Hungry())
    options = argparse.Namespace(device="cpu", size=8, steps=1, arguments={})
    before, most = community.peak("peer", options, 1)
    assert 0.95 * 2**28 < most - before < 1.5 * 2**28
