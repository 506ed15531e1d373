"""All settings as frozen dataclasses that import neither Hydra nor torch.

A field has a type (choices are a `Literal`), a default, bounds and a meaning. Combinations are
checked on construction; a `UserError` names the key, the value and the allowed values.
`profi.cli.arguments` makes the command line's schema from these classes.
"""

from profi.settings.command import (
    Config,
    FigureConfig,
    LoggerConfig,
    ReportConfig,
    parse_shard,
)
from profi.settings.data import DataConfig
from profi.settings.evaluation import EVALUATIONS, OURS, Evaluation
from profi.settings.fields import check_device, choices_of
from profi.settings.method import (
    DEFAULT_READING,
    PAPER,
    READINGS,
    RELEASED,
    AblationConfig,
    RASGSettings,
    Reading,
    Sampling,
    VanillaSettings,
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
    "DEFAULT_READING",
    "EVALUATIONS",
    "OURS",
    "PACKAGE",
    "PAPER",
    "READINGS",
    "RELEASED",
    "SHIPPED",
    "AblationConfig",
    "AccuracyConfig",
    "AestheticConfig",
    "BlendedLatentDiffusionConfig",
    "ClipConfig",
    "Config",
    "ControlNetConfig",
    "DataConfig",
    "Evaluation",
    "FigureConfig",
    "GLIDEConfig",
    "LPIPSConfig",
    "LoggerConfig",
    "MetricConfig",
    "ModelConfig",
    "PickConfig",
    "RASGSettings",
    "Reading",
    "ReportConfig",
    "SDXLInpaintingConfig",
    "Sampling",
    "SmartBrushConfig",
    "VanillaSettings",
    "WeightsConfig",
    "check_device",
    "choices_of",
    "parse_shard",
    "shipped_path",
]
