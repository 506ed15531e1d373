"""Against the real `wandb` in offline mode: what it wrote is read back from the disk."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from profi.reports.gallery import GalleryItem
from profi.reports.thumbnails import png_bytes
from profi.reports.wandb_log import PICTURES, WandbLog, WandbSettings

pytest.importorskip("wandb")
from wandb_files import sessions

CONFIG = {"ablation": "profi", "seed": 3, "settings": {"sampling": {"num_inference_steps": 50}}}
ROW = "RASG & PAIntA"


@pytest.fixture(autouse=True)
def _at_home(wandb_home):
    """W&B's own files go to a folder of the tests."""


def opened(folder, **changes) -> WandbLog:
    settings = WandbSettings("profi-test", None, "offline", folder)
    values = {"run_id": "0123456789abcdef", "name": "profi seed 3", "group": "table2"}
    return WandbLog(settings, **{**values, **changes}, config=CONFIG)


def picture(value: int) -> bytes:
    return png_bytes(np.full((8, 8, 3), value, dtype=np.uint8))


def test_what_is_logged_is_on_the_disk(tmp_path):
    log = opened(tmp_path)
    for images in (4, 8, 10):
        log.progress("paint", {"images": images, "images_per_second": 2.0})
    log.progress("score", {"images": 10})
    good = GalleryItem("a-1", "dog", picture(10), {ROW: picture(20)}, {ROW: {"accuracy": 100.0}})
    failed = GalleryItem("a-2", "cat", b"", {}, {ROW: {}})
    log.results({"clip_score": 26.25, "accuracy": 68.0, "aesthetic": math.nan}, [good, failed])
    log.finish(True)
    (session,) = sessions(tmp_path)
    assert (session.run_id, session.name) == ("0123456789abcdef", "profi seed 3")
    assert (session.group, session.project) == ("table2", "profi-test")
    for name, value in CONFIG.items():
        assert session.config[name] == value
    assert session.over("paint/images") == [4, 8, 10]
    assert session.metrics == {"paint/*": "paint/images", "score/*": "score/images"}
    assert (session.summary["clip_score"], session.summary["accuracy"]) == (26.25, 68.0)
    assert "aesthetic" not in session.summary
    assert session.exit_code == 0
    (table,) = session.over(PICTURES)
    assert (table["_type"], table["nrows"]) == ("table-file", 2)
    table = json.loads(session.files[f"{PICTURES}.table.json"].read_text())
    assert table["columns"] == ["triplet", "prompt", "input", "painted", "accuracy"]
    first, second = table["data"]
    assert (first[:2], first[4]) == (["a-1", "dog"], 100.0)
    for cell, value in zip(first[2:4], (10, 20), strict=True):
        pixels = np.asarray(Image.open(session.files[cell["path"]]))
        assert set(pixels[..., :3].ravel()) == {value}
    assert second == ["a-2", "cat", None, None, None]
    # Nothing of it lies outside of the given folder.
    assert all(path.is_relative_to(tmp_path) for path in session.files.values())


def test_a_run_opened_again_goes_on_under_its_id(tmp_path):
    first = opened(tmp_path)
    first.progress("paint", {"images": 4})
    first.finish(False)
    again = opened(tmp_path)
    again.progress("paint", {"images": 8})
    again.results({"clip_score": 26.0}, [])
    again.finish(True)
    broken_off, ended = sessions(tmp_path)
    assert broken_off.run_id == ended.run_id == "0123456789abcdef"
    assert (broken_off.exit_code, ended.exit_code) == (1, 0)
    assert [s.over("paint/images") for s in (broken_off, ended)] == [[4], [8]]


def test_two_runs_of_one_process_do_not_mix(tmp_path):
    one, two = opened(tmp_path), opened(tmp_path, run_id="fedcba9876543210")
    one.progress("paint", {"images": 1})
    two.progress("paint", {"images": 2})
    one.finish(True)
    two.finish(True)
    images = {session.run_id: session.over("paint/images") for session in sessions(tmp_path)}
    assert images == {"0123456789abcdef": [1], "fedcba9876543210": [2]}
