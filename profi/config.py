"""Every setting of a run, typed: plain dataclasses that know neither Hydra nor torch.

`run.py` registers `Config` as the schema of `conf/`, so an unknown key or a value of the wrong type
is refused by name; what a type cannot say (choices, ranges, combinations) is checked here on
construction and raised as a `UserError` that names the key, the value and what is allowed. (The
classes are not frozen: OmegaConf takes a frozen schema as one that no YAML may fill in.)
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from profi.types import ABLATIONS, UserError

STAGES = ("generate", "score", "report", "all")
METRICS = (
    "clip_score",
    "accuracy",
    "aesthetic",
    "known_region_psnr",
    "known_region_lpips",
    "pick_score",
    "accuracy_mmdet",
    "accuracy_transformers",
)
MAX_SEED = 2**63 - 1
PACKAGE = Path(__file__).parent
SHIPPED = "shipped:"


def choice(default: str, *others: str) -> Any:
    """A text field that takes `default` or one of `others`."""
    return field(default=default, metadata={"choices": (default, *others)})


def choices_of(section: type, name: str) -> tuple[str, ...]:
    """What a field of `choice` takes, the default first."""
    (spec,) = (spec for spec in fields(section) if spec.name == name)
    return tuple(spec.metadata["choices"])


def number(default: float | None, *, at_least: float, or_null: bool = False) -> Any:
    """A number field no smaller than `at_least`; null is allowed where `or_null`."""
    return field(default=default, metadata={"at_least": at_least, "or_null": or_null})


def _check_field(key: str, spec: Field[Any], value: Any) -> None:
    choices = spec.metadata.get("choices")
    if choices is not None and value not in choices:
        raise UserError(f"{key}={value}: choose one of {', '.join(choices)}")
    least = spec.metadata.get("at_least")
    if least is None or (value is None and spec.metadata["or_null"]):
        return
    # Written so that a NaN is refused too.
    if not (value >= least and value != float("inf")):
        raise UserError(f"{key}={value}: must be a finite number of at least {least:g}")


def _check(section: str, values: Any) -> None:
    for spec in fields(values):
        key = f"{section}.{spec.name}" if section else spec.name
        _check_field(key, spec, getattr(values, spec.name))


def check_device(key: str, name: str) -> None:
    """UserError naming `key` for what is no device's name; whether it is there shows later."""
    kind, _, index = name.partition(":")
    indexed = kind == "cuda" and (index.isdigit() or ":" not in name)
    if not indexed and name not in ("auto", "cpu", "mps"):
        raise UserError(f"{key}={name}: choose one of auto, cpu, cuda, cuda:N, mps")


def shipped_path(text: str) -> Path:
    """A path of the config; `shipped:cpu/inpaint` is among the files that ship with the package."""
    if text.startswith(SHIPPED):
        return PACKAGE / "mini" / "shipped" / text.removeprefix(SHIPPED)
    return Path(text).expanduser()


@dataclass
class ModelConfig:
    """A diffusion inpainting model and how it is run.

    `id` is the row label and, where `path` is null, the Hugging Face repository; `path` is a local
    folder in the diffusers layout. Images are fitted to `long_side` pixels and padded right and
    bottom to a multiple of `pad_multiple`. `dtype` is the UNet's; of `vae_dtype`, auto is float16
    beside a float16 UNet on a GPU (but for SDXL's VAE, which overflows in it) and float32 else.
    `channels_last` is the memory format of UNet and VAE. `compile` compiles the UNet's blocks anew
    for each size of batch and padded picture: it needs a C++ compiler and pays off only after many
    pictures of one size. Both change results by float rounding.
    """

    id: str = "profi-mini"
    path: str | None = f"{SHIPPED}cpu/inpaint"
    dtype: str = choice("float32", "bfloat16", "float16")
    vae_dtype: str = choice("auto", "float32", "bfloat16", "float16")
    channels_last: bool = False
    compile: bool = False
    device: str = "auto"
    long_side: int = number(512, at_least=8)
    pad_multiple: int = number(64, at_least=1)
    batch_size: int = number(4, at_least=1)

    def __post_init__(self) -> None:
        _check("model", self)
        check_device("model.device", self.device)


