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
