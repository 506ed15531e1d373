"""What a person does on the painter's page, in a Chromium."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from browsing import Server
from hostile_files import encoded, picture
from PIL import Image

SIZE = (200, 150)


def visit(page: Any, server: Server) -> None:
    page.goto(server.url)
    page.wait_for_selector(".pc-examples button")


def upload(page: Any, data: bytes, name: str = "photo.png") -> None:
    file = {"name": name, "mimeType": "image/png", "buffer": data}
    page.set_input_files("#pc-open", file)


def opened_photo(page: Any, server: Server) -> None:
    visit(page, server)
    upload(page, encoded(picture(*SIZE), "PNG"))
    page.wait_for_function("document.querySelector('.pc-status').textContent.includes('200 × 150')")


def example(page: Any, number: int) -> str:
    """Pick an example; its prompt, when it has arrived in the prompt's field."""
    button = page.locator(".pc-examples button").nth(number)
    prompt: str = button.get_attribute("title")
    button.click()
    page.wait_for_function(
        "text => document.querySelector('#prompt textarea, #prompt input').value === text",
        arg=prompt,
    )
    return prompt


def value(page: Any, name: str) -> str:
    return str(page.locator(f"#{name} textarea, #{name} input").first.input_value())


def fill(page: Any, **values: object) -> None:
    for name, text in values.items():
        page.locator(f"#{name} textarea, #{name} input").first.fill(str(text))


def methods(page: Any, *names: str) -> None:
    boxes = page.locator("#ablations label")
    for i in range(boxes.count()):
        boxes.nth(i).locator("input").set_checked(boxes.nth(i).inner_text().strip() in names)


def mask_of(page: Any) -> np.ndarray:
    """The mask on the canvas: bool [H, W]."""
    url = page.evaluate("document.querySelector('profi-canvas canvas').toDataURL()")
    image = Image.open(BytesIO(base64.b64decode(url.partition(",")[2])))
    return np.asarray(image.getchannel("A")) > 127


def drag(page: Any, *points: tuple[float, float]) -> None:
    """Move the mouse with its button down along points in shares of the picture."""
    box = page.locator("profi-canvas canvas").bounding_box()
    for i, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=6)
        if i == 0:
            page.mouse.down()
    page.mouse.up()


def finished(page: Any) -> None:
    page.wait_for_selector("profi-results")
    page.wait_for_selector("#paint:not([disabled])")


def said(page: Any, text: str) -> None:
    page.wait_for_function(
        "text => document.querySelector('#status').textContent.includes(text)", arg=text
    )


def downloaded(page: Any) -> bytes:
    with page.expect_download() as waiting:
        page.click("profi-results a[download]")
    return Path(waiting.value.path()).read_bytes()