@dataclass
class AblationConfig:
    """Which of the paper's two modules are on: a row of Table 2."""

    name: str = "profi"

    def __post_init__(self) -> None:
        canonical_ablation("ablation.name", self.name)


def canonical_ablation(key: str, name: str) -> str:
    """The one spelling of an ablation's name; `UserError` naming `key` for an unknown one."""
    if name not in ABLATIONS:
        raise UserError(f"{key}={name}: choose one of {', '.join(ABLATIONS)}")
    return ABLATIONS[name]


@dataclass
class DataConfig:
    """The benchmark's triplets (image, mask, prompt), and which of them are painted.

    `source` is how they are given: `coco` are instances of any file of MSCOCO's format, hulled
    (`root` the images' folder, `annotations` the file); `coco2017` are those of val2017, each of
    `root` and `annotations` fetched into `cache` where it is empty (null: the user's cache folder);
    `folder` is one's own set (`root` holds images/, masks/ and prompts.csv).

    `sample=released` (of coco2017) takes the published list, fetched or from `sample_path`;
    `sample=seeded` takes all instances whose hulls have `min_area` square pixels. Of either,
    `limit` are drawn by `sample_seed` (null: all).
    """

    name: str = "mini"
    source: str = choice("coco", "coco2017", "folder")
    root: str = f"{SHIPPED}cpu/data/images"
    annotations: str = f"{SHIPPED}cpu/data/instances_val.json"
    cache: str | None = None
    sample: str = choice("seeded", "released")
    sample_path: str | None = None
    limit: int | None = number(None, at_least=1, or_null=True)
    sample_seed: int = number(0, at_least=0)
    min_area: float = number(1.0, at_least=0)

    def __post_init__(self) -> None:
        _check("data", self)
        if self.source == "coco":
            self._require("root", "the images' folder")
            self._require("annotations", "an instances JSON")
        if self.source == "folder":
            self._require("root", "a folder with images/, masks/ and prompts.csv")
            if self.annotations:
                raise UserError("data.annotations: data.source=folder has none; leave it empty")
        if self.sample == "released" and self.source != "coco2017":
            raise UserError(
                "data.sample=released: that list is of val2017 alone; use data=coco2017 or "
                "data.sample=seeded"
            )
        if self.sample_path is not None and self.sample != "released":
            raise UserError(
                f"data.sample_path={self.sample_path}: it is a copy of the published list; "
                "use it with data=coco2017 data.sample=released"
            )
        if self.cache == "":
            raise UserError("data.cache= is empty: name a folder, or null for the user's own")

    def _require(self, key: str, what: str) -> None:
        if not getattr(self, key):
            raise UserError(f"data.{key} is not set: name {what} by data.{key}=...")


@dataclass
class SamplingConfig:
    """How the diffusion is sampled (eq. 11's eta is a choice of the reading: `reading.eta`).

    `positive_prompt` is appended to every prompt, `negative_prompt` replaces the empty one.
    """

    num_inference_steps: int = number(50, at_least=1)
    guidance_scale: float = number(7.5, at_least=0)
    output: str = choice("unblended", "blended")
    positive_prompt: str = ""
    negative_prompt: str = ""

    def __post_init__(self) -> None:
        _check("sampling", self)


@dataclass
class ClipConfig:
    """The CLIP model of the CLIP score.

    A local folder, a repository id, or `open_clip:MODEL/WEIGHTS` for a model of open_clip.
    """

    path: str | None = None


