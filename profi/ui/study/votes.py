"""The answers in SQLite: every click is a row, and the last one of a question counts."""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from profi.types import UserError, digest
from profi.ui.study.folder import QUESTIONS, Showing, Study, StudyFolder, showings

#: Seconds to wait for another process that writes.
_BUSY_S = 30.0
_TABLES = """
CREATE TABLE IF NOT EXISTS study (digest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS participants (participant INTEGER PRIMARY KEY, consented REAL NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (
    token TEXT PRIMARY KEY, participant INTEGER NOT NULL, started REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS showings (
    participant INTEGER NOT NULL, step INTEGER NOT NULL, triplet INTEGER NOT NULL,
    repeat INTEGER NOT NULL, methods TEXT NOT NULL, PRIMARY KEY (participant, step)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS votes (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, participant INTEGER NOT NULL,
    step INTEGER NOT NULL, question TEXT NOT NULL, chosen TEXT NOT NULL,
    page TEXT NOT NULL, number INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS votes_of ON votes (participant, step, question);
"""
_LAST = """
SELECT step, question, chosen FROM votes WHERE id IN (
    SELECT max(id) FROM votes WHERE participant = ? GROUP BY step, question
)
"""


class Vote(NamedTuple):
    """One row of the history.

    `chosen` are methods (places in the study); empty: none of them; None: the answer is withdrawn.
    """

    id: int
    at: float
    participant: int
    step: int
    question: str
    chosen: tuple[int, ...] | None


class Votes:
    """The database of a study, for any number of threads and processes.

    Every answer is committed to the disk (WAL, synchronous) before its method returns.
    """

    def __init__(self, folder: StudyFolder, study: Study) -> None:
        self.study = study
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(
                folder.votes, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_TABLES)
            self._check_study(folder.votes)
        except sqlite3.Error as error:
            raise UserError(f"{folder.votes} cannot be used ({error}): restore a copy") from error

    def _check_study(self, path: Path) -> None:
        # (More codes may be added after the first.)
        own = digest(asdict(replace(self.study, codes=self.study.codes[:1])))
        with self._writing() as db:
            found = db.execute("SELECT digest FROM study").fetchone()
            if found is None:
                db.execute("INSERT INTO study VALUES (?)", (own,))
            elif found[0] != own:
                raise UserError(
                    f"{path} has the answers of another study than study.json: restore that file, "
                    "or move the answers away"
                )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; nothing of it stays if the block raises."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                # A full disk may have ended the transaction already.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    def join(self, code: str) -> str | None:
        """A new session's token for the participant with this code, who has consented.

        None for a code that is not of the study. The first time, the participant's order is
        recorded.
        """
        own = [i for i, known in enumerate(self.study.codes) if secrets.compare_digest(
            known.encode(), code.encode()
        )]  # fmt: skip
        if not own:
            return None
        participant, now, token = own[0], time.time(), secrets.token_urlsafe(32)
        with self._writing() as db:
            new = db.execute(
                "INSERT OR IGNORE INTO participants VALUES (?, ?)", (participant, now)
            ).rowcount
            if new:
                db.executemany(
                    "INSERT INTO showings VALUES (?, ?, ?, ?, ?)",
                    [
                        (participant, step, item.triplet, item.repeat, json.dumps(item.order))
                        for step, item in enumerate(showings(self.study, participant))
                    ],
                )
            db.execute("INSERT INTO sessions VALUES (?, ?, ?)", (_hash(token), participant, now))
        return token

    def participant(self, token: str) -> int | None:
        """The participant of a session; None for a token that was never given."""
        found = self._read("SELECT participant FROM sessions WHERE token = ?", (_hash(token),))
        return int(found[0][0]) if found else None

    def showings(self, participant: int) -> list[Showing]:
        """The recorded pages of a participant, in order; empty before the consent."""
        rows = self._read(
            "SELECT triplet, repeat, methods FROM showings WHERE participant = ? ORDER BY step",
            (participant,),
        )
        return [Showing(row[0], bool(row[1]), tuple(json.loads(row[2]))) for row in rows]

    def answers(self, participant: int) -> dict[tuple[int, str], tuple[int, ...]]:
        """The last answer of a participant to each answered (step, question): methods."""
        rows = self._read(_LAST, (participant,))
        found = {(step, question): _methods(text) for step, question, text in rows}
        return {key: chosen for key, chosen in found.items() if chosen is not None}

    def vote(
        self,
        participant: int,
        step: int,
        question: str,
        places: Sequence[int] | None,
        page: str = "",
        number: int = 0,
    ) -> None:
        """Store an answer: the places of the chosen results on the page.

        They are empty for "none of them", and None if the answer is withdrawn.

        A page numbers its answers. One that is sent twice, or is overtaken by a later answer of the
        same page, changes nothing. Without a page, an answer that is already stored is not stored
        again.

        Raises:
            UserError: there is no such step, question or place.
        """
        shown = self.showings(participant)
        if not 0 <= step < len(shown) or question not in QUESTIONS:
            raise UserError("there is no such question: go back to the page and choose again")
        order = shown[step].order
        known = places or ()
        if len(set(known)) != len(known) or not all(0 <= i < len(order) for i in known):
            raise UserError("there is no such result: go back to the page and choose again")
        chosen = json.dumps(None if places is None else sorted(order[i] for i in places))
        key = (participant, step, question)
        with self._writing() as db:
            if page:
                repeated = db.execute(
                    "SELECT 1 FROM votes WHERE participant = ? AND step = ? AND question = ? "
                    "AND page = ? AND number >= ?",
                    (*key, page, number),
                ).fetchone()
            else:
                last = db.execute(
                    "SELECT chosen FROM votes WHERE participant = ? AND step = ? AND question = ? "
                    "ORDER BY id DESC LIMIT 1",
                    key,
                ).fetchone()
                repeated = last == (chosen,)
            if not repeated:
                db.execute(
                    "INSERT INTO votes (at, participant, step, question, chosen, page, number) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (time.time(), *key, chosen, page, number),
                )

    def history(self) -> list[Vote]:
        """All answers that were ever given, in order."""
        rows = self._read(
            "SELECT id, at, participant, step, question, chosen FROM votes ORDER BY id", ()
        )
        return [Vote._make([*row[:-1], _methods(row[-1])]) for row in rows]

    def participants(self) -> list[int]:
        """The participants who have consented."""
        rows = self._read("SELECT participant FROM participants ORDER BY participant", ())
        return [int(row[0]) for row in rows]

    def _read(self, query: str, values: Sequence[object]) -> list[tuple]:
        with self._lock:
            return self._db.execute(query, values).fetchall()


def _methods(text: str) -> tuple[int, ...] | None:
    chosen = json.loads(text)
    return None if chosen is None else tuple(chosen)


def _hash(token: str) -> str:
    """What the database keeps of a token: whoever reads the file cannot take over a session."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
