from __future__ import annotations

import pytest
import torch

from profi.models.devices import resolve_device
from profi.types import UserError


@pytest.fixture
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("_no_gpu")
@pytest.mark.parametrize("assigned", [None, "", "-1", "NoDevFiles"])
def test_auto_is_the_cpu_where_no_gpu_is_wanted(
    assigned: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if assigned is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", assigned)
    assert resolve_device("model.device", "auto") == "cpu"


@pytest.mark.usefixtures("_no_gpu")
@pytest.mark.parametrize("assigned", ["0", "7", "0,1", "GPU-8f6a"])
def test_auto_does_not_fall_back_to_the_cpu_where_a_gpu_was_assigned(
    assigned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", assigned)
    with pytest.raises(UserError, match=rf"CUDA_VISIBLE_DEVICES={assigned}: .*model\.device=cpu"):
        resolve_device("model.device", "auto")
    assert resolve_device("model.device", "cpu") == "cpu"
