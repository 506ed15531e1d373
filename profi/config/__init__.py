"""Every setting of a run, typed: plain dataclasses that know neither Hydra nor torch.

`run.py` registers `Config` as the schema of `conf/`, so an unknown key or a value of the wrong type
is refused by name; what a type cannot say (choices, ranges, combinations) is checked here on
construction and raised as a `UserError` that names the key, the value and what is allowed. (The
classes are not frozen: OmegaConf takes a frozen schema as one that no YAML may fill in.)
"""

from profi.config.command import MAX_SEED, Config, LoggerConfig, ReportConfig, parse_shard
from profi.config.data import DataConfig
from profi.config.evaluation import EvaluationConfig
from profi.config.fields import check_device, choices_of
from profi.config.method import (
    AblationConfig,
    RASGConfig,
    ReadingConfig,
    SamplingConfig,
    VanillaConfig,
)
from profi.config.metric import (
    AccuracyConfig,
    AestheticConfig,
    ClipConfig,
    LPIPSConfig,
    MetricConfig,
    PickConfig,
)
from profi.config.model import (
    ABLATED,
    BlendedLatentDiffusionConfig,
    ControlNetConfig,
    GLIDEConfig,
    ModelConfig,
    SDXLInpaintingConfig,
    SmartBrushConfig,
    WeightsConfig,
)
from profi.config.paths import PACKAGE, SHIPPED, shipped_path

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
