"""Where a fault is made: what an undisturbed run left, and the line that says what came of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reliability.commands import (
    EQUAL,
    PICTURES,
    REPOSITORY,
    SMALL,
    Outcome,
    Stored,
    command,
    stored,
)
from reliability.kills import forked

TOTAL = 4 * PICTURES  # scores: four metrics


@dataclass(frozen=True)
class Row:
    """A line of the table; `good` is whether it came out as it should."""

    fault: str
    how: str
    exit: str
    seen: str
    lost: str
    after: str
    good: bool


class Lab:
    """A folder, and in it what an undisturbed run leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reference = folder / "reference"
        for stage in ("generate", "score"):
            done = command(f"stage={stage}", f"out={self.reference}", *SMALL)
            if done.code:
                raise SystemExit(f"the undisturbed run failed: {done.output}")
        self.whole: Stored = stored(self.reference)

    def new(self, name: str) -> Path:
        """A path that is free."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder)) / "out"

    def copy(self, name: str) -> Path:
        """What the undisturbed run left, once more."""
        return Path(shutil.copytree(self.reference, self.new(name)))

    def again(self, out: Path, *arguments: str) -> Outcome:
        """Paint and score, as after a fault."""
        return self.forked("stage=all", f"out={out}", *SMALL, *arguments)

    def forked(self, *arguments: str, change: Callable[[], None] | None = None) -> Outcome:
        """A command in a process that is forked from this one."""
        return forked(self.folder / "output", *arguments, change=change)

    def row(
        self, fault: str, how: str, shown: Outcome, lost: str, after: str = "", good: bool = True
    ) -> Row:
        """A line; no fault may show a traceback."""
        seen = "\n".join(shown.unusual).replace(f"{self.folder}/", "")
        seen = seen.replace(f"{REPOSITORY}/", "")
        good = good and shown.clean and (not after or after.startswith(EQUAL))
        return Row(fault, how, str(shown.code), seen, lost, after, good)


def redone(outcome: Outcome) -> str:
    """What a second start had to do."""
    return (
        f"{outcome.count('painted')} of {PICTURES} pictures and "
        f"{outcome.count('scores computed')} of {TOTAL} scores made again"
    )
