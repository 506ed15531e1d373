"""The painter's page, in Gradio: its controls, and the events and HTTP calls behind them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr
import torch

from profi.painting import Cancelled
from profi.types import UserError
from profi.ui.painter import markup
from profi.ui.painter.controls import (
    CONTROLS,
    CROP_MARGIN,
    ROWS,
    about,
    control,
    settings_from,
    values_of,
)
from profi.ui.painter.history import Sessions, add
from profi.ui.painter.orders import Event, Order, Progress, Result, Waiting
from profi.ui.painter.settings import MAX_TEXT, settings_of
from profi.ui.painter.studio import Studio

log = logging.getLogger(__name__)

INTRODUCTION = """# ProFI-Painter
Paint a mask over a picture, say what should be there, and compare the methods on the same seed."""


#: More orders at a time than the studio takes, so that it refuses them with a sentence; beyond
#: these, Gradio lets callers wait without one.
REFUSED = 8


@dataclass(frozen=True)
class Page:
    """The page of a studio; `sessions` are the people who have it open."""

    studio: Studio
    sessions: Sessions
    file_bytes: int

    def blocks(self) -> gr.Blocks:
        """The Gradio app."""
        at_once = self.studio.most_waiting + REFUSED
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
                    status = _html(markup.said("Ready."), "status")
                    ablations = self._control("ablations")
                    with gr.Row():
                        few = [self._control(name) for name in ("seed", "variants", "steps")]
            with gr.Accordion("More settings", open=False):
                rest: dict[str, Any] = {}
                for names in ROWS:
                    with gr.Row():
                        rest |= {name: self._control(name) for name in names}
                with gr.Row():
                    cropped = gr.Checkbox(
                        False,
                        label="Crop to the mask",
                        info=about("crop"),
                        min_width=240,
                        elem_id="crop",
                    )
                    margin = gr.Number(
                        CROP_MARGIN, label="Pixels around the mask", precision=0, min_width=240
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
                concurrency_limit=at_once,
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
                [maps, stop],
                js="(...values) => window.profiChosen(...values)",
                show_progress="hidden",
                concurrency_limit=at_once,
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
            gr.api(self.paint, api_name="paint", concurrency_limit=at_once)
            gr.api(
                self.attention,
                api_name="attention",
                concurrency_limit=at_once,
            )
        blocks.queue(max_size=4 * self.studio.most_waiting, default_concurrency_limit=4)
        return blocks

    # The HTTP interface ------------------------------------------------------------------------

    def paint(self, order: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Paint: {"picture": NAME, "mask": NAME, "prompt": ...} and the page's other settings.

        Sends {"waiting": orders before this one} (0: it runs) or {"step", "total"}, and at last
        {"pictures"}.
        """
        with _sentences():
            for event in self.studio.paint(_order_of(order), threading.Event()):
                yield _json_of(event)

    def attention(self, order: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The attention maps of an order with one method and one variant: {"maps": [...]}."""
        with _sentences():
            checked = _order_of(order)
            name, seed = checked.settings.ablations[0], checked.settings.seed
            for event in self.studio.attention(checked, name, seed, threading.Event()):
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
        session.cancel()
        idle = gr.update(interactive=True), gr.update(interactive=False)
        busy = gr.update(interactive=False), gr.update(interactive=True)
        keep = gr.skip(), gr.skip()
        previews = ""
        try:
            if problem:
                raise UserError(problem[:300])
            order = Order(picture, mask, settings_from(values))
            yield markup.said("Starting …"), *keep, *busy
            started = False
            with session.order() as cancel:
                for event in self.studio.paint(order, cancel):
                    if isinstance(event, Result):
                        add(session, event)
                        shown = markup.results(event), markup.history_link(session)
                        yield markup.said(markup.finished(event)), *shown, *idle
                        continue
                    if isinstance(event, Progress) and event.previews:
                        previews = markup.previews(event)
                    silent = started and isinstance(event, Waiting)
                    started = started or isinstance(event, Progress)
                    status = gr.skip() if silent else markup.progress(event, previews)
                    yield status, *keep, *busy
        except Cancelled:
            yield markup.said("Cancelled. Nothing was kept."), *keep, *idle
        except Exception as error:  # noqa: BLE001 (a person gets a sentence, the log the rest)
            yield markup.said(_reason(error), wrong=True), *keep, *idle

    def _cancel(self, request: gr.Request) -> str:
        self.sessions.of(request.session_hash).cancel()
        return markup.said("Cancelling …")

    def _look(self, chosen: str, request: gr.Request) -> Iterator[tuple[Any, Any]]:
        idle, busy = gr.update(interactive=False), gr.update(interactive=True)
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
            text = markup.said(f"Painting {one.label} once more, with a record …")
            yield text, busy
            with session.order() as cancel:
                for event in self.studio.attention(order, one.ablation, one.seed, cancel):
                    if not isinstance(event, Waiting):
                        yield markup.attention(event), idle
                    else:
                        yield markup.progress(event, "") if event.before else text, busy
        except Cancelled:
            yield markup.said("Cancelled."), idle
        except Exception as error:  # noqa: BLE001 (a person gets a sentence, the log the rest)
            yield markup.said(_reason(error), wrong=True), idle

    def _restore(self, event: gr.EventData) -> list[Any]:
        """The controls after a picture was opened: a picture painted here brings its settings."""
        nothing = [gr.skip()] * (len(CONTROLS) + 2)
        data = event._data if isinstance(event._data, dict) else {}
        prompt = data.get("prompt")
        if isinstance(prompt, str):
            return [prompt[:MAX_TEXT], *nothing[1:], markup.said("Ready.")]
        try:
            image = self.studio.store.image(data.get("picture"), "the picture")
            settings, _ = self.studio.restored(image)
        except UserError as error:
            return [*nothing, markup.said(_sentence(error), wrong=True)]
        if settings is None:
            return [*nothing, markup.said("Ready.")]
        return [*values_of(settings), markup.said("All settings of this picture are back.")]

    def _unload(self, request: gr.Request) -> None:
        self.sessions.close(request.session_hash)

    def _control(self, name: str) -> Any:
        return control(name, self.studio.models, offers_highres=bool(self.studio.upscalers))


def _html(value: str, name: str) -> gr.HTML:
    return gr.HTML(value, elem_id=name, apply_default_css=False)


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
    """Any failure as Gradio's error with a sentence."""
    try:
        yield
    except Cancelled as error:
        raise gr.Error("Cancelled.", print_exception=False) from error
    except Exception as error:
        raise gr.Error(_reason(error), print_exception=False) from error


def _reason(error: Exception) -> str:
    """A sentence for the caller; what is not the caller's mistake goes to the server's log."""
    if isinstance(error, UserError):
        return _sentence(error)
    log.error("a painting failed", exc_info=error)
    if isinstance(error, torch.OutOfMemoryError):
        return "The device's memory is too small for this: choose fewer variants."
    return "Something failed on the server; its log says what."


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _json_of(event: Event) -> dict[str, Any]:
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
