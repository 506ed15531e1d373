from __future__ import annotations

import logging
from pathlib import Path

import pytest

from profi.harness.run_log import logged_to

FULL = Path("/dev/full")
log = logging.getLogger("profi.test")


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever other tests of this process made of the logger."""
    logger = logging.getLogger("profi")
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.INFO)


def test_log_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    for text in ("one", "two"):
        log.info("before")
        with logged_to(path):
            log.info(text)
    lines = path.read_text().splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["one", "two"]


@pytest.mark.skipif(not FULL.exists(), reason="Linux")
def test_a_full_disk_is_logged_once_and_nothing_raises(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with logged_to(FULL):
        log.info("one")
        log.info("two")
    warning = "/dev/full: No space left on device; logging to this file stops"
    assert sorted(caplog.messages) == [warning, "one", "two"]
    assert "Traceback" not in capsys.readouterr().err
