"""Processes that are killed with -9 at random moments.

Starting Python and importing PyTorch takes longer than the run. So this process imports what a run
needs and forks; the child carries out `run.py` as if it had been typed, and dies a process's death.
It notes what it is at in a byte of shared memory, which is all that is changed in it.
"""

from __future__ import annotations

import mmap
import os
import random
import runpy
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reliability.commands import ENVIRONMENT, EQUAL, REPOSITORY, SMALL, Outcome, start, stored

PHASES = ("loading", "painting", "scoring", "writing")


class Child:
    """A forked process that carries out `python run.py ...`."""

    def __init__(
        self, arguments: Sequence[str], output: Path, change: Callable[[], None] | None = None
    ) -> None:
        self._phase = mmap.mmap(-1, 1)
        self._output, self._began = output, time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            self._live(arguments, change)

    def _live(self, arguments: Sequence[str], change: Callable[[], None] | None) -> None:
        code = 70
        try:
            with self._output.open("w") as file:
                os.dup2(file.fileno(), 2)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stderr = os.fdopen(2, "w", buffering=1)
            os.chdir(REPOSITORY)
            os.environ.update(ENVIRONMENT)
            self._note_phases()
            if change is not None:
                change()
            sys.argv = ["run.py", *arguments]
            runpy.run_path(str(REPOSITORY / "run.py"), run_name="__main__")
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        except BaseException:  # noqa: BLE001  # printed and raised, as by Python itself
            sys.excepthook(*sys.exc_info())
            code = 1
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _note_phases(self) -> None:
        from profi.harness import work
        from profi.store import parts

        def noting(phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
            def noted(*arguments: Any, **named: Any) -> Any:
                with self._in(phase):
                    return function(*arguments, **named)

            return noted

        inner = parts.whole_file

        @contextmanager
        def writing(path: Path) -> Iterator[Any]:
            with self._in("writing"), inner(path) as file:
                yield file

        work.generate = noting("painting", work.generate)  # type: ignore[assignment]
        work.score = noting("scoring", work.score)  # type: ignore[assignment]
        parts.whole_file = writing  # type: ignore[assignment]

    @contextmanager
    def _in(self, phase: str) -> Iterator[None]:
        before = self._phase[0]
        self._phase[0] = PHASES.index(phase)
        try:
            yield
        finally:
            self._phase[0] = before

    @property
    def phase(self) -> str:
        """What it is at, or was when it died."""
        return PHASES[self._phase[0]]

    def ended(self) -> bool:
        """Whether it has ended by itself; it stays to be waited for."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self) -> None:
        """With -9."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> Outcome:
        """Its end."""
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return Outcome(code, self._output.read_text(), time.monotonic() - self._began)


def warm_up() -> None:
    """Import what the children need; nothing is computed, so that there is one thread to fork."""
    from profi.models.devices import silence_libraries

    silence_libraries()


def forked(output: Path, *arguments: str, change: Callable[[], None] | None = None) -> Outcome:
    """A command in a forked process, to its end."""
    return Child(arguments, output, change).wait()


def parts_of(out: Path) -> dict[Path, bytes]:
    """The parts that lie in a folder."""
    return {path: path.read_bytes() for path in sorted(out.rglob("part-*.parquet"))}


def unfinished(out: Path) -> int:
    """How many files of killed writers lie there, which nobody reads."""
    return sum(1 for _ in out.rglob("*.tmp"))


class Campaign:
    """Kills until there are enough; every run that comes to its end is compared."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._random = folder, random.Random(seed)
        self.rows: list[dict[str, object]] = []
        self.rounds = 0
        #: Whole parts that a kill has cost, and parts that were found damaged.
        self.lost_parts = self.broken = 0
        #: Runs that came out other than undisturbed, and kills that left an unfinished file.
        self.different = self.unfinished = 0

    def carry_out(self, kills: int, reference: Path) -> None:
        """Round after round: paint and score in a new folder, killed and begun again."""
        whole = stored(reference)
        lengths = {stage: self._length(stage) for stage in ("generate", "score")}
        while len(self.rows) < kills:
            out = self._folder / f"round-{self.rounds}"
            for stage in ("generate", "score"):
                while not self._once(out, stage, lengths[stage], len(self.rows) < kills):
                    pass
            there = stored(out)
            self.different += there.against(whole) != EQUAL
            self.broken += there.broken
            self.rounds += 1

    def _length(self, stage: str) -> float:
        """Seconds of an undisturbed run."""
        out = self._folder / "undisturbed"
        return forked(self._folder / "output", f"stage={stage}", f"out={out}", *SMALL).seconds

    def _once(self, out: Path, stage: str, length: float, deadly: bool) -> bool:
        """Start the command, kill it while it should be killed; whether it came to its end."""
        before, begun = parts_of(out), unfinished(out)
        arguments = [f"stage={stage}", f"out={out}", *SMALL]
        # One in ten starts from nothing, as typed; one in four is aimed at the moment of a write.
        kind = self._random.choices(("forked", "typed", "aimed"), (13, 2, 5))[0] if deadly else ""
        delay = self._random.uniform(0, length)
        phase = "typed"
        if kind == "typed":
            began = time.monotonic()
            process = start(arguments)
            time.sleep(delay + self._random.uniform(0, 8))
            process.kill()
            process.communicate()
            code = process.returncode
        else:
            child = Child(arguments, self._folder / "output")
            began = time.monotonic()
            if kind == "aimed":
                self._await_write(child, self._random.randrange(8))
                delay = self._random.uniform(0, 0.004)
            if deadly:
                self._sleep(child, delay)
                child.kill()
            code = child.wait().code
            phase = child.phase
        if code not in (0, -signal.SIGKILL):
            raise SystemExit(f"{stage} ended with {code}: {(self._folder / 'output').read_text()}")
        after = parts_of(out)
        self.lost_parts += sum(after.get(path) != content for path, content in before.items())
        if code:
            row = {"round": self.rounds, "stage": stage, "kind": kind, "phase": phase}
            row |= {"seconds": f"{time.monotonic() - began:.3f}", "parts": len(after)}
            row["unfinished_files"] = unfinished(out) - begun
            self.unfinished += unfinished(out) > begun
            self.rows.append(row)
        return code == 0

    def _await_write(self, child: Child, skipped: int) -> None:
        """The beginning of a write, after `skipped` others."""
        for count in range(skipped + 1):
            while child.phase != "writing" and not child.ended():
                time.sleep(0.0005)
            while count < skipped and child.phase == "writing" and not child.ended():
                time.sleep(0.0005)

    def _sleep(self, child: Child, seconds: float) -> None:
        """At most until it has ended."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not child.ended():
            time.sleep(min(0.01, max(until - time.monotonic(), 0)))
