from __future__ import annotations

import errno
import hashlib
import logging
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from profi.store.generations import (
    pictures_digest,
    read_generations,
    read_generations_part,
    stored_pictures_digest,
    write_generations,
)
from profi.store.parts import append_line, part_indices, part_path, quarantine, read_lines
from profi.store.scores import (
    metric_of,
    newest_scores,
    read_scores,
    read_scores_part,
    scores_folder_name,
    write_scores,
)
from profi.types import Generation, Score, UserError

REPOSITORY = Path(__file__).parents[2]
PARTS, ROWS = 12, 6


def generations(index: int) -> list[Generation]:
    """Rows that depend on the part's number alone."""
    return [
        Generation(
            f"{index}-{i}", i, random.Random(f"{index}-{i}").randbytes(40_000), 0.5, math.nan
        )
        for i in range(ROWS)
    ]


# What a killed run does: the missing parts, in order.
WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/store")
from test_parts import PARTS, generations
from profi.store.generations import read_generations_part, write_generations
folder = Path(sys.argv[1])
for index in range(PARTS):
    if read_generations_part(folder, index) is None:
        write_generations(folder, index, generations(index))
"""

# What a second job of the same shard does: the same part again and again, while others do.
RIVAL = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/store")
from test_parts import generations
from profi.store.generations import read_generations_part, write_generations
for _ in range(60):
    write_generations(Path(sys.argv[1]), 0, generations(0))
    assert len(read_generations_part(Path(sys.argv[1]), 0)) == len(generations(0))
"""


def test_rows_survive_the_disk(tmp_path: Path) -> None:
    write_generations(tmp_path, 3, generations(3))
    assert part_path(tmp_path, 3).name == "part-00003.parquet"
    read = read_generations_part(tmp_path, 3)
    assert read is not None
    assert repr(read) == repr(generations(3))  # by text, since NaN is not NaN
    table = pq.read_table(part_path(tmp_path, 3))
    assert table["image_sha256"].to_pylist() == [
        hashlib.sha256(item.image).hexdigest() for item in generations(3)
    ]


def test_absent_is_none_and_an_empty_folder_has_no_rows(tmp_path: Path) -> None:
    assert read_generations_part(tmp_path / "none", 0) is None
    assert list(read_generations(tmp_path / "none")) == []
    assert read_scores([]).empty


