"""Bytes that are no UTF-8, wherever a text comes from: one line that names the thing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from profi.data.coco import read_coco
from profi.data.own_folder import read_folder
from profi.inputs import jobs_of
from profi.settings import Sampling
from profi.settings.evaluation import OURS
from profi.types import UserError, check_text

REPOSITORY = Path(__file__).parents[1]
BAD = os.fsdecode(b"K\xe4tzchen")


def test_a_text_is_shown_with_its_bad_byte() -> None:
    check_text("x", "Kätzchen 猫")
    with pytest.raises(UserError, match=r"PROMPT is not UTF-8 text \(b'K\\xe4tzchen'\): set the"):
        check_text("PROMPT", BAD)
    # Half of a character, as JSON may have it, is no byte.
    with pytest.raises(UserError, match=r"PROMPT is not UTF-8 text \(b'a\?'\)"):
        check_text("PROMPT", "a\ud83d")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["paint", "image.png", "mask.png", BAD, "-o", "out.png"], "PROMPT is not UTF-8"),
        (
            ["paint", "image.png", "mask.png", "x", "-o", "o.png", "--negative", BAD],
            "--negative is",
        ),
        (["run", f"sampling.positive_prompt={BAD}"], "an argument is not UTF-8"),
        (["run", f"data.root={BAD}", "data=folder"], "an argument is not UTF-8"),
        (["run", BAD], "an argument is not UTF-8"),
    ],
)
def test_the_command_line(tmp_path: Path, arguments: list[str], named: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    Image.new("L", (8, 8), 255).save(tmp_path / "mask.png")
    command = [sys.executable, "-c", "from profi.cli.main import main; main()", *arguments]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(b"error: ")
    assert named.encode() in line
    assert b"\\xe4" in line
    assert not list(tmp_path.glob("o*"))


def test_python() -> None:
    image, mask = torch.zeros(3, 8, 8), torch.ones(8, 8)
    with pytest.raises(UserError, match="prompt is not UTF-8"):
        jobs_of(image, mask, BAD, 0, 8, 8, OURS)
    with pytest.raises(UserError, match=r"sampling\.negative_prompt is not UTF-8"):
        Sampling(negative_prompt=BAD)


def test_a_folder_s_table(tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_bytes(b"image,mask,prompt\na.png,a.png,K\xe4tzchen\n")
    with pytest.raises(UserError, match=r"prompts\.csv cannot be read .*0xe4.*save it as UTF-8"):
        read_folder(tmp_path)


def coco(**names: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": names.get("file", "a.png"), "height": 8, "width": 8}],
        "categories": [{"id": 1, "name": names.get("category", "cat")}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 5, 0, 5, 5]]}
        ],
    }


def test_a_coco_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps(coco(category="K@tzchen")).encode().replace(b"@", b"\xe4"))
    with pytest.raises(UserError, match=r"a\.json is not an instances JSON .*0xe4") as caught:
        read_coco(path)
    assert "\n" not in str(caught.value)
    for what, named in (("category", "category 1: its name"), ("file", "image 1: its name")):
        # JSON's own half of a character: \\ud83d.
        path.write_text(json.dumps(coco(**{what: "x\ud83d"})))
        with pytest.raises(UserError, match=rf"a\.json: {named} .*ud83d' is no text"):
            read_coco(path)
