"""The painter's page, in Gradio: its controls, and the events and HTTP calls behind them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from profi.catalogue import catalogue
from profi.painter import Cancelled
from profi.settings.fields import choices_of, default_of
from profi.types import UserError
from profi.ui.painter.attention import AttentionMap
from profi.ui.painter.history import Session, Sessions, add
from profi.ui.painter.painting import Event, Order, Progress, Result, Studio, Waiting
from profi.ui.painter.settings import MAX_TEXT, Settings, as_json, settings_of

INTRODUCTION = """# ProFI-Painter
Paint a mask over a picture, say what should be there, and compare the methods on the same seed."""
FIELDS = Settings.__dataclass_fields__
#: The page's controls in the order in which events get them: fields of `Settings`, but `crop`,
#: which is a switch and a number.
CONTROLS = (
    "prompt",
    "ablations",
    "seed",
    "variants",
    "steps",
    "guidance_scale",
    "model",
    "reading",
    "evaluation",
    "positive",
    "negative",
    "blended",
    "feather",
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
}
CROP_MARGIN = 32
WHOLE_NUMBERS = ("seed", "variants", "steps", "feather")


@dataclass(frozen=True)
class Page:
    """The page of a studio; `sessions` are the people who have it open."""

    studio: Studio
    sessions: Sessions
    file_bytes: int

    def blocks(self) -> gr.Blocks:
        """The Gradio app."""
        with gr.Blocks(title="ProFI-Painter", analytics_enabled=False) as blocks:
            gr.Markdown(INTRODUCTION)
            with gr.Row(equal_height=False):
                with gr.Column(scale=3, min_width=320):
                    canvas = gr.HTML(
                        f'<profi-canvas data-limit="{self.file_bytes}"></profi-canvas>',
                        apply_default_css=False,
                        js_on_load="element.addEventListener('profi-picture', "
                        "(event) => trigger('upload', event.detail));",
                    )
                with gr.Column(scale=2, min_width=320):
                    prompt = self._control("prompt")
                    with gr.Row():
                        paint = gr.Button("Paint", variant="primary", elem_id="paint")
                        stop = gr.Button("Cancel", elem_id="cancel", interactive=False)
                    status = _html(_said("Ready."), "status")
                    ablations = self._control("ablations")
                    with gr.Row():
                        few = [self._control(name) for name in ("seed", "variants", "steps")]
                    with gr.Accordion("More settings", open=False):
                        rest = {name: self._control(name) for name in CONTROLS[5:]}
                        cropped = gr.Checkbox(False, label="Crop to the mask", info=_about("crop"))
                        margin = gr.Number(
                            CROP_MARGIN, label="Pixels around the mask", precision=0, minimum=0
                        )
            results = _html("", "results")
            with gr.Accordion("Where the method looked", open=False):
                look = gr.Button("Show the attention of the chosen picture", elem_id="look")
                maps = _html("", "maps")
            history = _html("", "history")

            # What the page's own script fills in: picture, mask, problem; the chosen result.
            hidden = [gr.Textbox(visible=False) for _ in range(3)]
            chosen = gr.Textbox(visible=False)
            controls = [prompt, ablations, *few, *rest.values(), cropped, margin]
            shown = [status, results, history, paint, stop]
            gr.on(
                [paint.click, prompt.submit],
                self._paint,
                [*hidden, *controls],
                shown,
                js="(...values) => window.profiOrder(...values)",
                show_progress="hidden",
                concurrency_limit=self.studio.most_waiting + 1,
                api_visibility="private",
            )
            stop.click(
                self._cancel,
                None,
                status,
                queue=False,
                show_progress="hidden",
                api_visibility="private",
            )
            look.click(
                self._look,
                [chosen],
                maps,
                js="(...values) => window.profiChosen(...values)",
                show_progress="hidden",
                concurrency_limit=self.studio.most_waiting + 1,
                api_visibility="private",
            )
            canvas.upload(
                self._restore,
                None,
                [*controls, status],
                queue=False,
                show_progress="hidden",
                api_visibility="private",
            )
            blocks.unload(self._unload)
            gr.api(self.paint, api_name="paint", concurrency_limit=self.studio.most_waiting + 1)
            gr.api(self.attention, api_name="attention", concurrency_limit=2)
        blocks.queue(max_size=4 * self.studio.most_waiting, default_concurrency_limit=4)
        return blocks

    # The HTTP interface ------------------------------------------------------------------------

    def paint(self, order: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Paint: {"picture": NAME, "mask": NAME, "prompt": ...} and the page's other settings.

        Tells {"waiting": orders before this one} or {"step", "total"}, and at last {"pictures"}.
        """
        with _sentences():
            for event in self.studio.paint(_order_of(order), Session().cancel):
                yield _told(event)

    def attention(self, order: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The attention maps of an order with one method and one variant: {"maps": [...]}."""
        with _sentences():
            checked = _order_of(order)
            name, seed = checked.settings.ablations[0], checked.settings.seed
            for event in self.studio.attention(checked, name, seed, Session().cancel):
                if isinstance(event, Waiting):
                    yield {"waiting": event.before}
                    continue
                yield {
                    "maps": [
                        {"title": one.title, "note": one.note, "url": f"/pictures/{name}"}
                        for one in event
                        for name in [self.studio.store.put(one.png, "image/png")]
                    ]
                }

    # The page's events -------------------------------------------------------------------------

    def _paint(
        self, request: gr.Request, picture: str, mask: str, problem: str, *values: Any
    ) -> Iterator[tuple[Any, ...]]:
        session = self.sessions.of(request.session_hash)
        session.cancel.set()
        session.cancel = cancel = type(session.cancel)()
        idle = gr.update(interactive=True), gr.update(interactive=False)
        busy = gr.update(interactive=False), gr.update(interactive=True)
        keep = gr.skip(), gr.skip()
        previews = ""
        try:
            if problem:
                raise UserError(problem[:300])
            order = Order(picture, mask, self._settings(values))
            yield _said("Starting …"), *keep, *busy
            for event in self.studio.paint(order, cancel):
                if isinstance(event, Progress) and event.previews:
                    previews = _previews(event)
                if isinstance(event, Result):
                    add(session, event)
                    text = _finished(event)
                    yield _said(text), _results(event), _history(session), *idle
                else:
                    yield _progress(event, previews), *keep, *busy
        except Cancelled:
            yield _said("Cancelled. Nothing was kept."), *keep, *idle
        except UserError as error:
            yield _said(_sentence(error), wrong=True), *keep, *idle

    def _cancel(self, request: gr.Request) -> str:
        self.sessions.of(request.session_hash).cancel.set()
        return _said("Cancelling …")

    def _look(self, chosen: str, request: gr.Request) -> Iterator[str]:
        session = self.sessions.of(request.session_hash)
        try:
            found = next(
                (
                    (result.order, one)
                    for result in session.results
                    for one in result.pictures
                    if one.name == chosen
                ),
                None,
            )
            if found is None:
                raise UserError("paint a picture first")
            order, one = found
            yield _said(f"Painting {one.label} once more, with a record …")
            cancel = type(session.cancel)()
            for event in self.studio.attention(order, one.ablation, one.seed, cancel):
                yield _progress(event, "") if isinstance(event, Waiting) else _maps(event)
        except UserError as error:
            yield _said(_sentence(error), wrong=True)

    def _restore(self, event: gr.EventData) -> list[Any]:
        """The controls after a picture was opened: a picture painted here brings its settings."""
        nothing = [gr.skip()] * (len(CONTROLS) + 2)
        data = event._data if isinstance(event._data, dict) else {}
        prompt = data.get("prompt")
        if isinstance(prompt, str):
            return [prompt[:MAX_TEXT], *nothing[1:], _said("Ready.")]
        try:
            image = self.studio.store.image(data.get("picture"), "the picture")
            settings, _ = self.studio.restored(image)
        except UserError as error:
            return [*nothing, _said(_sentence(error), wrong=True)]
        if settings is None:
            return [*nothing, _said("Ready.")]
        values = as_json(settings)
        crop = [settings.crop is not None, CROP_MARGIN if settings.crop is None else settings.crop]
        text = "All settings of this picture are back."
        return [*(values[name] for name in CONTROLS), *crop, _said(text)]

    def _unload(self, request: gr.Request) -> None:
        self.sessions.close(request.session_hash)

    def _settings(self, values: tuple[Any, ...]) -> Settings:
        *named, cropped, margin = values
        given = dict(zip(CONTROLS, named, strict=True))
        for name in WHOLE_NUMBERS:
            if given[name] is None:
                raise UserError(f"{LABELS[name].lower()} is empty: give a number")
        # In the catalogue's order, not in that of the clicks.
        given["ablations"] = sorted(given["ablations"], key=catalogue.methods.rank)
        return settings_of({**given, "crop": margin if cropped else None})

    def _control(self, name: str) -> Any:
        """The Gradio component of a setting, by its field's type, bounds and meaning."""
        spec = FIELDS[name]
        given = {"label": LABELS[name], "info": _about(name), "elem_id": name}
        default = default_of(spec)
        bounds = {"minimum": spec.metadata["at_least"], "maximum": spec.metadata["at_most"]}
        if name == "ablations":
            methods = [(entry.label, entry.name) for entry in catalogue.methods.entries()]
            return gr.CheckboxGroup(methods, value=list(default), **given)
        if name == "model":
            return gr.Radio(self.studio.models, value=self.studio.models[0], **given)
        if choices_of(Settings, name):
            return gr.Radio(choices_of(Settings, name), value=default, **given)
        if isinstance(default, bool):
            return gr.Checkbox(default, **given)
        if name in WHOLE_NUMBERS:
            return gr.Number(default, precision=0, min_width=90, **bounds, **given)
        if isinstance(default, float):
            return gr.Number(default, **bounds, **given)
        if name == "prompt":
            given["info"] = None
            placeholder = "an apple"
            return gr.Textbox(
                default, lines=1, max_length=MAX_TEXT, placeholder=placeholder, **given
            )
        return gr.Textbox(default, lines=1, max_length=MAX_TEXT, **given)


def _html(value: str, name: str) -> gr.HTML:
    return gr.HTML(value, elem_id=name, apply_default_css=False)


def _about(name: str) -> str:
    text: str = FIELDS[name].metadata["meaning"]
    return text[0].upper() + text[1:]


def _order_of(values: Any) -> Order:
    if not isinstance(values, dict):
        raise UserError('give a JSON object: {"picture": NAME, "mask": NAME, "prompt": "an apple"}')
    names = [values.get(name) for name in ("picture", "mask")]
    if not all(isinstance(name, str) for name in names):
        raise UserError("picture and mask: give the names that POST /pictures and /masks returned")
    rest = {key: value for key, value in values.items() if key not in ("picture", "mask")}
    return Order(str(names[0]), str(names[1]), settings_of(rest))


@contextmanager
def _sentences() -> Iterator[None]:
    """What the caller did wrong as Gradio's error with a sentence."""
    try:
        yield
    except UserError as error:
        raise gr.Error(_sentence(error), print_exception=False) from error
    except Cancelled as error:
        raise gr.Error("Cancelled.", print_exception=False) from error


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}" if text else "Failed."


