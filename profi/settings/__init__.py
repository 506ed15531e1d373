"""Every setting of a run, typed: plain dataclasses that know neither Hydra nor torch.

`run.py` registers `Config` as the schema of `conf/`, so an unknown key or a value of the wrong type
is refused by name; what a type cannot say (choices, ranges, combinations) is checked here on
construction and raised as a `UserError` that names the key, the value and what is allowed. (The
classes are not frozen: OmegaConf takes a frozen schema as one that no YAML may fill in.)
"""

from profi.settings.command import MAX_SEED, Config, LoggerConfig, ReportConfig, parse_shard
from profi.settings.data import DataConfig
from profi.settings.evaluation_schema import EvaluationConfig
from profi.settings.fields import check_device, choices_of
from profi.settings.method import (
    AblationConfig,
    RASGConfig,
    ReadingConfig,
    SamplingConfig,
    VanillaConfig,
)
from profi.settings.metric import (
    AccuracyConfig,
    AestheticConfig,
    ClipConfig,
    LPIPSConfig,
    MetricConfig,
    PickConfig,
)
from profi.settings.model import (
    ABLATED,
    BlendedLatentDiffusionConfig,
    ControlNetConfig,
    GLIDEConfig,
    ModelConfig,
    SDXLInpaintingConfig,
    SmartBrushConfig,
    WeightsConfig,
)
from profi.settings.paths import PACKAGE, SHIPPED, shipped_path

__all__ = [
    "ABLATED",
    "MAX_SEED",
    "PACKAGE",
    "SHIPPED",
    "AblationConfig",
    "AccuracyConfig",
    "AestheticConfig",
    "BlendedLatentDiffusionConfig",
    "ClipConfig",
    "Config",
    "ControlNetConfig",
    "DataConfig",
    "EvaluationConfig",
    "GLIDEConfig",
    "LPIPSConfig",
    "LoggerConfig",
    "MetricConfig",
    "ModelConfig",
    "PickConfig",
    "RASGConfig",
    "ReadingConfig",
    "ReportConfig",
    "SDXLInpaintingConfig",
    "SamplingConfig",
    "SmartBrushConfig",
    "VanillaConfig",
    "WeightsConfig",
    "check_device",
    "choices_of",
    "parse_shard",
    "shipped_path",
]
