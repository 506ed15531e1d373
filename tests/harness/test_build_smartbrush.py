from __future__ import annotations

import pytest

from profi.baselines.smartbrush import SmartBrush
from profi.harness.rows import load_rows
from profi.harness.runs import context_of, methods_of
from profi.inpainter import Row
from profi.settings import AblationConfig, Config, ModelConfig, SmartBrushConfig
from profi.types import UserError


def config(**model: object) -> Config:
    chosen = {"id": "mini-smartbrush", "inpainter": "smartbrush", "unet": "shipped:cpu/smartbrush"}
    return Config(
        model=ModelConfig(**{**chosen, **model}),  # type: ignore[arg-type]
        ablation=AblationConfig("base"),
    )


def base_row(config: Config) -> Row:
    return load_rows(context_of(config), list(methods_of(config).values()))["base"]


def test_the_shipped_model_becomes_the_row_that_the_settings_say() -> None:
    settings = SmartBrushConfig(level=3, composition="predicted_mask")
    row = base_row(config(smartbrush=settings))
    assert isinstance(row, SmartBrush)
    assert (row.level, row.composition) == (3, "predicted_mask")
    assert row.identity["smartbrush"] == {"level": 3, "composition": "predicted_mask"}


def test_without_weights_the_error_says_how_to_get_them() -> None:
    with pytest.raises(UserError, match=r"scripts/train_smartbrush\.py .* model\.path"):
        base_row(config(path=None, unet=None))


def test_another_model_is_no_smartbrush() -> None:
    with pytest.raises(UserError, match="use a SmartBrush UNet"):
        base_row(config(unet=None))
    with pytest.raises(UserError, match=r"use a UNet that|use an inpainting model"):
        base_row(config(inpainter="stable_inpainting"))
