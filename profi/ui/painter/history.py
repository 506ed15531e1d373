"""What the people at the page have painted, each their own, and all of one's as a zip."""

from __future__ import annotations

import json
import secrets
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO

from profi.types import UserError
from profi.ui.painter.orders import Result
from profi.ui.painter.picture_store import PictureStore

MAX_SESSIONS = 200
MAX_RESULTS = 100


@dataclass
class Session:
    """One open page: the secret name of its history, its results, and its running orders."""

    name: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    results: list[Result] = field(default_factory=list)
    running: set[threading.Event] = field(default_factory=set, repr=False)

    def cancel(self) -> None:
        """End all that runs for this page."""
        for event in tuple(self.running):
            event.set()

    @contextmanager
    def order(self) -> Iterator[threading.Event]:
        """The event that ends what the block runs."""
        event = threading.Event()
        self.running.add(event)
        try:
            yield event
        finally:
            self.running.discard(event)


@dataclass
class Sessions:
    """The open pages by the key that Gradio gives each; the oldest are forgotten beyond a limit."""

    _open: OrderedDict[str, Session] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def of(self, key: str | None) -> Session:
        """The session of a page; a new one at its first use."""
        with self._lock:
            session = self._open.setdefault(str(key), Session())
            self._open.move_to_end(str(key))
            while len(self._open) > MAX_SESSIONS:
                self._open.popitem(last=False)
            return session

    def named(self, name: str) -> Session:
        """The session whose history has this name; UserError if there is none."""
        with self._lock:
            for session in self._open.values():
                if secrets.compare_digest(session.name.encode(), name.encode()):
                    return session
        raise UserError("this history is not kept any more")

    def close(self, key: str | None) -> None:
        """Forget a page, and stop what it paints."""
        with self._lock:
            session = self._open.pop(str(key), None)
        if session is not None:
            session.cancel()


def add(session: Session, result: Result) -> None:
    """Put a result at the end of a history, of which the oldest results are dropped."""
    session.results.append(result)
    del session.results[:-MAX_RESULTS]


def history_zip(session: Session, store: PictureStore) -> bytes:
    """The session's pictures, inputs and masks with `history.json`.

    A file that the store has forgotten is null in `history.json`.
    """
    file = BytesIO()
    record = []
    # One picture may be the input of many results.
    written: dict[str, str] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def stored(name: str, stem: str) -> str | None:
            if name not in written:
                try:
                    kept = store.get(name)
                except UserError:
                    return None
                written[name] = f"{stem}.{kept.media_type.removeprefix('image/')}"
                archive.writestr(written[name], kept.data)
            return written[name]

        for i, result in enumerate(session.results, start=1):
            record.append(
                {
                    "input": stored(result.order.picture, f"{i:03}-input"),
                    "mask": stored(result.order.mask, f"{i:03}-mask"),
                    "seconds": round(result.seconds, 3),
                    "pictures": [
                        {
                            "file": stored(one.name, f"{i:03}-{one.ablation}-seed{one.seed}"),
                            **one.facts,
                        }
                        for one in result.pictures
                    ],
                }
            )
        archive.writestr("history.json", json.dumps(record, indent=1, ensure_ascii=False))
    return file.getvalue()