@dataclass
class AccuracyConfig:
    """The detector of the accuracy: a label counts as found above `threshold`.

    `backend` is the detector of `accuracy`: the one of transformers at `path` (a local folder or
    a repository id), or MMDetection's RTMDet-tiny with the weights at `checkpoint` (a file or a
    URL, whose SHA-256 starts with `sha256`). `channels` is the order that RTMDet is handed:
    BGR, as it was trained with, or RGB as if it were BGR, as the paper's released code does.
    """

    path: str | None = None
    threshold: float = number(0.3, at_least=0)
    backend: str = choice("transformers", "mmdet")
    checkpoint: str | None = None
    sha256: str | None = None
    channels: str = choice("bgr", "rgb_as_bgr")

    def __post_init__(self) -> None:
        _check("metric.accuracy", self)


@dataclass
class AestheticConfig:
    """The aesthetic predictor's head and the CLIP model whose image embedding it reads.

    `path` is a folder, a `.pth` file or its URL; `sha256` the hash of the file, if it is one.
    """

    path: str | None = None
    clip_path: str | None = None
    sha256: str | None = None


@dataclass
class PickConfig:
    """PickScore's model, and where its tokenizer and preprocessing lie (null: with the model)."""

    path: str | None = None
    processor: str | None = None


@dataclass
class LPIPSConfig:
    """AlexNet's weights, a `.pth` file or its URL; `sha256` is its hash."""

    path: str | None = None
    sha256: str | None = None


@dataclass
class MetricConfig:
    """Which metrics are scored, in which order, with which weights; `name` labels the set."""

    name: str = "mini"
    metrics: list[str] = field(default_factory=lambda: list(METRICS[:4]))
    clip: ClipConfig = field(default_factory=ClipConfig)
    accuracy: AccuracyConfig = field(default_factory=AccuracyConfig)
    aesthetic: AestheticConfig = field(default_factory=AestheticConfig)
    pick: PickConfig = field(default_factory=PickConfig)
    lpips: LPIPSConfig = field(default_factory=LPIPSConfig)
    batch_size: int = number(16, at_least=1)

    def __post_init__(self) -> None:
        _check("metric", self)
        for name in self.metrics:
            if name not in METRICS:
                raise UserError(f"metric.metrics={name}: choose among {', '.join(METRICS)}")
        if not self.metrics or len(set(self.metrics)) != len(self.metrics):
            raise UserError(
                f"metric.metrics=[{','.join(self.metrics)}]: name each wanted metric once"
            )


@dataclass
class LoggerConfig:
    """Where progress is told; every run also writes its own `run.log`.

    `wandb` tells Weights & Biases too: `project` and `entity` (null: the user's own) say where,
    `mode=offline` keeps it in the folder `wandb` of `out` for `wandb sync`; `pictures` triplets of
    each run are shown, the same ones of all runs of the same data.
    """

    name: str = choice("console", "wandb")
    level: str = choice("info", "debug", "warning", "error")
    project: str = "profi"
    entity: str | None = None
    mode: str = choice("online", "offline")
    pictures: int = number(32, at_least=0)

    def __post_init__(self) -> None:
        _check("logger", self)
        if not self.project:
            raise UserError("logger.project= is empty: name the project that the runs go to")


@dataclass
class ReportConfig:
    """What the report shows: so many triplets can be browsed in its gallery (null: all of them)."""

    gallery: int | None = number(1000, at_least=0, or_null=True)

    def __post_init__(self) -> None:
        _check("report", self)


@dataclass
class ReadingConfig:
    """Every choice where the paper's text and the authors' released code differ.

    The fields are those of `profi.inpainters.readings.Reading`, which says what each one means;
    `name` labels the bundle that the values started from.
    """

    name: str = choice("paper", "released")
    mask_resizing: str = choice("nearest", "pil_bicubic")
    masked_image: str = choice("given", "as_resized")
    query: str = choice("block_input", "after_self_attention")
    smoothing: str = choice("none", "gaussian")
    active: str = choice("first_half", "t_above_500")
    c_gradient: str = choice("flows", "stops")
    offset: float = 0.0
    reduction: str = choice("sum", "mean")
    vanished_mask: str = choice("unguided", "literal")
    sigma: str = choice("cumulative", "per_step")
    eta: float = number(0.15, at_least=0)

    def __post_init__(self) -> None:
        _check("reading", self)


