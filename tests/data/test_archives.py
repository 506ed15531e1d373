from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from coco_fixture import zipped

from profi.data.coco2017 import unpack_file, unpack_folder
from profi.types import UserError

FILES = {"set/": b"", "set/a.jpg": b"a" * 5000, "set/b.jpg": b"b", "other/c.jpg": b"c"}


def archive(path: Path, files: dict[str, bytes]) -> Path:
    path.write_bytes(zipped(files))
    return path


def test_the_files_of_the_folder_and_no_others(tmp_path: Path) -> None:
    source = archive(tmp_path / "x.zip", FILES)
    unpack_folder(source, "set", tmp_path / "here")
    found = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
    assert found == {"a.jpg": b"a" * 5000, "b.jpg": b"b"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "x.zip"]


@pytest.mark.parametrize(
    "name", ["set/../../evil", "set/../evil", "set/deep/evil", "set/..", "set/\\..\\evil"]
)
def test_a_file_that_would_lie_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    source = archive(tmp_path / "x.zip", {"set/a.jpg": b"a", name: b"e"})
    with pytest.raises(UserError, match="is not directly in set"):
        unpack_folder(source, "set", tmp_path / "in" / "here")
    assert [*(tmp_path / "in").iterdir()] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "x.zip"]


@pytest.mark.parametrize("name", ["/set/evil", "../evil", "set"])
def test_files_beside_the_folder_are_left_where_they_are(tmp_path: Path, name: str) -> None:
    source = archive(tmp_path / "x.zip", {"set/a.jpg": b"a", name: b"e"})
    unpack_folder(source, "set", tmp_path / "in" / "here")
    assert [path.name for path in (tmp_path / "in" / "here").iterdir()] == ["a.jpg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "x.zip"]


def test_links_come_as_files(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("set/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as content:
        content.writestr(link, "/etc/passwd")
    unpack_folder(tmp_path / "x.zip", "set", tmp_path / "here")
    assert not (tmp_path / "here" / "link").is_symlink()
    assert (tmp_path / "here" / "link").read_text() == "/etc/passwd"


def test_damage_leaves_nothing(tmp_path: Path) -> None:
    whole = zipped(FILES)
    with zipfile.ZipFile(archive(tmp_path / "whole.zip", FILES)) as content:
        info = content.getinfo("set/a.jpg")
    (tmp_path / "whole.zip").unlink()
    # Within its compressed bytes, which follow a header of 30 bytes and the name.
    at = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
    for name, data in {
        "cut": whole[:-30],
        "text": b"no zip",
        "flip": whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :],
    }.items():
        path = tmp_path / f"{name}.zip"
        path.write_bytes(data)
        with pytest.raises(UserError, match=rf"{name}\.zip is damaged .*download it again"):
            unpack_folder(path, "set", tmp_path / "here")
        path.unlink()
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_another_job_has_made_is_kept(tmp_path: Path) -> None:
    source = archive(tmp_path / "x.zip", FILES)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "theirs").write_text("")
    unpack_folder(source, "set", tmp_path / "here")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["theirs"]


def test_what_a_killed_job_left_is_cleared(tmp_path: Path) -> None:
    source = archive(tmp_path / "x.zip", FILES)
    (tmp_path / ".here.0.tmp").mkdir()
    (tmp_path / ".here.0.tmp" / "half").write_text("")
    unpack_folder(source, "set", tmp_path / "here")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "x.zip"]


def test_one_file_or_none(tmp_path: Path) -> None:
    source = archive(tmp_path / "x.zip", FILES)
    unpack_file(source, "set/a.jpg", tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == b"a" * 5000
    with pytest.raises(UserError, match=r"x\.zip has no file set/z\.jpg"):
        unpack_file(source, "set/z.jpg", tmp_path / "z.jpg")
    with pytest.raises(UserError, match=r"x\.zip has no folder nothing"):
        unpack_folder(source, "nothing", tmp_path / "here")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "x.zip"]
