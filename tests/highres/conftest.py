from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tiny_upscaler import make_upscaler

from profi.highres import Upscaler, load_upscaler


@pytest.fixture(scope="session")
def pipeline() -> Any:
    return make_upscaler()


@pytest.fixture(scope="session")
def folder(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline, saved in its real layout."""
    folder = tmp_path_factory.mktemp("x4")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def upscaler(folder: Path) -> Upscaler:
    return load_upscaler(folder, "cpu")
