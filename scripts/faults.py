"""What goes wrong, what the user sees, and what is lost: faults made on purpose, on real runs.

    python scripts/faults.py [--kills 100] [--seed 0] [--only NAME ...] [--out DIR]

Paints and scores 16 triplets of the embedded world undisturbed, then once for each fault, through
`run.py` in processes of their own, and compares. Writes `faults.csv`, `kills.csv` and `faults.md`
into DIR and ends with 1 if something came out other than it should. Takes a quarter
of an hour (and, for the full disk, the right to mount one).
"""

from __future__ import annotations

import argparse
import math
import platform
import re
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from reliability.commands import (
    EQUAL,
    PART,
    PICTURES,
    SMALL,
    Outcome,
    Stored,
    as_csv,
    command,
    finished,
    run_folders,
    start,
    stored,
)
from reliability.files import (
    copied,
    cut_short,
    enlarge,
    flip,
    flip_value,
    small_disk,
)
from reliability.kills import Campaign, warm_up
from reliability.lab import Lab, Row, redone
from reliability.refusals import hub_is_down, wrong_weights

from profi.data.manifest import read_manifest
from profi.harness.provenance import environment
from profi.store.parts import part_facts, part_path, read_lines


def kills(lab: Lab, count: int, seed: int, folder: Path) -> Iterator[Row]:
    """SIGKILL at random moments of painting and scoring."""
    (lab.folder / "kills").mkdir()
    campaign = Campaign(lab.folder / "kills", seed)
    campaign.carry_out(count, lab.reference)
    (folder / "kills.csv").write_text(as_csv(campaign.rows))
    phases = Counter(str(row["phase"]) for row in campaign.rows)
    output = ", ".join(f"{number} {phase}" for phase, number in phases.most_common())
    output = output.replace("typed", "in a Python started anew")
    fine = campaign.rounds - campaign.different
    yield Row(
        "`kill -9` at random moments",
        f"{count} kills in {campaign.rounds} runs: {output}",
        "-9",
        "",
        f"{campaign.lost_parts} whole parts; {campaign.broken} torn ones were found. What was "
        f"painted and not yet written, at most two parts ({2 * PART} pictures), is painted again. "
        f"{campaign.unfinished} kills left a file that nobody reads",
        f"{EQUAL} in {fine} of {campaign.rounds} runs",
        not (campaign.lost_parts or campaign.broken or campaign.different),
    )


#: File systems of each stage that fill up.
SIZES = 6


