"""The painter as a person uses it, in a Chromium."""

from __future__ import annotations

import base64
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import DESKTOP, PHONE, Server
from hostile_files import encoded, hostile_files, picture
from painter_pages import (
    SIZE,
    downloaded,
    drag,
    example,
    fill,
    finished,
    mask_of,
    methods,
    opened_photo,
    said,
    upload,
    value,
    visit,
)
from PIL import Image

pytest.importorskip("gradio", reason='needs the extra "ui"')
pytestmark = pytest.mark.ui

MODES = [("light", DESKTOP), ("dark", DESKTOP), ("light", PHONE), ("dark", PHONE)]


@pytest.fixture(scope="module")
def server(
    serve: Callable[..., Any], chromium: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("painter")
    with serve(folder, "ui") as started:
        yield started
    # Nothing that was sent, painted or downloaded went over a file of the server.
    left = [str(path) for path in (folder / "tmp").rglob("*") if path.is_file()]
    assert left == []
    assert "Traceback" not in started.log.read_text()


@pytest.fixture(scope="session")
def shoot() -> Callable[[Any, str], None]:
    """`shoot(page, "name")`: a screenshot into the folder PROFI_SCREENSHOTS, if that is set."""
    folder = os.environ.get("PROFI_SCREENSHOTS")

    def take(page: Any, name: str) -> None:
        if folder:
            page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    return take


def test_a_mask_is_painted_by_mouse(page: Any, server: Server, shoot: Any) -> None:
    opened_photo(page, server)
    assert mask_of(page).shape == SIZE[::-1]
    assert not mask_of(page).any()
    drag(page, (0.3, 0.5), (0.7, 0.5))
    stroke = mask_of(page)
    width = int(page.input_value("#pc-size"))
    assert stroke[75, 65:135].all()
    assert abs(stroke[:, 100].sum() - width) <= 2
    assert not stroke[:40].any()

    page.click("[data-tool=eraser]")
    drag(page, (0.5, 0.3), (0.5, 0.7))
    erased = mask_of(page)
    assert not erased[75, 100]
    assert erased[75, 70]
    page.click("[data-action=undo]")
    assert (mask_of(page) == stroke).all()
    page.click("[data-action=redo]")
    assert (mask_of(page) == erased).all()

    page.click("[data-action=invert]")
    assert (mask_of(page) == ~erased).mean() > 0.999
    page.click("[data-action=clear]")
    page.click("[data-tool=rectangle]")
    drag(page, (0.2, 0.2), (0.6, 0.8))
    box = np.zeros(SIZE[::-1], bool)
    box[30:120, 40:120] = True
    assert (mask_of(page) ^ box).sum() <= 2 * (80 + 90)
    for _ in range(6):
        page.click("[data-action=undo]", force=True)
    assert not mask_of(page).any()


def test_zoomed_in_the_brush_meets_the_pointer(page: Any, server: Server) -> None:
    opened_photo(page, server)
    for _ in range(3):
        page.click("[data-action=larger]")
    page.evaluate("document.querySelector('.pc-stage').scrollTo(200, 150)")
    box = page.locator("profi-canvas canvas").bounding_box()
    stage = page.locator(".pc-stage").bounding_box()
    assert box["width"] > stage["width"]
    x, y = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
    page.mouse.click(x, y)
    rows, columns = mask_of(page).nonzero()
    assert abs(columns.mean() - (x - box["x"]) / box["width"] * SIZE[0]) < 1.5
    assert abs(rows.mean() - (y - box["y"]) / box["height"] * SIZE[1]) < 1.5


def test_a_picture_can_be_pasted(page: Any, server: Server) -> None:
    visit(page, server)
    page.evaluate(
        """base64 => {
            const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
            const pasted = new DataTransfer();
            pasted.items.add(new File([bytes], "", { type: "image/png" }));
            document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: pasted }));
        }""",
        base64.b64encode(encoded(picture(*SIZE), "PNG")).decode(),
    )
    page.wait_for_function("document.querySelector('.pc-status').textContent.includes('200 × 150')")


def test_a_mask_from_a_file_is_exact_and_must_fit(page: Any, server: Server) -> None:
    opened_photo(page, server)
    given = np.random.default_rng(1).random(SIZE[::-1]) > 0.5
    file = {"name": "m.png", "mimeType": "image/png"}
    page.set_input_files("#pc-mask", {**file, "buffer": encoded(Image.fromarray(given), "PNG")})
    page.wait_for_function(
        "document.querySelector('.pc-status').textContent === 'The mask is there.'"
    )
    assert (mask_of(page) == given).all()
    page.set_input_files("#pc-mask", {**file, "buffer": encoded(Image.new("L", (20, 20)), "PNG")})
    page.wait_for_selector(".pc-status.wrong")
    assert "both need the same size" in page.inner_text(".pc-status")
    assert (mask_of(page) == given).all()


def test_a_person_paints_compares_downloads_and_restores(
    page: Any, person: Callable[..., Any], server: Server, shoot: Any
) -> None:
    visit(page, server)
    prompt = example(page, 1)
    drag(page, (0.1, 0.8), (0.2, 0.8))
    mask = mask_of(page)
    page.click("text=More settings")
    methods(page, "base", "RASG & PAIntA")
    fill(page, seed=5, variants=2, steps=12, guidance_scale=6, negative="blurry")
    page.click("#paint")
    page.wait_for_selector("#status progress")
    page.wait_for_selector(".profi-previews img")
    finished(page)
    said(page, "4 pictures in")

    # The slider wipes, by keyboard too; another picture can be chosen.
    slider = page.locator("profi-results input[type=range]")
    start = int(slider.input_value())
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    wipe = "document.querySelector('profi-results').style.getPropertyValue('--wipe')"
    assert page.evaluate(wipe) == f"{start + 10}%"
    cells = page.locator("profi-results .pr-cell")
    assert [cells.nth(i).inner_text().strip() for i in range(4)] == [
        f"{method}, seed {seed}" for method in ("base", "RASG & PAIntA") for seed in (5, 6)
    ]
    cells.nth(3).click()
    page.wait_for_function("document.querySelector('.pr-after').complete")
    assert page.evaluate("document.querySelector('.pr-after').naturalWidth") == 128
    data = downloaded(page)
    image = Image.open(BytesIO(data))
    facts = json.loads(image.info["profi"])
    assert (facts["ablation"], facts["seed"], facts["prompt"]) == ("profi", 6, prompt)
    assert (facts["steps"], facts["guidance_scale"], facts["negative"]) == (12, 6.0, "blurry")

    # The history has all four, and the input.
    with page.expect_download() as waiting:
        page.click("#history a")
    with zipfile.ZipFile(waiting.value.path()) as archive:
        listed = archive.namelist()
        kept = np.asarray(Image.open(BytesIO(archive.read("001-mask.png"))))
        before = np.asarray(Image.open(BytesIO(archive.read("001-input.png"))).convert("RGB"))
        assert archive.read("001-profi-seed6.png") == data
    assert len(listed) == 7
    assert (kept == mask).all()
    assert (np.asarray(image)[~mask] == before[~mask]).all()
    assert (np.asarray(image)[mask] != before[mask]).any()

    # Dropped on another person's page, the file brings everything back, and paints the same.
    with person() as other:
        visit(other, server)
        other.evaluate(
            """base64 => {
                const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
                const dropped = new DataTransfer();
                dropped.items.add(new File([bytes], "painted.png", { type: "image/png" }));
                document.querySelector("profi-canvas").dispatchEvent(
                    new DragEvent("drop", { dataTransfer: dropped, bubbles: true }));
            }""",
            base64.b64encode(data).decode(),
        )
        said(other, "All settings of this picture are back.")
        assert "its mask and settings are back" in other.inner_text(".pc-status")
        assert value(other, "prompt") == prompt
        expected = {"seed": "5", "variants": "2", "steps": "12"}
        assert {name: value(other, name) for name in expected} == expected
        checked = other.locator("#ablations label:has(input:checked)").all_inner_texts()
        assert [text.strip() for text in checked] == ["base", "RASG & PAIntA"]
        other.click("text=More settings")
        assert value(other, "guidance_scale") == "6"
        assert value(other, "negative") == "blurry"
        assert (mask_of(other) == mask).all()
        other.click("#paint")
        finished(other)
        other.locator("profi-results .pr-cell").nth(3).click()
        again = Image.open(BytesIO(downloaded(other)))
        assert (np.asarray(again) == np.asarray(image)).all()


def test_the_result_has_the_pictures_own_size(page: Any, server: Server) -> None:
    opened_photo(page, server)
    drag(page, (0.4, 0.4), (0.6, 0.6))
    mask = mask_of(page)
    fill(page, prompt="apple", steps=4)
    page.click("#paint")
    finished(page)
    image = Image.open(BytesIO(downloaded(page)))
    assert image.size == SIZE
    assert (np.asarray(image)[~mask] == np.asarray(picture(*SIZE))[~mask]).all()


def test_cancelled_it_stops_and_can_paint_again(page: Any, server: Server) -> None:
    visit(page, server)
    example(page, 0)
    fill(page, steps=250, variants=4)
    page.click("#paint")
    page.wait_for_selector("#status progress")
    page.click("#cancel")
    said(page, "Cancelled. Nothing was kept.")
    assert page.locator("profi-results").count() == 0
    fill(page, steps=3, variants=1)
    page.click("#paint")
    finished(page)


def test_the_second_person_is_told_the_place_in_the_queue(
    person: Callable[..., Any], server: Server
) -> None:
    with person() as first, person() as second:
        for one in (first, second):
            visit(one, server)
            example(one, 0)
        fill(first, steps=250, variants=4)
        first.click("#paint")
        first.wait_for_selector("#status progress")
        fill(second, steps=3)
        second.click("#paint")
        said(second, "One other is before you in the queue.")
        # The first one closes the page: the painting stops, and it is the second one's turn.
        first.close()
        finished(second)


def test_all_of_it_by_keyboard(page: Any, server: Server) -> None:
    visit(page, server)
    page.locator(".pc-examples button").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.pc-status').textContent.includes('128 × 128')")
    page.focus("[data-action=clear]")
    page.keyboard.press("Space")
    page.locator("profi-canvas canvas").focus()
    for key in ["Space", *["ArrowRight"] * 6, *["ArrowDown"] * 3, "Space"]:
        page.keyboard.press(key)
    drawn = mask_of(page)
    assert drawn[64, 66]
    for key in ["r", "Space", *["ArrowLeft"] * 3, *["ArrowUp"] * 3, "Space", "z", "z", "y"]:
        page.keyboard.press(key)
    assert (mask_of(page) == drawn).all()
    fill(page, steps=3)
    page.locator("#prompt textarea, #prompt input").focus()
    page.keyboard.press("Enter")
    finished(page)


def test_the_attention_of_the_chosen_picture(page: Any, server: Server, shoot: Any) -> None:
    visit(page, server)
    example(page, 4)
    methods(page, "base", "only PAIntA", "only RASG", "RASG & PAIntA")
    fill(page, steps=30)
    page.click("#paint")
    finished(page)
    page.locator("profi-results .pr-cell").nth(3).click()
    page.click("text=Where the method looked")
    page.click("#look")
    page.wait_for_selector(".profi-maps img")
    titles = page.locator(".profi-maps strong").all_inner_texts()
    assert len(titles) == 6
    assert sum("PAIntA's c" in title for title in titles) == 2
    shoot(page, "painter")


@pytest.mark.parametrize(("scheme", "viewport"), MODES)
def test_axe_has_no_serious_finding_and_nothing_sticks_out(
    person: Callable[..., Any],
    server: Server,
    axe: Callable[[Any], list[str]],
    shoot: Any,
    scheme: str,
    viewport: dict[str, int],
) -> None:
    with person(viewport=viewport, color_scheme=scheme) as page:
        visit(page, server)
        assert axe(page) == []
        if viewport is DESKTOP:
            # Picture, mask tools, prompt and both buttons are seen without scrolling.
            for selector in ("[data-tool=brush]", ".pc-stage", "#prompt", "#paint", "#cancel"):
                box = page.locator(selector).first.bounding_box()
                assert box["y"] + box["height"] <= viewport["height"], selector
        example(page, 3)
        fill(page, steps=250, variants=8)
        page.click("#paint")
        page.wait_for_selector("#status progress")
        assert axe(page) == []
        page.click("#cancel")
        said(page, "Cancelled")
        fill(page, steps=3, variants=1, prompt="")
        page.click("#paint")
        said(page, "The prompt is empty")
        assert axe(page) == []
        fill(page, prompt="pizza")
        page.click("#paint")
        finished(page)
        for text in ("More settings", "Where the method looked", "Keyboard"):
            page.click(f"text={text}")
        page.click("#look")
        page.wait_for_selector(".profi-maps img")
        assert axe(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        # No setting is squeezed to a column of letters.
        for name in ("model", "blended", "highres", "crop", "feather"):
            assert page.locator(f"#{name}").bounding_box()["width"] > 180, name
        shoot(page, f"painter-{scheme}-{viewport['width']}")


def test_bad_uploads_are_refused_with_a_sentence_and_the_page_goes_on(
    page: Any, server: Server
) -> None:
    opened_photo(page, server)
    drag(page, (0.4, 0.4), (0.6, 0.6))
    mask = mask_of(page)
    names = ["../../../etc/passwd", "C:\\x\\y.png", "a\n.png", "<img src=x onerror=alert(1)>.png"]
    for i, (what, data) in enumerate(hostile_files().items()):
        page.evaluate("document.querySelector('.pc-status').textContent = ''")
        upload(page, data, names[i % len(names)])
        page.wait_for_selector(".pc-status.wrong:not(:empty)")
        page.wait_for_function(
            "!document.querySelector('.pc-status').textContent.startsWith('Opening')"
        )
        text = page.inner_text(".pc-status")
        assert text.endswith("."), what
        assert not any(name in text for name in names)
    upload(page, bytes(33 << 20))
    page.wait_for_function("document.querySelector('.pc-status').textContent.includes('too large')")
    # What was there is still there.
    assert (mask_of(page) == mask).all()
    fill(page, prompt="apple", steps=3)
    page.click("#paint")
    finished(page)


def test_the_prompt_is_shown_as_text(page: Any, server: Server) -> None:
    visit(page, server)
    example(page, 0)
    # Too long for the model: the sentence repeats it.
    text = "<img src=x onerror='window.broken = 1'> ${window.broken = 2} {{7*7}}"
    fill(page, prompt=text, steps=2)
    methods(page, "base")
    page.click("#paint")
    said(page, "shorten it")
    assert "${window.broken = 2} {{7*7}}" in page.inner_text("#status")
    assert page.locator("#status img").count() == 0
    text = "<b>x</b> ${broken=1}"
    fill(page, prompt=text)
    page.click("#paint")
    finished(page)
    assert page.inner_text("profi-results legend") == text
    assert page.evaluate("window.broken") is None


def test_a_settings_text_in_a_picture_cannot_break_the_page(page: Any, server: Server) -> None:
    from PIL.PngImagePlugin import PngInfo

    visit(page, server)
    info = PngInfo()
    info.add_itxt("profi", '{"prompt": "<b>x</b>", "model": "<script>alert(1)</script>"}')
    upload(page, encoded(picture(*SIZE), "PNG", pnginfo=info))
    said(page, "is not served here")
    assert page.locator("#status script, #status b").count() == 0


def test_a_shared_page_asks_for_the_password(
    serve: Callable[..., Any], person: Callable[..., Any], tmp_path: Path
) -> None:
    arguments = ("ui", "--host", "0.0.0.0", "--share")
    with serve(tmp_path, *arguments, PROFI_UI_PASSWORD="a good password") as server:
        secret = {"username": "profi", "password": "a good password"}
        with person(http_credentials=secret) as page:
            visit(page, server)
            example(page, 0)
            fill(page, steps=2)
            page.click("#paint")
            finished(page)
