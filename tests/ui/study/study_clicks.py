"""What participants do in a browser, and what is stored of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from study_runs import METHODS, method_of

from profi.ui.study.answers import read_answers
from profi.ui.study.folder import StudyFolder, read_study
from profi.ui.study.votes import Votes

PHONE = {"width": 390, "height": 844}
LABELS = dict(zip(METHODS, ("base", "only PAIntA", "only RASG", "RASG & PAIntA"), strict=True))
#: Set it to a folder to look at the pages.
PICTURES = os.environ.get("PROFI_STUDY_SCREENSHOTS")


def look(page: Any, name: str, **options: Any) -> None:
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", **options)


def enter(page: Any, url: str, code: str) -> None:
    page.goto(url)
    page.get_by_label("Your code").fill(code)
    page.get_by_label("I have read this and agree").check()
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/step/*")


def methods_shown(page: Any) -> list[str]:
    """The methods at A, B, ..., by what is in the pictures that the page shows."""
    names = page.locator(".results img").evaluate_all("all => all.map(one => one.src)")
    return [method_of(page.request.get(name).body()) for name in names]


def choose(page: Any, question: str, values: list[str]) -> None:
    for value in values:
        page.locator(f"input[name={question}][value='{value}']").check()


def number(page: Any) -> int:
    return int(page.get_by_role("heading", level=1).inner_text().split()[1])


def answer_page(page: Any, salt: int) -> dict[tuple[int, str], set[str]]:
    """Choose something that depends on the page and `salt`, and go on; the chosen methods."""
    step, methods = number(page), methods_shown(page)
    first, second = (step + salt) % 4, (step * salt + 1) % 4
    choose(page, "prompt", [str(place) for place in {first, second}])
    choose(page, "quality", ["none" if (step + salt) % 3 == 0 else str(second)])
    page.locator("#next").click()
    page.wait_for_url(lambda address: not address.endswith(f"/step/{step}"))
    quality = set() if (step + salt) % 3 == 0 else {methods[second]}
    return {(step, "prompt"): {methods[first], methods[second]}, (step, "quality"): quality}


def stored(folder: StudyFolder, participant: int) -> dict[tuple[int, str], set[str]]:
    """The last answers of a participant (from 1), as methods."""
    study = read_study(folder)
    last = read_answers(study, Votes(folder, study)).last
    names = {label: method for method, label in LABELS.items()}
    own = last[last["participant"] == participant]
    return {
        (int(page), str(question)): {names[label] for label in lines[lines["chosen"]]["method"]}
        for (page, question), lines in own.groupby(["page", "question"])
    }
