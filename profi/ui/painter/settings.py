"""The settings of the painter's page: one record for the page, the HTTP interface and the files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from profi.catalogue import catalogue
from profi.settings import DEFAULT_READING, Sampling
from profi.settings.fields import build, check_fields, setting
from profi.settings.highres import HIGHRES, HighRes
from profi.types import MAX_SEED, UserError, check_text

#: Pictures of one call: the ablations times the variants.
MAX_PICTURES = 16
MAX_TEXT = 2000


@dataclass(frozen=True)
class Settings:
    """What to paint and how: everything but the picture and the mask."""

    prompt: str = setting("", "what to paint into the mask")
    model: str = setting("mini", "one whose weights are on this machine")
    ablations: tuple[str, ...] = setting(("profi",), "the methods, side by side on the same seeds")
    seed: int = setting(0, "of the first variant", at_least=0, at_most=MAX_SEED)
    variants: int = setting(1, "per method", at_least=1, at_most=8)
    steps: int = setting(Sampling().num_inference_steps, "sampling steps", at_least=1, at_most=250)
    guidance_scale: float = setting(
        Sampling().guidance_scale, "how strongly the text guides", at_least=0, at_most=50
    )
    reading: Literal["released", "paper"] = setting(
        DEFAULT_READING, "where paper and released code differ, follow this one"
    )
    evaluation: Literal["ours", "released"] = setting(
        "ours", "how picture and mask are fitted to the model"
    )
    positive: str = setting("", "appended to the prompt, after a comma")
    negative: str = setting("", "what not to paint")
    blended: bool = setting(True, "keep the given pixels outside of the mask")
    crop: int | None = setting(
        None,
        "paint only the mask's surroundings, so many pixels around it",
        at_least=0,
        at_most=4096,
    )
    highres: bool = setting(
        False, "paint small, enlarge four times with an upscaler, blend (appendix E)"
    )
    feather: int = setting(
        0, "pixels over which the painted part comes in at the mask's edge", at_least=0, at_most=256
    )

    def __post_init__(self) -> None:
        check_fields("", self)
        for name in ("prompt", "model", "positive", "negative"):
            text = getattr(self, name)
            if not isinstance(text, str) or len(text) > MAX_TEXT:
                raise UserError(f"{name}: give a text of at most {MAX_TEXT} characters")
            check_text(name, text)
        for name in ("blended", "highres"):
            if type(getattr(self, name)) is not bool:
                raise UserError(f"{name}={getattr(self, name)}: give true or false")
        if self.highres and (self.feather or not self.blended):
            raise UserError("highres has a blend of its own: leave feather at 0, blended at true")
        self._check_methods()

    def _check_methods(self) -> None:
        names = self.ablations
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            raise UserError("ablations: give a list of methods, such as profi")
        if not names:
            raise UserError("no method is chosen: choose at least one")
        for name in names:
            catalogue.methods.get(name, "ablations")
        if len(set(names)) < len(names):
            raise UserError("ablations: each method once")
        if len(names) * self.variants > MAX_PICTURES:
            raise UserError(
                f"{len(names)} methods with {self.variants} variants make "
                f"{len(names) * self.variants} pictures: at most {MAX_PICTURES} at once"
            )
        if self.seed + self.variants - 1 > MAX_SEED:
            raise UserError(f"seed={self.seed}: its variants go beyond {MAX_SEED}")
        if not self.prompt.strip() and set(names) != {"base"}:
            raise UserError("the prompt is empty: say what to paint, or choose base alone")

    @property
    def seeds(self) -> list[int]:
        """One seed per variant."""
        return [self.seed + i for i in range(self.variants)]

    @property
    def sampling(self) -> dict[str, Any]:
        """The options of `Painter.highres` without seed and ablation."""
        names = ("reading", "evaluation", "steps", "guidance_scale", "positive", "negative")
        return {name: getattr(self, name) for name in names}

    @property
    def choices(self) -> dict[str, Any]:
        """The options of `Painter.__call__` without seed and ablation."""
        names = ("crop", "feather", "blended")
        return self.sampling | {name: getattr(self, name) for name in names}

    @property
    def large(self) -> HighRes | None:
        """The settings of `Painter.highres`; None without it."""
        return replace(HIGHRES["ours"], crop=self.crop) if self.highres else None

    def facts(self, ablation: str, seed: int) -> dict[str, Any]:
        """What the file of one picture says: as `profi paint` does, and under `page` the rest."""
        page = {"ablations": list(self.ablations), "seed": self.seed, "variants": self.variants}
        return {
            "prompt": self.prompt,
            "model": self.model,
            "seed": seed,
            "ablation": ablation,
            **self.choices,
            **({} if self.large is None else {"highres": asdict(self.large)}),
            "page": page,
        }


def settings_of(values: Any) -> Settings:
    """Checked settings from a JSON object; UserError for an unknown name or a wrong value."""
    if not isinstance(values, Mapping):
        raise UserError('the settings must be a JSON object, such as {"prompt": "an apple"}')
    given = dict(values)
    known = {spec.name for spec in fields(Settings)}
    unknown = [str(name)[:40] for name in given if name not in known]
    if unknown:
        raise UserError(f"unknown settings: {', '.join(unknown)}; choose among {', '.join(known)}")
    scale = given.get("guidance_scale")
    if type(scale) is int and abs(scale) < MAX_SEED:
        given["guidance_scale"] = float(scale)
    settings: Settings = build(Settings, given)
    return settings


def settings_of_facts(text: str) -> Settings:
    """The settings from a picture's text chunk (`Settings.facts`, or `profi paint`'s).

    Raises UserError if it is none, or its values are not allowed here.
    """
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError("the picture's settings cannot be read") from error
    if not isinstance(facts, dict):
        raise UserError("the picture's settings cannot be read")
    page = facts.get("page")
    run = page if isinstance(page, dict) else {"ablations": [facts.get("ablation", "profi")]}
    large = facts.get("highres")
    if isinstance(large, dict):
        run = {**run, "highres": True, "crop": large.get("crop")}
    names = {spec.name for spec in fields(Settings)}
    return settings_of({k: v for k, v in {**facts, **run}.items() if k in names})


def as_json(settings: Settings) -> dict[str, Any]:
    """The settings as JSON values, as `settings_of` takes them."""
    return {**asdict(settings), "ablations": list(settings.ablations)}