def test_a_killed_writer_leaves_whole_parts_and_a_rerun_completes_them(tmp_path: Path) -> None:
    """kill -9 at random moments of a process that writes parts, then once to the end."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "g")]
    moments = random.Random(0)
    killed = 0
    for _ in range(12):
        process = subprocess.Popen(command, cwd=REPOSITORY)
        before = part_indices(tmp_path / "g")
        # Wait until it writes, so that the kill does not hit the imports only.
        deadline = time.monotonic() + 20
        while process.poll() is None and part_indices(tmp_path / "g") == before:
            assert time.monotonic() < deadline
            time.sleep(0.0005)
        time.sleep(moments.uniform(0, 0.006))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        for index in part_indices(tmp_path / "g"):
            assert repr(read_generations_part(tmp_path / "g", index)) == repr(generations(index))
        if len(part_indices(tmp_path / "g")) == PARTS:
            break
    assert killed >= 1
    assert subprocess.run(command, cwd=REPOSITORY, check=False).returncode == 0
    read = list(read_generations(tmp_path / "g"))
    assert repr(read) == repr([item for index in range(PARTS) for item in generations(index)])
    assert not list((tmp_path / "g").glob("*.broken"))


@pytest.mark.parametrize("damage", ["cut", "empty", "bit", "text", "columns"])
def test_a_broken_part_is_moved_aside_logged_and_redone(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    for index in (0, 1):
        write_generations(tmp_path, index, generations(index))
    path = part_path(tmp_path, 1)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "bit":
        # In the middle of the images: the file still opens, only the checksum knows.
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "text":
        path.write_text("not parquet")
    else:
        pq.write_table(pa.table({"x": [1]}), path)
    caplog.set_level(logging.WARNING, logger="profi")
    logging.getLogger("profi").propagate = True
    assert [item.triplet_id for item in read_generations(tmp_path)] == [
        item.triplet_id for item in generations(0)
    ]
    assert "part-00001.parquet is broken" in caplog.text
    assert part_indices(tmp_path) == [0]
    assert path.with_name("part-00001.parquet.broken").is_file()
    write_generations(tmp_path, 1, generations(1))
    assert len(list(read_generations(tmp_path))) == 2 * ROWS


def test_two_broken_files_of_one_part_are_both_kept(tmp_path: Path) -> None:
    for _ in range(2):
        part_path(tmp_path, 0).write_bytes(b"x")
        assert read_generations_part(tmp_path, 0) is None
    assert len(list(tmp_path.glob("*.broken"))) == 2


def test_what_a_killed_writer_left_is_not_read_and_goes_with_a_later_write(tmp_path: Path) -> None:
    names = [".part-00000.parquet.123-abcd.tmp", ".part-00000.parquet.124-abcd.tmp"]
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    # The second may be a writer's that still lives.
    os.utime(tmp_path / names[0], (time.time() - 2 * 3600,) * 2)
    assert part_indices(tmp_path) == []
    write_generations(tmp_path, 0, generations(0))
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {names[1], "part-00000.parquet"}


def test_writers_of_one_part_do_not_disturb_each_other(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RIVAL, str(tmp_path)]
    rivals = [
        subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    errors = [rival.communicate(timeout=60)[1] for rival in rivals]
    assert [rival.returncode for rival in rivals] == [0, 0, 0], errors
    assert repr(read_generations_part(tmp_path, 0)) == repr(generations(0))
    assert [path.name for path in tmp_path.iterdir()] == ["part-00000.parquet"]


def test_scores_are_of_exactly_the_pictures_they_were_made_from(tmp_path: Path) -> None:
    scores = [Score("a", 0, "clip_score", 20.5), Score("b", 0, "clip_score", math.nan)]
    old, new = pictures_digest(generations(0)), pictures_digest(generations(1))
    write_scores(tmp_path, 0, scores, old)
    assert repr(read_scores_part(tmp_path, 0, old)) == repr(scores)
    assert read_scores_part(tmp_path, 0, new) is None
    slower = [Generation(g.triplet_id, g.seed, g.image, 9.0, 1.0) for g in generations(0)]
    assert pictures_digest(slower) == old


def test_parts_of_several_machines_merge_by_lying_together(tmp_path: Path) -> None:
    for index in (2, 0, 1):
        write_scores(tmp_path, index, [Score(str(index), 0, "m", float(index))], "source")
    frame = read_scores([tmp_path])
    assert frame["value"].tolist() == [0.0, 1.0, 2.0]
    assert list(frame.columns) == ["triplet_id", "seed", "metric", "value"]


def test_the_newest_scores_of_a_metric_are_those_written_last(tmp_path: Path) -> None:
    painted, scores = [Generation("t", 0, b"png", 0.5, math.nan)], tmp_path / "scores"
    write_generations(tmp_path / "generations", 0, painted)
    for age, (name, value) in enumerate({"m-aa": 1.0, "m-bb": 2.0, "m-other-cc": 3.0}.items()):
        write_scores(scores / name, 0, [Score("t", 0, "m", value)], pictures_digest(painted))
        os.utime(scores / name, (age, age))
    assert newest_scores(scores, "m") == {"t": 2.0}
    os.utime(scores / "m-aa", (9, 9))
    assert newest_scores(scores, "m") == {"t": 1.0}
    # A folder without a part, as a kill leaves it, has no scores.
    (scores / "m-cc").mkdir()
    assert newest_scores(scores, "m") == {"t": 1.0}
    with pytest.raises(UserError, match="has no accuracy: run stage=score first"):
        newest_scores(scores, "accuracy")
    # Pictures that were painted again are not scored yet.
    write_generations(tmp_path / "generations", 0, [Generation("t", 0, b"other", 0.5, math.nan)])
    assert newest_scores(scores, "m") == {}


def test_the_digest_of_stored_pictures_is_theirs(tmp_path: Path) -> None:
    write_generations(tmp_path, 0, generations(0))
    assert stored_pictures_digest(tmp_path, 0) == pictures_digest(generations(0))
    assert stored_pictures_digest(tmp_path, 1) is None
    part_path(tmp_path, 0).write_bytes(b"PAR1")
    assert stored_pictures_digest(tmp_path, 0) is None


def test_a_part_that_cannot_be_read_now_is_not_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_generations(tmp_path, 0, generations(0))
    for error in (OSError(errno.EMFILE, "Too many open files"), MemoryError("no room")):

        def refuse(*_: object, error: BaseException = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(pq, "ParquetFile", refuse)
            with pytest.raises(type(error)):
                read_generations_part(tmp_path, 0)
    assert len(read_generations_part(tmp_path, 0) or []) == ROWS


def test_a_metric_of_another_identity_lies_elsewhere() -> None:
    a = scores_folder_name("known_region_psnr", {"cap": 1})
    assert a != scores_folder_name("known_region_psnr", {"cap": 2})
    assert metric_of(a) == "known_region_psnr"


def test_the_journal_keeps_reason_and_traceback_and_survives_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        quarantine(path, "t", "load", error)
    append_line(path, {"triplet_id": "u"})
    first, second = read_lines(path)
    assert first["reason"] == "ValueError: two lines"
    assert "Traceback" in first["traceback"]
    assert second == {"triplet_id": "u"}
    path.write_text(path.read_text() + '{"triplet_id": "cu')
    append_line(path, {"triplet_id": "v"})
    assert [line["triplet_id"] for line in read_lines(path)] == ["t", "u", "v"]


def test_the_stores_do_without_torch() -> None:
    code = "import sys, profi.store.generations, profi.store.scores; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
