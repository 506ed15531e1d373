"""The pages by keyboard and mouse, enlarged, and for everyone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from study_clicks import (
    PHONE,
    answer_page,
    choose,
    enter,
    look,
    methods_shown,
    stored,
)

from profi.ui.study.folder import StudyFolder, read_study
from profi.ui.study.study_report import write_report

pytestmark = pytest.mark.ui


def test_the_keyboard_alone_is_enough(
    folder: StudyFolder, url: str, person: Callable[..., Any]
) -> None:
    with person() as page:
        page.goto(url)
        page.keyboard.press("Tab")
        page.keyboard.type(read_study(folder).codes[0])
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        page.keyboard.press("Enter")
        page.wait_for_url("**/step/1")
        methods = methods_shown(page)
        for key in ("a", "d", "Shift+B", "Shift+X", "Shift+C"):
            page.keyboard.press(key)
        page.keyboard.press("ArrowRight")
        page.wait_for_url("**/step/2")
        assert stored(folder, 1) == {
            (1, "prompt"): {methods[0], methods[3]},
            (1, "quality"): {methods[2]},
        }
        page.keyboard.press("ArrowLeft")
        page.wait_for_url("**/step/1")
        # With the mouse's places and no letters: Tab, Space and Enter.
        page.get_by_text("Keys", exact=True).click()
        page.get_by_label("Use these keys").uncheck()
        page.keyboard.press("b")
        page.locator("input[name=prompt][value='1']").focus()
        page.keyboard.press("Space")
        page.locator("#saved", has_text="Saved").wait_for()
        assert stored(folder, 1)[1, "prompt"] == {methods[0], methods[1], methods[3]}
        page.reload()
        assert not page.locator("#shortcuts").is_checked()


def test_pictures_can_be_enlarged_and_flipped(
    folder: StudyFolder, url: str, person: Callable[..., Any]
) -> None:
    with person() as page:
        enter(page, url, read_study(folder).codes[0])
        small = page.locator(".results img").first.bounding_box()["width"]
        page.locator(".results .zoom").first.click()
        dialog = page.get_by_role("dialog")
        picture = dialog.locator("img")
        assert dialog.locator("#shown").inner_text() == "Result A"
        fitted = picture.bounding_box()
        assert fitted["width"] > 2 * small
        assert fitted["y"] + fitted["height"] <= 720
        look(page, "enlarged")
        sources = [picture.get_attribute("src")]
        flips = {"Result B": "ArrowRight", "Result A": "ArrowLeft", "Input": "ArrowLeft"}
        for name, key in flips.items():
            page.keyboard.press(key)
            assert dialog.locator("#shown").inner_text() == name
            sources.append(picture.get_attribute("src"))
        assert sources[0] == sources[2]
        assert len(set(sources)) == 3
        page.keyboard.press("+")
        assert picture.bounding_box()["width"] == pytest.approx(2 * fitted["width"], abs=2)
        page.keyboard.press("-")
        dialog.get_by_role("button", name="Larger").click()
        assert picture.bounding_box()["width"] == pytest.approx(2 * fitted["width"], abs=2)
        page.keyboard.press("Escape")
        assert not dialog.is_visible()
        # Nothing was chosen by these keys.
        assert page.locator("form input:checked").count() == 0


@pytest.mark.parametrize("viewport", [None, PHONE], ids=["desktop", "phone"])
def test_pages_are_accessible_and_fit(
    folder: StudyFolder,
    url: str,
    person: Callable[..., Any],
    axe: Callable[[Any], list[str]],
    viewport: dict[str, int] | None,
) -> None:
    options = {} if viewport is None else {"viewport": viewport}
    kind = "desktop" if viewport is None else "phone"
    with person(**options) as page:

        def check(name: str) -> None:
            page.wait_for_load_state("networkidle")
            look(page, f"{kind}-{name}", full_page=True)
            assert axe(page) == []
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= page.viewport_size["width"]

        page.goto(url)
        check("start")
        page.get_by_label("Your code").fill("aaaa-aaaa")
        page.get_by_label("I have read this and agree").check()
        page.get_by_role("button", name="Start").click()
        check("refused")
        enter(page, url, read_study(folder).codes[0])
        check("page")
        page.locator("#next").click()
        check("problem")
        choose(page, "prompt", ["0", "2"])
        choose(page, "quality", ["none"])
        page.get_by_text("Keys", exact=True).click()
        check("chosen")
        page.locator(".given .zoom").click()
        check("enlarged")
        page.keyboard.press("Escape")
        page.locator("#next").click()
        page.wait_for_url("**/step/2")
        while "/done" not in page.url:
            answer_page(page, 1)
        check("done")
        page.goto(f"{url}/nothing")
        check("nothing")
        write_report(folder.root, folder.root / "report", 100, 0)
        page.goto((folder.root / "report" / "report.html").as_uri())
        check("report")
