"""docs/painter.md: our pipeline opened by diffusers' `custom_pipeline`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from tiny_pipelines import make_pipeline

import profi.custom_pipeline
from profi import ProFIPainterPipeline

OURS = {"custom_pipeline": profi.custom_pipeline.__file__, "trust_remote_code": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    make_pipeline("sd1").save_pretrained(path)
    return path


def painted(pipe: Any) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[:30] = 255
    pipe.set_progress_bar_config(disable=True)
    call = {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(0)}
    image = pipe("a cat", Image.fromarray(pixels), Image.fromarray(mask), **call).images[0]
    return np.asarray(image)


def test_it_is_our_pipeline_and_paints_the_same(folder: Path, tmp_path: Path) -> None:
    pipe = DiffusionPipeline.from_pretrained(folder, **OURS)
    assert type(pipe) is ProFIPainterPipeline
    expected = painted(ProFIPainterPipeline.from_pretrained(folder))
    np.testing.assert_array_equal(painted(pipe), expected)
    # What it saves is opened in the same way again.
    pipe.save_pretrained(tmp_path / "saved")
    again = DiffusionPipeline.from_pretrained(tmp_path / "saved", **OURS)
    np.testing.assert_array_equal(painted(again), expected)


def test_a_program_that_never_imports_profi_opens_it(folder: Path) -> None:
    """The command of the page prints the path, and a process that has only the path opens it."""
    show = "import profi.custom_pipeline as c; print(c.__file__)"
    path = subprocess.run(
        [sys.executable, "-c", show], capture_output=True, text=True, check=True
    ).stdout.strip()
    program = (
        "from diffusers import DiffusionPipeline\n"
        f"given = dict(custom_pipeline={path!r}, trust_remote_code=True)\n"
        f"print(type(DiffusionPipeline.from_pretrained({str(folder)!r}, **given)).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "ProFIPainterPipeline"
