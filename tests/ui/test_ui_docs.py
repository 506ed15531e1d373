"""The commands and the code of docs/ui.md, run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_files import encoded, picture
from PIL import Image, ImageDraw

pytest.importorskip("gradio", reason='needs the extra "ui"')
pytestmark = pytest.mark.ui

PAGE = (Path(__file__).parents[2] / "docs" / "ui.md").read_text()
SIZE = (90, 70)


def block(language: str) -> str:
    """The page's one block of this language."""
    (code,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(code)


def test_curl_and_the_python_client_paint(serve: Callable[..., Any], tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    mask = Image.new("L", SIZE)
    ImageDraw.Draw(mask).rectangle((20, 20, 60, 50), fill=255)
    (tmp_path / "photo.png").write_bytes(encoded(picture(*SIZE), "PNG"))
    (tmp_path / "mask.png").write_bytes(encoded(mask, "PNG"))
    with serve(tmp_path, "ui") as server:

        def run(*command: str, code: str) -> str:
            assert "http://127.0.0.1:7860" in code
            code = code.replace("http://127.0.0.1:7860", server.url)
            done = subprocess.run(
                [*command, code],
                cwd=tmp_path,
                text=True,
                capture_output=True,
                timeout=300,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        run("bash", "-c", code=block("bash"))
        message = run(sys.executable, "-c", code=block("python"))
    assert "'step': 40, 'total': 40" in message
    outside = np.asarray(mask) < 128
    given = np.asarray(picture(*SIZE))
    for name in ("painted.png", "base-3.png", "profi-3.png"):
        image = np.asarray(Image.open(tmp_path / name))
        assert (image[outside] == given[outside]).all()
        assert (image[~outside] != given[~outside]).any()
