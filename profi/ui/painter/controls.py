"""The controls of the painter's page: a component per setting, and settings from their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from profi.catalogue import catalogue
from profi.settings.fields import choices_of, default_of
from profi.types import MAX_SEED, UserError
from profi.ui.painter.settings import MAX_TEXT, Settings, as_json, settings_of

FIELDS = Settings.__dataclass_fields__
#: "More settings", row by row.
ROWS = (
    ("guidance_scale", "reading", "evaluation"),
    ("positive", "negative"),
    ("model", "blended", "highres", "feather"),
)
#: The page's controls in the order in which events get them: fields of `Settings`, but `crop`,
#: which is a switch and a number.
CONTROLS = (
    "prompt",
    "ablations",
    "seed",
    "variants",
    "steps",
    *(name for row in ROWS for name in row),
)
LABELS = {
    "prompt": "Prompt",
    "ablations": "Methods to compare",
    "seed": "Seed",
    "variants": "Variants",
    "steps": "Steps",
    "guidance_scale": "Guidance scale",
    "model": "Model",
    "reading": "Reading",
    "evaluation": "Evaluation",
    "positive": "Positive prompt",
    "negative": "Negative prompt",
    "blended": "Blended",
    "feather": "Soft edge",
    "highres": "High resolution",
}
CROP_MARGIN = 32
WHOLE_NUMBERS = ("seed", "variants", "steps", "feather")


def control(name: str, models: Sequence[str], offers_highres: bool) -> Any:
    """The Gradio component of a setting, by its field's type, bounds and meaning.

    `models` are those to choose from; high resolution is shown where it is offered.
    """
    spec = FIELDS[name]
    given: dict[str, Any] = {"label": LABELS[name], "info": about(name), "elem_id": name}
    # On a phone the three numbers fit into one row, the others have one each.
    given["min_width"] = 90 if name in ("seed", "variants", "steps") else 240
    default = default_of(spec)
    if name == "ablations":
        methods = [(entry.label, entry.name) for entry in catalogue.methods.entries()]
        return gr.CheckboxGroup(methods, value=list(default), **given)
    if name == "model":
        return gr.Radio(models, value=models[0], **given)
    if choices_of(Settings, name):
        return gr.Radio(choices_of(Settings, name), value=default, **given)
    if isinstance(default, bool):
        offered = name != "highres" or offers_highres
        return gr.Checkbox(default, visible=offered, **given)
    if name in WHOLE_NUMBERS:
        return gr.Number(default, precision=0, **given)
    if isinstance(default, float):
        return gr.Number(default, **given)
    if name == "prompt":
        given["info"] = None
        placeholder = "an apple"
        return gr.Textbox(default, lines=1, max_length=MAX_TEXT, placeholder=placeholder, **given)
    return gr.Textbox(default, lines=1, max_length=MAX_TEXT, **given)


def about(name: str) -> str:
    """A setting's meaning and bounds; `Settings` checks them, for all callers alike."""
    metadata = FIELDS[name].metadata
    text: str = metadata["meaning"][0].upper() + metadata["meaning"][1:]
    if metadata["at_most"] is None or metadata["at_most"] == MAX_SEED:
        return text
    return f"{text}, {metadata['at_least']} to {metadata['at_most']}"


def settings_from(values: Sequence[Any]) -> Settings:
    """The settings from the controls' values: `CONTROLS`, the switch of `crop`, and its number."""
    *named, cropped, margin = values
    given = dict(zip(CONTROLS, named, strict=True))
    for name in WHOLE_NUMBERS:
        if given[name] is None:
            raise UserError(f"{LABELS[name].lower()} is empty: give a number")
    if cropped and margin is None:
        raise UserError("pixels around the mask is empty: give a number")
    # In the catalogue's order, not in that of the clicks.
    given["ablations"] = sorted(given["ablations"], key=catalogue.methods.rank)
    return settings_of({**given, "crop": margin if cropped else None})


def values_of(settings: Settings) -> list[Any]:
    """The controls' values that say these settings, as `settings_from` takes them."""
    values = as_json(settings)
    crop = CROP_MARGIN if settings.crop is None else settings.crop
    return [*(values[name] for name in CONTROLS), settings.crop is not None, crop]
