"""The guard in front of a page."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from profi.types import UserError
from profi.ui.guard import Guard, check_sharing

HOST = (b"host", b"127.0.0.1:7860")


def ask(guard: Guard, method: str, path: str, *headers: tuple[bytes, bytes]) -> tuple[int, Any]:
    """(status, headers) of the guard's answer; 200 is the app's own."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], dict(sent[0].get("headers", []))


async def app(scope: Any, receive: Any, send: Any) -> None:
    own = [(b"content-security-policy", b"own")] if scope["path"] == "/own" else []
    await send({"type": "http.response.start", "status": 200, "headers": own})
    await send({"type": "http.response.body", "body": b"in"})


def basic(text: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Basic " + base64.b64encode(text.encode())


OPEN = Guard(app, policy="policy", limit=10, limits={"/pictures": 100}, closed=("/file",))
LOCKED = Guard(app, password="a good password", limit=10)


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost", "[::1]:80"])
def test_the_machines_own_names_are_let_in(host: str) -> None:
    assert ask(OPEN, "GET", "/", (b"host", host.encode()))[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "10.0.0.1:7860"])
def test_other_names_are_not(host: str) -> None:
    assert ask(OPEN, "GET", "/", (b"host", host.encode()))[0] == 421


def test_another_site_may_not_send_anything() -> None:
    own, other = b"http://127.0.0.1:7860", b"http://evil.example"
    assert ask(OPEN, "POST", "/", HOST, (b"origin", own))[0] == 200
    assert ask(OPEN, "POST", "/", HOST, (b"origin", other))[0] == 403
    assert ask(OPEN, "POST", "/", HOST, (b"origin", b"null"))[0] == 403


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [("/", "10", 200), ("/", "11", 413), ("/pictures", "100", 200), ("/pictures", "101", 413)],
)
def test_bodies_are_bounded(path: str, length: str, status: int) -> None:
    assert ask(OPEN, "POST", path, HOST, (b"content-length", length.encode()))[0] == status


@pytest.mark.parametrize("header", [(b"transfer-encoding", b"chunked"), (b"content-length", b"-1")])
def test_a_body_of_unknown_length_is_refused(header: tuple[bytes, bytes]) -> None:
    assert ask(OPEN, "POST", "/", HOST, header)[0] == 411


def test_closed_paths_are_not_there() -> None:
    assert ask(OPEN, "GET", "/file=/etc/passwd", HOST)[0] == 404


def test_headers_are_added_and_the_apps_own_are_kept() -> None:
    assert ask(OPEN, "GET", "/", HOST)[1][b"content-security-policy"] == b"policy"
    assert ask(OPEN, "GET", "/own", HOST)[1][b"content-security-policy"] == b"own"
    assert ask(OPEN, "GET", "/", HOST)[1][b"x-content-type-options"] == b"nosniff"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("profi:a good password", 200),
        ("profi:a good passwort", 401),
        ("admin:a good password", 401),
        ("profi:", 401),
        ("", 401),
    ],
)
def test_the_password(given: str, status: int) -> None:
    elsewhere = (b"host", b"painter.example")
    assert ask(LOCKED, "GET", "/", elsewhere, basic(given))[0] == status


@pytest.mark.parametrize("header", [b"", b"Basic", b"Basic !!!", b"Bearer abc", b"Basic \xff\xfe"])
def test_what_is_no_password_is_refused(header: bytes) -> None:
    status, headers = ask(LOCKED, "GET", "/", HOST, (b"authorization", header))
    assert status == 401
    assert headers[b"www-authenticate"].startswith(b"Basic")


def test_sharing_needs_the_flag_and_a_password() -> None:
    check_sharing("127.0.0.1", False, None)
    with pytest.raises(UserError, match="--share"):
        check_sharing("0.0.0.0", False, "a good password")
    with pytest.raises(UserError, match="PROFI_UI_PASSWORD"):
        check_sharing("0.0.0.0", True, None)
    with pytest.raises(UserError, match="at least 8"):
        check_sharing("0.0.0.0", True, "short")
    # A proxy on this machine may let others in.
    with pytest.raises(UserError, match="PROFI_UI_PASSWORD"):
        check_sharing("127.0.0.1", True, None)
    check_sharing("0.0.0.0", True, "a good password")
