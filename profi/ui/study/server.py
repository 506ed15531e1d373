"""The server of a study: which requests it takes, and where it listens."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from profi.types import UserError
from profi.ui.guard import LOCAL
from profi.ui.study.folder import StudyFolder, read_study
from profi.ui.study.pages import Pages
from profi.ui.study.votes import Votes


def application(root: StudyFolder, password: str = "", hosts: tuple[str, ...] = LOCAL) -> Starlette:
    """The application of a study.

    Args:
        root: the study's folder.
        password: asked for in addition to the code; empty: none.
        hosts: the names under which a browser may ask for it; `("*",)`: any.

    Raises:
        UserError: the folder holds no study, or its answers cannot be used.
    """
    study = read_study(root)
    pages = Pages(root, study, Votes(root, study), password)
    allowed = [f"[{host}]" if ":" in host else host for host in hosts]
    return Starlette(
        routes=pages.routes(),
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=allowed, www_redirect=False)],
        exception_handlers={HTTPException: pages.failed, Exception: pages.failed},
    )


def serve(
    root: StudyFolder, host: str, port: int, password: str, ready: Callable[[str], None]
) -> None:
    """Serve a study until interrupted; `ready` is called with the address.

    Raises:
        UserError: see `application`; the address is taken, or open to others without a password.
    """
    local = host in LOCAL
    if not local and not password:
        raise UserError(
            f"--host {host} opens the study to other machines: set --password or "
            "PROFI_STUDY_PASSWORD"
        )
    app = application(root, password, LOCAL if local else ("*",))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(f"{host}:{port} cannot be used ({reason}): choose --port") from error
        name = f"[{host}]" if ":" in host else host
        ready(f"http://{name}:{listener.getsockname()[1]}/")
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, date_header=False
        )
        # After an orderly end, uvicorn raises what Ctrl-C means elsewhere.
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
