"""`profi ui`: the painter in a browser."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import click

from profi.settings import ModelConfig, check_device, choices_of
from profi.settings.highres import UPSCALERS
from profi.settings.paths import shipped_path
from profi.settings.presets import hub_id, model_source, models
from profi.types import UserError
from profi.ui.guard import USER, check_sharing

PASSWORD = "PROFI_UI_PASSWORD"


@click.command(context_settings={"max_content_width": 100})
@click.option(
    "--model",
    "chosen",
    multiple=True,
    help=f"a model to offer, several times for several: {', '.join(models())}, a folder in the "
    "diffusers layout or a repository of the Hugging Face Hub (owner/name); default: mini and "
    "those whose weights are on this machine",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps")
@click.option(
    "--dtype",
    type=click.Choice(choices_of(ModelConfig, "dtype")),
    default="float32",
    show_default=True,
)
@click.option("--host", default="127.0.0.1", show_default=True, help="the address to listen at")
@click.option("--port", type=click.IntRange(1, 65535), default=7860, show_default=True)
@click.option(
    "--share",
    is_flag=True,
    help="let other machines in, with a --host that they see; the password for the user "
    f"{USER} comes from the environment variable {PASSWORD}",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(64 * 64, 64_000_000),
    default=16_000_000,
    show_default=True,
    help="pixels of a picture, at most",
)
def ui(
    chosen: tuple[str, ...],
    device: str,
    dtype: str,
    host: str,
    port: int,
    share: bool,
    max_pixels: int,
) -> None:
    """The painter in a browser: docs/ui.md."""
    password = os.environ.get(PASSWORD)
    check_sharing(host, share, password)
    check_device("--device", device)
    check_port(host, port)
    for name in chosen:
        model_source(name)
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise UserError(
            "the page needs Gradio: pip install -c constraints.txt -e '.[ui]'"
        ) from error
    from profi.models.devices import silence_libraries
    from profi.ui.painter.app import serve
    from profi.ui.painter.picture_store import Limits, PictureStore
    from profi.ui.painter.studio import Studio

    silence_libraries()
    offered = tuple(dict.fromkeys(chosen)) or ("mini", *filter(_is_here, models()))
    store = PictureStore(Limits(pixels=max_pixels))
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    click.echo(f"{address}  models: {', '.join(offered)}  (Ctrl+C ends it)")
    with suppress(KeyboardInterrupt):
        upscalers = {name: found for name in offered if (found := _upscaler_of(name)) is not None}
        studio = Studio(store, offered, device, dtype, upscalers)
        serve(studio, host, port, password if share else None)


def _upscaler_of(model: str) -> str | None:
    """The upscaler for high resolution, if it is on this machine: mini's own, else x4."""
    name = "mini" if model == "mini" else "x4"
    if shipped_path(UPSCALERS[name]).is_dir() or _cached(UPSCALERS[name]):
        return name
    return None


def check_port(host: str, port: int) -> None:
    """UserError if nothing can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((host, port))
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"cannot listen at {host}, port {port} ({reason}): choose another --port"
            ) from error


def _is_here(name: str) -> bool:
    """Whether a known model of the Hub is in this machine's cache; the network is not used."""
    source = hub_id(model_source(name))
    return source is not None and _cached(source)


def _cached(repository: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    if hub_id(repository) is None:
        return False
    return isinstance(try_to_load_from_cache(repository, "model_index.json"), str)
