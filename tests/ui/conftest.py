"""A browser (the system's Chromium), its pages, and servers in processes of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import ARGUMENTS, CHROMIUM, axe_findings, opened, serving
from studio_calls import studio_of

from profi.models.backbone import Backbone
from profi.painter import Painter
from profi.ui.painter.studio import Studio


@pytest.fixture(scope="session")
def serve() -> Callable[..., Any]:
    """`with serve(folder, "ui", ...) as server:`, see `serving`."""
    return serving


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium; the test is skipped where there is none."""
    pytest.importorskip("playwright", reason='needs the extra "ui"')
    found = next((path for path in CHROMIUM if Path(path).exists()), None) or shutil.which("chrome")
    if found is None:
        pytest.skip("no Chromium: install your system's (Debian: apt-get install chromium)")
    return found


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    """A headless Chromium (Playwright's `Browser`), one for all tests."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def person(browser: Any) -> Callable[..., Any]:
    """`with person(viewport=..., **options) as page:`, see `opened`."""
    return lambda **options: opened(browser, **options)


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of 1280x720."""
    with opened(browser) as one:
        yield one


@pytest.fixture(scope="session")
def axe() -> Callable[[Any], list[str]]:
    """`axe(page)`: see `axe_findings`."""
    pytest.importorskip("axe_playwright_python", reason='needs the extra "ui"')
    return axe_findings


@pytest.fixture(scope="module")
def studio(backbone: Backbone) -> Iterator[Studio]:
    """A studio whose model is a tiny random one."""
    made = studio_of(Painter(backbone, long_side=48, pad_multiple=16, batch_size=2))
    yield made
    made.close()
