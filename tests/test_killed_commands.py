"""The killed processes of scripts/faults.py: real commands, whose phases are noted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PROGRAM = """
import sys
from pathlib import Path
from reliability.kills import Child, warm_up

warm_up()
out = Path(sys.argv[1])
small = ["data.limit=2", "part_size=2", "seed=0", "workers=1", "ablation=base"]
words = [*small, "sampling.num_inference_steps=1", "metric.metrics=[clip_score]", f"out={out}"]
child, seen = Child(words, out.with_suffix(".log")), []
while not child.ended():
    if child.phase not in seen:
        seen.append(child.phase)
print(child.wait().code, *seen)
"""


def test_a_forked_command_notes_what_it_is_at(tmp_path: Path) -> None:
    """In a process of its own: what is forked must have one thread."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "out")],
        cwd=REPOSITORY / "scripts",
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    code, *phases = done.stdout.split()
    assert code == "0", (tmp_path / "out.log").read_text()
    assert phases[0] == "loading"
    assert {"painting", "scoring"} <= set(phases)
    assert len(list((tmp_path / "out").glob("*/generations/part-*.parquet"))) == 1
