"""What the server accepts: bodies of bounded size, of its own pages, in the expected form."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request

from profi.ui.guard import host_of
from profi.ui.study.folder import LETTERS, QUESTIONS, Study

#: Bytes of a request's body; an answer has about a hundred.
MAX_BODY = 8192
NONE = "none"
_PAGE = re.compile(r"[0-9a-f]{32}")
_MAX_NUMBER = 2**31


class Answer(NamedTuple):
    """One click: the places chosen for a question (None: the answer is withdrawn).

    `page` and `number` tell the answers of one loaded page apart, see `Votes.vote`.
    """

    question: str
    places: tuple[int, ...] | None
    page: str
    number: int


async def body_of(request: Request) -> bytes:
    """The body; an HTTP error if it is too large, or sent from another site's page."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        foreign = origin is not None and host_of(origin).netloc != request.headers.get("host")
    if foreign:
        raise HTTPException(403, "This request comes from another site.")
    size = 0
    chunks = []
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise HTTPException(413, "This request is too large.", {"Connection": "close"})
        chunks.append(chunk)
    return b"".join(chunks)


def form_of(body: bytes) -> dict[str, list[str]]:
    """The fields of an HTML form."""
    try:
        return parse_qs(body.decode("ascii"), max_num_fields=100, errors="replace")
    except ValueError as error:
        raise HTTPException(400, "This form cannot be read.") from error


def answer_of(body: bytes) -> Answer:
    """The answer in a JSON body; its places are not compared with the page's yet."""
    try:
        value: Any = json.loads(body)
        question, chosen = value["question"], value["chosen"]
        page, number = value["page"], value["number"]
        places = None if chosen is None else tuple(chosen)
        sound = (
            question in QUESTIONS
            and (places is None or all(type(place) is int for place in places))
            and _PAGE.fullmatch(page) is not None
            and type(number) is int
            and 0 <= number < _MAX_NUMBER
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise HTTPException(400, "This answer cannot be read.")
    return Answer(question, places, page, number)


def places_of(form: dict[str, list[str]], question: str) -> tuple[int, ...] | None:
    """The chosen places in an HTML form; empty for "none of them", None without any choice."""
    words = form.get(question, [])
    if NONE in words or not words:
        return () if words == [NONE] else None
    if not all(re.fullmatch(r"[0-9]{1,2}", word) for word in words):
        raise HTTPException(400, "This answer cannot be read.")
    return tuple(int(word) for word in words)


def page_of(form: dict[str, list[str]]) -> str:
    """The name of the loaded page that the form belongs to."""
    name = form.get("page", [""])[0]
    if _PAGE.fullmatch(name) is None:
        raise HTTPException(400, "This answer cannot be read.")
    return name


def step_of(request: Request, study: Study) -> int:
    """The step in the address, from 0; 404 if the study has no such step."""
    text = request.path_params["step"]
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= study.steps:
        raise HTTPException(404, "There is no such page.")
    return int(text) - 1


def code_of(text: str) -> str:
    """A code as it is stored, however it was typed: `K7MQ X2HP` is `k7mq-x2hp`."""
    letters = re.sub(r"[^a-z0-9]", "", text.lower())[:20]
    return f"{letters[:4]}-{letters[4:]}"


def letter(place: int) -> str:
    """The name of a result on the page: A, B, C, ..."""
    return LETTERS[place]
