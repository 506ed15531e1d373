"""`profi paint --highres`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from painter_pictures import disc, picture
from PIL import Image

from profi.cli.paint import main
from profi.highres.latent_masks import box_dilated

ARGUMENTS = ["image.png", "mask.png", "a bus", "-o", "out.png", "--device", "cpu", "--steps", "1"]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    picture(150, 90).save(tmp_path / "image.png")
    disc(150, 90).resize((30, 18)).save(tmp_path / "small.png")
    mask = Image.new("L", (150, 90))
    mask.paste(255, (60, 30, 90, 50))
    mask.save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_large_picture_is_painted(files: Path, folder: Path) -> None:
    more = ["--ablation", "base", "--long-side", "32", "--highres", "--upscaler", str(folder)]
    assert main([*ARGUMENTS, *more]) == 0
    found, given = np.asarray(Image.open("out.png")), np.asarray(Image.open("image.png"))
    changed = (found != given).any(-1)
    allowed = box_dilated(np.asarray(Image.open("mask.png")) > 0, 48)
    assert found.shape == given.shape
    assert changed.any()
    assert not changed[~allowed].any()
    facts = json.loads(Image.open("out.png").text["profi"])
    assert facts["upscaler"] == str(folder)
    assert facts["highres"]["long_side"] == 128


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--highres", "--feather", "3"], "leave --feather and --unblended out"),
        (["--highres", "--unblended"], "leave --feather and --unblended out"),
        (["--upscaler", "mini"], "need --highres"),
        (["--highres-set", "paper"], "need --highres"),
        (["--highres", "--upscaler", "x5"], "upscaler 'x5' is unknown"),
        (["--highres", "--highres-set", "best"], "best"),
    ],
)
def test_mistakes_are_one_line(
    files: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main([*ARGUMENTS, *more]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not Path("out.png").exists()