def _told(event: Event) -> dict[str, Any]:
    """An event as JSON."""
    if isinstance(event, Waiting):
        return {"waiting": event.before}
    if isinstance(event, Progress):
        return {"step": event.step, "total": event.total}
    pictures = [
        {"url": f"/pictures/{one.name}", "ablation": one.ablation, "seed": one.seed}
        for one in event.pictures
    ]
    return {"pictures": pictures, "seconds": round(event.seconds, 3)}


def _said(text: str, wrong: bool = False) -> str:
    kind = " profi-wrong" if wrong else ""
    return f'<div class="profi-status{kind}" role="status">{escape(text)}</div>'


def _progress(event: Event | Waiting, previews: str) -> str:
    if isinstance(event, Waiting):
        others = "One other is" if event.before == 1 else f"{event.before} others are"
        return _said(f"{others} before you in the queue.")
    assert isinstance(event, Progress)
    text = f"{event.label}: step {event.step} of {event.total}"
    return (
        f'<div class="profi-status"><label>{escape(text)}<progress value="{event.step}" '
        f'max="{event.total}"></progress></label>{previews}</div>'
    )


def _previews(event: Progress) -> str:
    figures = (
        f'<figure><img src="{_data_url(data, "webp")}" alt="Preview of {escape(label)}">'
        f"<figcaption>{escape(label)}</figcaption></figure>"
        for label, data in event.previews
    )
    return f'<div class="profi-previews">{"".join(figures)}</div>'