@dataclass
class RASGConfig:
    """What may be chosen of RASG beside its reading.

    `every` and `until`: RASG in every n-th step of the first share `until` of the steps.
    `objective`: eq. 10 (bce) or eq. 13 (max_attention), for `vanilla_only` too.
    """

    every: int = number(1, at_least=1)
    until: float = number(1.0, at_least=0)
    objective: str = choice("bce", "max_attention")

    def __post_init__(self) -> None:
        _check("rasg", self)
        if self.until > 1.0:
            raise UserError(f"rasg.until={self.until}: a share of the steps, at most 1")


@dataclass
class VanillaConfig:
    """The vanilla guidance that fig. 8 compares RASG with: `scale` is s of eq. 6."""

    scale: float = number(1000.0, at_least=0)

    def __post_init__(self) -> None:
        _check("vanilla", self)


@dataclass
class Config:
    """One command: a model, a method, data, metrics, and which stages to run.

    `ablations` and `seeds`, where not empty, make one process run every pair of them (that is what
    an experiment is) in place of the single `ablation` and `seed`; `models`, named as `model`'s
    options are, does so for every one of them in place of `model`, one after the other. `shard=i/n`
    takes parts i, i+n, ... (counted from 1) of the `part_size` triplets each that the manifest is
    cut into.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    models: dict[str, ModelConfig] = field(default_factory=dict)
    ablation: AblationConfig = field(default_factory=AblationConfig)
    data: DataConfig = field(default_factory=DataConfig)
    metric: MetricConfig = field(default_factory=MetricConfig)
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    rasg: RASGConfig = field(default_factory=RASGConfig)
    vanilla: VanillaConfig = field(default_factory=VanillaConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    stage: str = choice("all", *STAGES[:-1])
    seed: int = number(0, at_least=0)
    seeds: list[int] = field(default_factory=list)
    ablations: list[str] = field(default_factory=list)
    shard: str = "1/1"
    part_size: int = number(16, at_least=1)
    out: str = "outputs"
    name: str | None = None

    def __post_init__(self) -> None:
        _check("", self)
        parse_shard(self.shard)
        ablations = [canonical_ablation("ablations", name) for name in self.ablations]
        for key, values in (("ablations", ablations), ("seeds", self.seeds)):
            if len(set(values)) != len(values):
                raise UserError(f"{key}={values}: one of them is named twice")
        if any(seed < 0 for seed in self.seeds):
            raise UserError(f"seeds={self.seeds}: every seed must be at least 0")
        # They are stored as 64-bit integers.
        largest = max([self.seed, *self.seeds])
        if largest > MAX_SEED:
            raise UserError(f"seed={largest}: must be at most {MAX_SEED}")
        if not self.out:
            raise UserError("out= is empty: name the folder that the runs go to")
        if self.name is not None and (
            self.name in ("", ".", "..") or Path(self.name).name != self.name
        ):
            raise UserError(f"name={self.name}: must be a plain name, it becomes a folder")

        ids = [model.id for model in self.models.values()]
        if len(set(ids)) != len(ids):
            raise UserError(f"models={list(self.models)}: two of them have one id")

    @property
    def per_model(self) -> list[Config]:
        """These settings once per model."""
        return [replace(self, model=model, models={}) for model in self.models.values()] or [self]

    @property
    def wanted(self) -> list[tuple[str, int]]:
        """The (ablation, seed) pairs of this command, ablations outermost."""
        ablations = self.ablations or [self.ablation.name]
        return [
            (canonical_ablation("ablations", name), seed)
            for name in ablations
            for seed in (self.seeds or [self.seed])
        ]


def parse_shard(text: str) -> tuple[int, int]:
    """`"2/8"` -> (1, 8): the zero-based index and the count of the shards."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise UserError(f"shard={text}: write shard=i/n with 1 <= i <= n, for instance shard=1/4")
    return int(index) - 1, int(count)
