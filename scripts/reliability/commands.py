"""The real command line in processes of its own, and what their runs left in the stores."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from profi.harness.score import decode
from profi.store.generations import read_generations
from profi.store.scores import read_scores

REPOSITORY = Path(__file__).parents[2]
#: Rounding depends on the number of threads, and no library may wait for a network unasked.
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": str(REPOSITORY),
}
PICTURES, STEPS, PART = 16, 4, 2
#: Eight parts of two pictures.
#: One process paints and scores, so that what is killed is at work.
SMALL = (
    "workers=1",
    f"data.limit={PICTURES}",
    f"part_size={PART}",
    "model.batch_size=2",
    "model.device=cpu",
    f"sampling.num_inference_steps={STEPS}",
)
# What an undisturbed run prints.
_USUAL = re.compile(r"\d+ of \d+ triplets sampled|(paint|score) .+ seed \d+: |report: |fetching |$")


@dataclass(frozen=True)
class Outcome:
    """A command that ended: its exit status (negative: a signal's) and what it wrote to stderr."""

    code: int
    output: str
    seconds: float
    peak_mb: int = 0

    @property
    def unusual(self) -> list[str]:
        """The lines that an undisturbed run does not print."""
        return [line for line in self.output.splitlines() if not _USUAL.match(line)]

    @property
    def clean(self) -> bool:
        """Whether no traceback was shown."""
        return "Traceback" not in self.output

    def count(self, word: str) -> int:
        """The number before `word` in the last line that sums a stage up: painted, failed, ..."""
        found = re.findall(rf"(\d+) {word}", self.output)
        return int(found[-1]) if found else 0


def start(
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    prepare: Callable[[], None] | None = None,
) -> subprocess.Popen[str]:
    """`python run.py ...`; `prepare` is called in the new process before Python begins."""
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "run.py"), *arguments],
        cwd=REPOSITORY,
        env={**ENVIRONMENT, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
    )


def finished(process: subprocess.Popen[str], began: float) -> Outcome:
    """Wait for it."""
    output = process.communicate(timeout=600)[1]
    return Outcome(process.returncode, output, time.monotonic() - began)


def command(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    prepare: Callable[[], None] | None = None,
) -> Outcome:
    """Run it to its end."""
    began = time.monotonic()
    return finished(start(arguments, environment, prepare), began)


@dataclass(frozen=True)
class Stored:
    """What lies in the stores of one folder `out`: pictures and scores of all its runs."""

    pictures: Mapping[tuple[str, str], bytes]
    scores: Mapping[tuple[str, str, str], str]
    broken: int

    def against(self, reference: Stored) -> str:
        """The comparison in words; `EQUAL` where there is no difference."""
        output = []
        for name, mine, theirs in (
            ("pictures", self.pictures, reference.pictures),
            ("scores", self.scores, reference.scores),
        ):
            missing, more = len(theirs.keys() - mine.keys()), len(mine.keys() - theirs.keys())
            differ = sum(mine[key] != theirs[key] for key in mine.keys() & theirs.keys())
            if missing or more or differ:
                output.append(f"{name}: {missing} missing, {more} more, {differ} differ")
        return "; ".join(output) or EQUAL

    def grey_levels(self, reference: Stored) -> int:
        """The largest difference between the pictures of both, of 255."""
        both = self.pictures.keys() & reference.pictures.keys()
        pairs = ((decode(self.pictures[k]), decode(reference.pictures[k])) for k in both)
        levels = (int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in pairs)
        return max(levels, default=0)


EQUAL = "bit-equal"


def run_folders(out: Path) -> list[Path]:
    """The runs in a folder."""
    return sorted(path.parent for path in out.glob("*/run.json"))


def stored(out: Path, run_id: str | None = None) -> Stored:
    """Everything that can be read, verified; of one run alone where it is named."""
    pictures, scores = {}, {}
    runs = [run for run in run_folders(out) if run_id in (None, run.name)]
    for run in runs:
        for item in read_generations(run / "generations"):
            pictures[run.name, item.triplet_id] = item.image
        for folder in sorted((run / "scores").glob("*/")):
            for line in read_scores([folder]).itertuples(index=False):
                # As text: a NaN equals itself, and every bit of a float shows.
                scores[run.name, folder.name, line.triplet_id] = repr(line.value)
    return Stored(pictures, scores, sum(1 for _ in out.rglob("*.broken")))


def as_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows of equal keys."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
