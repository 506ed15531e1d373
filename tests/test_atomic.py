from __future__ import annotations

from pathlib import Path

import pytest

from profi.atomic import whole_file, write_text


def break_off(path: Path) -> None:
    with whole_file(path) as file:
        file.write(b"zw")
        raise ZeroDivisionError


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "eins")
    with pytest.raises(ZeroDivisionError):
        break_off(path)
    assert path.read_text() == "eins"
    with whole_file(path) as file:
        file.write(b"zwei")
        file.flush()
        assert path.read_text() == "eins"
    assert path.read_text() == "zwei"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with (
        pytest.raises(OSError, match="No space left on device") as caught,
        Path("/dev/full").open("wb", buffering=0) as full,
        whole_file(path),
    ):
        full.write(b"x")
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []
