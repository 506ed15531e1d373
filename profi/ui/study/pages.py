"""The pages of a study: consent and code, one page per triplet, thanks.

No page, address, header or picture tells which method painted what: a page knows places (A, B, C),
and the database knows which method stood where.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from profi.reports.html import templates_of
from profi.types import UserError, digest
from profi.ui.study.folder import QUESTIONS, Showing, Study, StudyFolder
from profi.ui.study.requests import (
    answer_of,
    body_of,
    code_of,
    form_of,
    letter,
    page_of,
    places_of,
    step_of,
)
from profi.ui.study.votes import Votes

#: Seconds that a browser keeps its session: a participant may go on within 60 days.
_SESSION_S = 60 * 24 * 3600
_STATIC = {"study.css": "text/css", "study.js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Visit:
    """A request of a known participant: their number, recorded pages and last answers."""

    participant: int
    shown: list[Showing]
    answers: dict[tuple[int, str], tuple[int, ...]]

    def missing(self) -> int | None:
        """The first step without both answers; None when all are answered."""
        for step in range(len(self.shown)):
            if any((step, question) not in self.answers for question in QUESTIONS):
                return step
        return None


class Pages:
    """The answers to a browser's requests."""

    def __init__(self, folder: StudyFolder, study: Study, votes: Votes, password: str) -> None:
        self.folder, self.study, self.votes, self.password = folder, study, votes, password
        self.names = study.picture_names()
        # (Of the first code alone: more participants may be added.)
        self.cookie = f"study_{digest(study.codes[0], 8)}"
        self.templates = templates_of("profi.ui.study")

    def routes(self) -> list[Route]:
        """The addresses."""

        def route(path: str, answer: Callable[..., Awaitable[Response]], method: str) -> Route:
            return Route(path, answer, methods=[method])

        return [
            route("/", self.start, "GET"),
            route("/start", self.join, "POST"),
            route("/leave", self.leave, "POST"),
            route("/step/{step}", self.step, "GET"),
            route("/step/{step}", self.answer_form, "POST"),
            route("/vote/{step}", self.vote, "POST"),
            route("/done", self.done, "GET"),
            route("/picture/{name}", self.picture, "GET"),
            route("/static/{name}", self.static, "GET"),
        ]

    async def visit(self, request: Request) -> Visit | None:
        """The participant of a request; None without a valid session."""
        token = request.cookies.get(self.cookie)
        return None if token is None else await run_in_threadpool(self._visit, token)

    def _visit(self, token: str) -> Visit | None:
        participant = self.votes.participant(token)
        if participant is None:
            return None
        answers = self.votes.answers(participant)
        return Visit(participant, self.votes.showings(participant), answers)

    async def start(self, request: Request) -> Response:
        """The consent; whoever has a session goes on where they stopped."""
        visit = await self.visit(request)
        return self._start_page("") if visit is None else self._go_on(visit)

    def _start_page(self, error: str, code: str = "", status: int = 200) -> Response:
        return self._page("start.html", status, error=error, code=code, ask=bool(self.password))

    async def join(self, request: Request) -> Response:
        """Take the consent and the code, and begin or go on."""
        form = form_of(await body_of(request))
        given = {name: form.get(name, [""])[0] for name in ("code", "consent", "password")}
        code = code_of(given["code"])
        if not given["consent"]:
            return self._start_page("Please agree to take part first.", given["code"], 400)
        if not hmac.compare_digest(given["password"].encode(), self.password.encode()):
            return self._start_page("This is not the password.", given["code"], 403)
        token = await run_in_threadpool(self.votes.join, code)
        if token is None:
            return self._start_page(
                "This code is not known: compare it with the one that you were given.",
                given["code"],
                403,
            )
        response = _redirect("/")
        response.set_cookie(
            self.cookie,
            token,
            max_age=_SESSION_S,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return response

    async def leave(self, request: Request) -> Response:
        """Forget the session in this browser."""
        await body_of(request)
        response = _redirect("/")
        response.delete_cookie(self.cookie, httponly=True, samesite="lax")
        return response

    async def step(self, request: Request) -> Response:
        """One triplet: the input, the prompt, the shuffled results, both questions."""
        step = step_of(request, self.study)
        visit = await self.visit(request)
        if visit is None:
            return _redirect("/")
        missing = visit.missing()
        if missing is not None and step > missing:
            return _redirect(f"/step/{missing + 1}")
        return self._step_page(request, step, visit, "")

    def _page_of(self, request: Request, step: int, nonce: str) -> str:
        """The name of one loaded page: it belongs to a session and a step."""
        text = f"{request.cookies[self.cookie]}:{step}:{nonce}"
        return nonce + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]

    def _check_page(self, request: Request, step: int, page: str) -> None:
        """An HTTP error for an answer of a page that another participant was shown."""
        if not hmac.compare_digest(page, self._page_of(request, step, page[:16])):
            raise HTTPException(
                403, "Somebody else has started in this browser: open the first page again."
            )

    def _step_page(
        self, request: Request, step: int, visit: Visit, error: str, status: int = 200
    ) -> Response:
        showing = visit.shown[step]
        triplet = self.study.triplets[showing.triplet]
        answered = sum(
            all((i, question) in visit.answers for question in QUESTIONS)
            for i in range(self.study.steps)
        )
        results = [
            {
                "letter": letter(place),
                "picture": triplet.results[method],
                "chosen": {
                    question: method in visit.answers.get((step, question), ())
                    for question in QUESTIONS
                },
            }
            for place, method in enumerate(showing.order)
        ]
        none_of_them = {
            question: visit.answers.get((step, question)) == () for question in QUESTIONS
        }
        return self._page(
            "step.html",
            status,
            step=step + 1,
            steps=self.study.steps,
            answered=answered,
            prompt=triplet.prompt,
            given=triplet.given,
            results=results,
            none_of_them=none_of_them,
            page=self._page_of(request, step, secrets.token_hex(8)),
            session=hashlib.sha256(request.cookies[self.cookie].encode()).hexdigest()[:8],
            error=error,
        )

    async def answer_form(self, request: Request) -> Response:
        """Without JavaScript: store both answers and go on."""
        step = step_of(request, self.study)
        form = form_of(await body_of(request))
        visit = await self.visit(request)
        if visit is None:
            return _redirect("/")
        self._check_page(request, step, page_of(form))
        for question in QUESTIONS:
            places = places_of(form, question)
            if places is not None:
                await self._store(visit.participant, step, question, places)
        token = request.cookies[self.cookie]
        visit = await run_in_threadpool(self._visit, token) or visit
        if any((step, question) not in visit.answers for question in QUESTIONS):
            text = "Please choose one or several results for both questions, or none of them."
            return self._step_page(request, step, visit, text, 400)
        last = step + 1 == self.study.steps
        return self._go_on(visit) if last else _redirect(f"/step/{step + 2}")

    async def vote(self, request: Request) -> Response:
        """Store one click."""
        step = step_of(request, self.study)
        answer = answer_of(await body_of(request))
        visit = await self.visit(request)
        if visit is None:
            raise HTTPException(403, "Your session has ended: open the first page again.")
        self._check_page(request, step, answer.page)
        await self._store(visit.participant, step, *answer)
        return JSONResponse({"saved": True}, headers=_HEADERS)

    async def _store(self, participant: int, step: int, *answer: Any) -> None:
        try:
            await run_in_threadpool(self.votes.vote, participant, step, *answer)
        except UserError as error:
            raise HTTPException(400, str(error)) from error

    async def done(self, request: Request) -> Response:
        """Thanks, when everything is answered."""
        visit = await self.visit(request)
        if visit is None or visit.missing() is not None:
            return _redirect("/")
        return self._page("done.html", 200, steps=self.study.steps)

    def _go_on(self, visit: Visit) -> Response:
        missing = visit.missing()
        return _redirect("/done" if missing is None else f"/step/{missing + 1}")

    async def picture(self, request: Request) -> Response:
        """A picture, by its random name, for participants alone."""
        name = request.path_params["name"]
        # The name is looked up, and only a known one becomes a path.
        if name not in self.names or await self.visit(request) is None:
            raise HTTPException(404, "There is no such picture.")
        path = self.folder.pictures / name
        try:
            data = await run_in_threadpool(path.read_bytes)
        except FileNotFoundError as error:
            raise HTTPException(404, "There is no such picture.") from error
        # Neither ETag nor date: nothing but the pixels.
        headers = _HEADERS | {"Cache-Control": "private, max-age=86400, immutable"}
        return Response(data, media_type="image/png", headers=headers)

    async def static(self, request: Request) -> Response:
        """The pages' style and script."""
        name = request.path_params["name"]
        if name not in _STATIC:
            raise HTTPException(404, "There is no such file.")
        data = (files("profi.ui.study") / "static" / name).read_bytes()
        headers = _HEADERS | {"Cache-Control": "no-cache"}
        return Response(data, media_type=_STATIC[name], headers=headers)

    async def failed(self, request: Request, error: Exception) -> Response:
        """A page, or JSON for the script, that says what is wrong."""
        status, text, headers = 500, "Something went wrong: please try again.", {}
        if isinstance(error, HTTPException):
            status, text, headers = error.status_code, error.detail, dict(error.headers or {})
        if request.url.path.startswith("/vote/"):
            return JSONResponse({"error": text}, status, _HEADERS | headers)
        response = self._page("error.html", status, text=text)
        response.headers.update(headers)
        return response

    def _page(self, template: str, status: int, **values: Any) -> Response:
        text = self.templates.get_template(template).render(study=self.study_view, **values)
        return Response(text, status, _HEADERS, "text/html")

    @property
    def study_view(self) -> dict[str, Any]:
        """What templates may show of the study: not its methods."""
        return {
            "title": self.study.title,
            "consent": self.study.consent,
            "triplets": len(self.study.triplets),
            "steps": self.study.steps,
        }


def _redirect(address: str) -> Response:
    return RedirectResponse(address, 303, _HEADERS)
