"""The painter's server: pictures in and out, the page, and the guard in front of both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from profi.types import UserError
from profi.ui.guard import Guard
from profi.ui.painter.example_scenes import Example, Examples
from profi.ui.painter.history import Sessions, history_zip
from profi.ui.painter.picture_store import FORMATS, PictureStore, decoded, mask_png
from profi.ui.painter.studio import Studio

# Gradio calls nobody, and offers no way to a file: see `CLOSED`.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

#: Gradio's own ways to files, other servers and its records.
CLOSED = (
    "/gradio_api/upload",
    "/gradio_api/file",
    "/gradio_api/stream",
    "/gradio_api/proxy",
    "/gradio_api/deep_link",
    "/gradio_api/component_server",
    "/gradio_api/runs",
    "/gradio_api/reload-file",
    "/gradio_api/vibe",
    "/gradio_api/undo-vibe",
    "/gradio_api/custom_component",
    "/gradio_api/process_recording",
    "/gradio_api/run-history",
    "/monitoring",
    "/file",
    "/upload",
    "/proxy",
)
#: Where something may be sent to: our own addresses, and Gradio's queue.
POSTS = (
    "/pictures",
    "/masks",
    "/examples/",
    "/gradio_api/call/",
    "/gradio_api/queue/",
    "/gradio_api/run/",
    "/gradio_api/cancel",
    "/gradio_api/reset",
)
POLICY = "; ".join(
    (
        "default-src 'self'",
        # Gradio builds functions from the page's own texts.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
#: Of a picture alone, if somebody opens one: it can do nothing.
PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
PRIVATE = {"cache-control": "private, no-store", "content-security-policy": PICTURE_POLICY}
MAX_CONNECTIONS = 64
STATIC = {"painter.js": "text/javascript", "painter.css": "text/css"}


def painter_app(studio: Studio, password: str | None = None) -> Guard:
    """The ASGI app: see docs/ui.md for its HTTP interface."""
    import gradio as gr

    from profi.ui.painter.page import Page

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    sessions, limits = Sessions(), studio.store.limits
    _add_pictures(app, studio)
    _add_examples(app, studio.store)

    @app.get("/history/{name}.zip")
    def history(name: str) -> Response:
        with _mistakes_as(404) as wrong:
            data = history_zip(sessions.named(name), studio.store)
        if wrong:
            return wrong[0]
        named = {"content-disposition": 'attachment; filename="profi-history.zip"'}
        return Response(data, media_type="application/zip", headers={**PRIVATE, **named})

    static = {name: (files(__package__) / "static" / name).read_bytes() for name in STATIC}

    @app.get("/static-painter/{name}")
    def own(name: str) -> Response:
        if name not in static:
            return JSONResponse({"error": "There is no such file."}, 404)
        return Response(static[name], media_type=STATIC[name])

    gr.mount_gradio_app(
        app,
        Page(studio, sessions, limits.file_bytes).blocks(),
        path="",
        theme=_theme(),
        head='<link rel="stylesheet" href="/static-painter/painter.css">'
        '<script type="module" src="/static-painter/painter.js"></script>',
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        max_file_size="1kb",
        show_error=False,
    )
    taken = dict.fromkeys(("/pictures", "/masks"), limits.file_bytes)
    return Guard(app, password, POLICY, limits=taken, closed=CLOSED, posts=POSTS)


def _theme() -> Any:
    """Gradio's default theme with the system's fonts, and colours with the contrast of WCAG AA."""
    import gradio as gr

    plain = gr.themes.Default(
        primary_hue="blue",
        secondary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    return plain.set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_800",
        block_label_text_color="*neutral_800",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_300",
        checkbox_background_color_selected="*primary_700",
    )


def serve(studio: Studio, host: str, port: int, password: str | None) -> None:
    """Serve until interrupted."""
    app = painter_app(studio, password)
    studio.warm_up()
    with closing(studio):
        uvicorn.run(
            app,
            host=host,
            port=port,
            log_level="warning",
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=2,
            server_header=False,
        )


@contextmanager
def _mistakes_as(status: int) -> Iterator[list[JSONResponse]]:
    """A list that gets the answer to a mistake, a sentence, if there was one."""
    wrong: list[JSONResponse] = []
    try:
        yield wrong
    except UserError as error:
        text = " ".join(str(error).split())
        wrong.append(JSONResponse({"error": f"{text[0].upper()}{text[1:]}."}, status))


def _add_pictures(app: FastAPI, studio: Studio) -> None:
    """POST /pictures and /masks keep a file; GET /pictures/NAME returns it."""
    store = studio.store

    def keep(data: bytes) -> Response:
        with _mistakes_as(400) as wrong, store.decoding():
            image = decoded(data, store.limits)
            answer: dict[str, Any] = {"width": image.width, "height": image.height}
            try:
                settings, mask = studio.restored(image)
                if settings is not None and mask is not None:
                    hole = decoded(mask, store.limits, "the mask in this picture")
                    if hole.size == image.size:
                        answer["mask"] = store.put(mask_png(hole), "image/png")
                if settings is not None:
                    answer["note"] = "It was painted here: its mask and settings are back."
            except UserError as error:
                answer["note"] = f"Its settings could not be taken over: {error}."
            answer["picture"] = store.put(data, FORMATS[str(image.format)])
        return wrong[0] if wrong else JSONResponse(answer)

    def keep_mask(data: bytes) -> Response:
        with _mistakes_as(400) as wrong, store.decoding():
            image = decoded(data, store.limits, "the mask")
            name = store.put(mask_png(image), "image/png")
            size = {"width": image.width, "height": image.height}
        return wrong[0] if wrong else JSONResponse({"picture": name, **size})

    @app.post("/pictures")
    async def take_picture(request: Request) -> Response:
        return await run_in_threadpool(keep, await request.body())

    @app.post("/masks")
    async def take_mask(request: Request) -> Response:
        return await run_in_threadpool(keep_mask, await request.body())

    @app.get("/pictures/{name}")
    def give(name: str) -> Response:
        with _mistakes_as(404) as wrong:
            kept = store.get(name)
        return wrong[0] if wrong else Response(kept.data, 200, PRIVATE, kept.media_type)


def _add_examples(app: FastAPI, store: PictureStore) -> None:
    """GET /examples lists them, GET /examples/N shows one, POST /examples/N keeps its files."""
    examples = Examples()

    @app.get("/examples")
    def listed() -> list[dict[str, Any]]:
        return [{"number": i, "prompt": one.prompt} for i, one in enumerate(examples.all)]

    def of_number(text: str) -> Example | None:
        known = {str(i): one for i, one in enumerate(examples.all)}
        return known.get(text)

    @app.get("/examples/{number}")
    def show(number: str) -> Response:
        one = of_number(number)
        if one is None:
            return JSONResponse({"error": "There is no such example."}, 404)
        return Response(one.picture, media_type="image/png")

    @app.post("/examples/{number}")
    def take(number: str) -> Response:
        one = of_number(number)
        if one is None:
            return JSONResponse({"error": "There is no such example."}, 404)
        image = decoded(one.picture, store.limits)
        picture, mask = (store.put(data, "image/png") for data in (one.picture, one.mask))
        size = {"width": image.width, "height": image.height}
        return JSONResponse({"picture": picture, "mask": mask, "prompt": one.prompt, **size})
