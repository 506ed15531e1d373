from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from profi.metrics import ClipEncoder, Sample


def _tiny_models() -> ModuleType:
    path = Path(__file__).with_name("tiny_models.py")
    spec = importlib.util.spec_from_file_location("metrics_tiny_models", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    return _tiny_models()


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    # The environment variable is read at import; transformers asks this one at each call.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory, tiny: ModuleType) -> Path:
    return tiny.save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def encoder(clip_folder: Path) -> ClipEncoder:
    return ClipEncoder.from_pretrained(str(clip_folder), "metric.clip.path", batch_size=3)


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    rng = np.random.default_rng(0)
    result = []
    for index, prompt in enumerate(["dog", "person", "dog", "sofa", "teddy bear"]):
        image = rng.integers(0, 256, (40 + index, 56, 3), dtype=np.uint8)
        mask = np.zeros(image.shape[:2], dtype=bool)
        mask[3 + index : 20, 5 : 12 + 7 * index] = True
        result.append(Sample(image, mask, prompt))
    return result