def _data_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _finished(result: Result) -> str:
    asked = len(result.order.settings.ablations) * result.order.settings.variants
    made = len(result.pictures)
    text = f"{made} picture{'s' if made > 1 else ''} in {result.seconds:.1f} s."
    return text if made == asked else f"Cancelled; finished before: {text}"


def _results(result: Result) -> str:
    """The wipe between before and after, all pictures to choose from, and the download."""
    first = result.pictures[0]
    cells = "".join(
        f'<label class="pr-cell"><img src="/pictures/{one.name}" alt="">'
        f'<input type="radio" name="pr-picture" value="{one.name}" '
        f'data-label="{escape(one.label)}" data-file="profi-{one.ablation}-seed{one.seed}.png"'
        f"{' checked' if one is first else ''}> {escape(one.label)}</label>"
        for one in result.pictures
    )
    columns = max(2, min(4, result.order.settings.variants))
    if result.order.settings.variants == 1:
        columns = max(2, min(4, len(result.pictures)))
    return (
        '<h2>Results</h2><profi-results><div class="pr"><div>'
        f'<div class="pr-wipe"><img src="/pictures/{escape(result.order.picture)}" alt="Before">'
        f'<img class="pr-after" src="/pictures/{first.name}" alt="After: {escape(first.label)}">'
        '<span class="pr-line"></span></div><label class="pr-range">'
        "Wipe between before (left) and after (right)"
        '<input type="range" min="0" max="100" value="50"></label></div><div>'
        f'<fieldset class="pr-grid" style="--columns: {columns}">'
        f"<legend>{escape(result.order.settings.prompt)}</legend>{cells}</fieldset>"
        f'<a href="/pictures/{first.name}" download="profi-{first.ablation}-seed{first.seed}.png">'
        f"Download {escape(first.label)}</a></div></div></profi-results>"
    )


def _maps(maps: list[AttentionMap]) -> str:
    figures = (
        f'<figure><img src="{_data_url(one.png, "png")}" alt="{escape(one.title)}">'
        f"<figcaption><strong>{escape(one.title)}</strong><br>{escape(one.note)}</figcaption>"
        "</figure>"
        for one in maps
    )
    return f'<div class="profi-maps">{"".join(figures)}</div>'


def _history(session: Session) -> str:
    number = sum(len(result.pictures) for result in session.results)
    return (
        f'<a class="profi-link" href="/history/{session.name}.zip" download>'
        f"Download the history of this session ({number} picture{'s' if number > 1 else ''}, "
        "zip)</a>"
    )