def kibibytes(folder: Path) -> int:
    """What the files of a folder take in a file system with pages of 4 KiB."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sum(4 * math.ceil(path.stat().st_size / 4096) for path in files)


def full_disk(lab: Lab) -> Iterator[Row]:
    """File systems of so many KiB, which fill up at one moment or another."""
    (run,) = run_folders(lab.reference)
    whole = kibibytes(lab.reference)
    painted = whole - kibibytes(run / "scores")
    spans = {"generate": (8, painted - 8), "score": (painted + 8, whole - 8)}
    for stage, (least, most) in spans.items():
        sizes = [least + i * (most - least) // (SIZES - 1) for i in range(SIZES)]
        codes, lines, wrong, kept, again = set(), set(), list[str](), 0, 0
        for size in sizes:
            disk = lab.new("disk").parent / "mnt"
            with small_disk(disk, f"{size}k"):
                out = disk / "out"
                if stage == "score":
                    shutil.copytree(lab.reference, out, ignore=shutil.ignore_patterns("scores"))
                shown = lab.forked(f"stage={stage}", f"out={out}", *SMALL)
                enlarge(disk, "64m")
                kept += len(stored(out).pictures)
                done = lab.again(out)
                again += done.count("painted")
                output = stored(out).against(lab.whole)
            codes.add(shown.code)
            lines |= {
                re.sub(r"part-\d+", "part-...", line.replace(str(out), "OUT"))
                for line in shown.unusual
            }
            if output != EQUAL or not shown.clean or not done.clean:
                wrong.append(f"{size} KiB: {output}")
        how = f"{len(sizes)} file systems of {sizes[0]} to {sizes[-1]} KiB, later enlarged"
        lost = f"{again + kept - len(sizes) * PICTURES} of {kept} pictures that were written"
        shown = Outcome(max(codes), "\n".join(sorted(lines)), 0)
        after = "; ".join(wrong) or EQUAL
        yield lab.row(f"disk full, stage={stage}", how, shown, lost, after, max(codes) == 2)


def damaged_parts(lab: Lab) -> Iterator[Row]:
    """Parts that were whole once."""
    for store, name, damage in (
        ("generations", "cut short", cut_short),
        ("generations", "one bit flipped", flip),
        ("scores", "cut short", cut_short),
        ("scores", "one bit flipped", flip_value),
    ):
        out = lab.copy("part")
        (run,) = run_folders(out)
        folder = run / store if store == "generations" else min((run / store).glob("clip_score-*"))
        damage(part_path(folder, 3))
        shown = command("stage=report", f"out={out}", *SMALL)
        done = lab.again(out)
        there = stored(out)
        good = shown.code == 0 and there.broken == 1 and "is broken" in shown.output
        how = "a finished run's part, then stage=report"
        fault = f"a part of {store}, {name}"
        yield lab.row(fault, how, shown, redone(done), there.against(lab.whole), good)


def two_jobs(lab: Lab) -> Iterator[Row]:
    """The same command twice at once."""
    out = lab.new("twice")
    began = time.monotonic()
    jobs = [start(["stage=generate", f"out={out}", *SMALL]) for _ in range(2)]
    done = [finished(job, began) for job in jobs]
    painted = [one.count("painted") for one in done]
    lab.again(out)
    there = stored(out)
    both = Outcome(max(one.code for one in done), "".join(one.output for one in done), 0)
    lost = f"{sum(painted) - PICTURES} pictures painted twice ({painted[0]} and {painted[1]})"
    good = not both.unusual and there.broken == 0
    yield lab.row("two jobs on the same shard", "started together", both, lost,
                  there.against(lab.whole), good)  # fmt: skip


def unreadable_image(lab: Lab) -> Iterator[Row]:
    """One image of the data cut short, later mended."""
    (reference,) = run_folders(lab.reference)
    triplet = read_manifest(reference / "manifest.parquet")[5]
    images, out = copied("data/images", lab.new("images").parent / "images"), lab.new("image")
    victim = images / triplet.file_name
    whole = victim.read_bytes()
    cut_short(victim)
    shown = command("stage=all", f"out={out}", f"data.root={images}", *SMALL)
    (run,) = run_folders(out)
    renamed = {(reference.name, name): image for (_, name), image in stored(out).pictures.items()}
    there = Stored(renamed, {}, 0)
    victim.write_bytes(whole)
    done = lab.again(out, f"data.root={images}")
    lost = (
        f"{PICTURES - len(renamed)} of {PICTURES} pictures; the others differ by at most "
        f"{there.grey_levels(lab.whole)} of 255 grey levels; mended, it is another set of images "
        f"and a run of its own: {redone(done)}"
    )
    good = shown.code == 0 and bool(read_lines(run / "quarantine.jsonl"))
    after = stored(out, reference.name).against(lab.whole)
    yield lab.row("an unreadable image", "cut short", shown, lost, after, good)


def out_of_memory(lab: Lab) -> Iterator[Row]:
    """A batch that really gets no memory: an address space smaller than it needs."""
    settings = ("stage=generate", "data.limit=32", "part_size=32", "model.batch_size=32")
    settings = (*settings, "sampling.num_inference_steps=1", "model.long_side=256")
    settings = (*settings, "model.device=cpu")
    # So that the C library gives freed memory back and does not keep it in pieces.
    heap = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    outs = [lab.new("memory") for _ in range(2)]
    peak = 0
    process = start([*settings, f"out={outs[0]}"], heap)
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = max(
            [peak, *(int(line.split()[1]) for line in status.splitlines() if "VmPeak" in line)]
        )
        time.sleep(0.02)
    finished(process, 0)
    limit = peak * 1024 - (100 << 20)
    shown = command(
        *settings,
        f"out={outs[1]}",
        environment=heap,
        prepare=partial(resource.setrlimit, resource.RLIMIT_AS, (limit, limit)),
    )
    whole, there = stored(outs[0]), stored(outs[1])
    (run,) = run_folders(outs[1])
    facts = part_facts(run / "generations", 0)
    noted = {
        name: len(text.split(" | ")) if len(text) > 40 else text
        for name, text in facts.items()
        if "apart" in name
    }
    missing = len(whole.pictures.keys() - there.pictures.keys())
    lost = (
        f"{missing} of 32 pictures; the largest difference to the undisturbed run is "
        f"{there.grey_levels(whole)} of 255 grey levels; the part notes {noted}"
    )
    how = f"a batch of 32; address space (RLIMIT_AS) 100 MB below the {peak >> 10} MB that it takes"
    good = shown.code == 0 and not missing and "going on with" in shown.output and bool(noted)
    yield lab.row("out of memory", how, shown, lost, "", good)


def metric_raises(lab: Lab) -> Iterator[Row]:
    """An exception out of one metric for one picture."""
    out = lab.copy("metric")
    (run,) = run_folders(out)
    shutil.rmtree(run / "scores")
    prompt = read_manifest(run / "manifest.parquet")[0].prompt
    n_bad = sum(t.prompt == prompt for t in read_manifest(run / "manifest.parquet"))

    def change() -> None:
        from profi.metrics import CLIPScore

        inner = CLIPScore.__call__

        def failing(self: CLIPScore, samples: list) -> list[float]:
            if any(sample.prompt == prompt for sample in samples):
                raise RuntimeError("made to fail")
            return inner(self, samples)

        CLIPScore.__call__ = failing

    arguments = ("stage=score", f"out={out}", *SMALL)
    shown = lab.forked(*arguments, change=change)
    done = lab.again(out)
    how = f"the exception raised at the seam (CLIPScore.__call__), for {n_bad} picture(s)"
    lost = f"{shown.count('NaN')} scores (NaN, shown and counted); {redone(done)}"
    good = shown.code == 0 and shown.count("NaN") == n_bad <= done.count("scores computed")
    yield lab.row("a metric raises", how, shown, lost, stored(out).against(lab.whole), good)


FAULTS: dict[str, Callable[[Lab], Iterator[Row]]] = {
    "disk": full_disk,
    "parts": damaged_parts,
    "jobs": two_jobs,
    "image": unreadable_image,
    "memory": out_of_memory,
    "metric": metric_raises,
    "hub": hub_is_down,
    "weights": wrong_weights,
}


def markdown(rows: list[Row], output: str) -> str:
    """The table."""

    def cell(text: str) -> str:
        lines = [line if len(line) <= 220 else f"{line[:220]}..." for line in text.splitlines()]
        more = [f"({len(lines) - 3} lines more)"] if len(lines) > 4 else []
        shown = lines[:3] if more else lines
        return "<br>".join([*(line.replace("|", "\\|") for line in shown), *more])

    lines = [
        "| fault | made by | exit | what the user sees | what is lost | the same command again |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for row in rows:
        cells = (row.fault, row.how, row.exit, row.seen or "nothing unusual", row.lost, row.after)
        lines.append("| " + " | ".join(cell(text) for text in cells) + " |")
    return f"{output}\n\n" + "\n".join(lines) + "\n"


def main() -> int:
    """The campaign; 0 where everything came out as it should."""
    parser = argparse.ArgumentParser(description="faults made on purpose")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=["kills", *FAULTS], default=["kills", *FAULTS])
    parser.add_argument("--out", type=Path, default=Path("outputs/faults"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    warm_up()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="profi-faults-") as folder:
        lab = Lab(Path(folder))
        chosen = {name: FAULTS[name] for name in options.only if name in FAULTS}
        if "kills" in options.only:
            chosen = {
                "kills": partial(kills, count=options.kills, seed=options.seed, folder=options.out),
                **chosen,
            }
        for make in chosen.values():
            for row in make(lab):
                print(f"{'ok ' if row.good else 'BAD'} {row.fault}: {row.lost}", flush=True)
                rows.append(row)
    made = environment(torch.device("cpu"))
    output = (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {str(made['commit'])[:12]}, Python "
        f"{made['python']}, torch {torch.__version__}, {platform.system()} {platform.release()}, "
        f"seed {options.seed}, {(time.monotonic() - began) / 60:.0f} minutes"
    )
    (options.out / "faults.csv").write_text(as_csv([asdict(row) for row in rows]))
    (options.out / "faults.md").write_text(markdown(rows, output))
    return int(not all(row.good for row in rows))


if __name__ == "__main__":
    sys.exit(main())
