"""What every request of a page must pass: a password, the server's own name, a bounded body."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from profi.types import UserError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOCAL = ("127.0.0.1", "localhost", "::1")
USER = "profi"
MIN_PASSWORD = 8
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def host_of(address: str) -> SplitResult:
    """The parts of an address; those of an empty one, if it is none."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def check_sharing(host: str, share: bool, password: str | None) -> None:
    """UserError if others could reach the page without the flag and a password.

    A proxy on this machine brings others even to a local address: with `share` the password is
    needed there, too.
    """
    if not share:
        if host in LOCAL:
            return
        raise UserError(f"--host {host} is seen by other machines: add --share if you want this")
    if password is None or len(password) < MIN_PASSWORD:
        raise UserError(
            f"--share needs a password of at least {MIN_PASSWORD} characters: put it into the "
            "environment variable PROFI_UI_PASSWORD"
        )


@dataclass(frozen=True)
class Guard:
    """ASGI middleware that answers bad requests itself.

    Fields:
        app: gets all other requests.
        password: of the user `profi` (HTTP Basic); None: open, but under the names of this
            machine only, so that no other site's name can lead here (DNS rebinding).
        policy: the header Content-Security-Policy.
        limit: bytes of a request's body; a request must say its length.
        limits: other limits, by the path's beginning.
        closed: beginnings of paths that do not exist (404).
        posts: beginnings of the only paths that take anything but GET and HEAD; the rest is 404.
    """

    app: App
    password: str | None = None
    policy: str = "default-src 'self'"
    limit: int = 1 << 20
    limits: Mapping[str, int] = field(default_factory=dict)
    closed: tuple[str, ...] = ()
    posts: tuple[str, ...] = ("/",)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {key.lower(): value for key, value in scope["headers"]}
        refused = self._refused(scope, headers)
        if refused is not None:
            await _answer(send, *refused)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {key.lower() for key, _ in message.get("headers", [])}
                more = {**HEADERS, "content-security-policy": self.policy}
                message["headers"] = [
                    *message.get("headers", []),
                    *((k.encode(), v.encode()) for k, v in more.items() if k.encode() not in given),
                ]
            await send(message)

        await self.app(scope, receive, with_headers)

    def _refused(self, scope: Scope, headers: Mapping[bytes, bytes]) -> tuple[int, str] | None:
        """(status, sentence) of a request that the app must not see; None for a good one."""
        host = headers.get(b"host", b"").decode("latin-1")
        if self.password is None and host_of(f"//{host}").hostname not in LOCAL:
            return 421, "This server answers only under the name of its own machine."
        if self.password is not None and not self._knows_password(headers.get(b"authorization")):
            return 401, f"Give the user {USER} and the password."
        if any(scope["path"].startswith(beginning) for beginning in self.closed):
            return 404, "There is no such page."
        if scope["method"] in ("GET", "HEAD"):
            return None
        if not any(scope["path"].startswith(beginning) for beginning in self.posts):
            return 404, "There is no such page."
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and host_of(origin).netloc != host:
            return 403, "Another site may not send anything here."
        if b"transfer-encoding" in headers or not headers.get(b"content-length", b"0").isdigit():
            return 411, "The request must say its length."
        limit = next(
            (most for path, most in self.limits.items() if scope["path"].startswith(path)),
            self.limit,
        )
        if int(headers.get(b"content-length", b"0")) > limit:
            return 413, f"This is too large: at most {limit / 2**20:g} MiB are allowed."
        return None

    def _knows_password(self, authorization: bytes | None) -> bool:
        kind, _, encoded = (authorization or b"").partition(b" ")
        if kind.lower() != b"basic" or self.password is None:
            return False
        try:
            given = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            return False
        return secrets.compare_digest(given, f"{USER}:{self.password}".encode())


async def _answer(send: Send, status: int, sentence: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="profi", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{sentence}\n".encode()})
