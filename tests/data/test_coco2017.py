from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from coco_fixture import INSTANCES, jpegs, publish
from file_server import FileServer

from profi.data.coco2017 import SOURCE, Coco2017, default_cache, read_sample
from profi.types import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_everything_is_fetched_once_and_nothing_else_stays(
    server: FileServer, tmp_path: Path
) -> None:
    data = Coco2017(tmp_path, publish(server))
    for _ in range(2):
        assert data.fetched_images() == data.images == tmp_path / "coco2017" / "val2017"
        assert data.fetched_annotations().read_bytes() == INSTANCES.read_bytes()
        assert len(read_sample(data.fetched_sample(), data.source.sample)) == 5
    assert {path.name: path.read_bytes() for path in data.images.iterdir()} == jpegs()
    assert names(data.folder) == [
        "instances_val2017.json",
        "mscoco_testset_10000.csv",
        "val2017",
    ]
    assert len(server.requests) == 3


def test_train2017_comes_with_both_its_annotations_from_one_archive(
    server: FileServer, tmp_path: Path
) -> None:
    data = Coco2017(tmp_path, publish(server), "train2017")
    assert data.fetched_annotations().read_bytes() == INSTANCES.read_bytes()
    assert data.fetched_annotations(kind="captions").name == "captions_train2017.json"
    assert len(server.requests) == 1
    assert data.fetched_images() == tmp_path / "coco2017" / "train2017"
    assert {path.name: path.read_bytes() for path in data.images.iterdir()} == jpegs()
    assert names(data.folder) == [
        "captions_train2017.json",
        "instances_train2017.json",
        "train2017",
    ]
    server.files.clear()
    gone = Coco2017(tmp_path / "other", data.source, "train2017")
    with pytest.raises(UserError, match=r"404.*set image_captions to its captions_train2017\.json"):
        gone.fetched_annotations(kind="captions")
    with pytest.raises(UserError, match=r"404.*set root to its folder train2017"):
        gone.fetched_images()


def test_an_archive_that_somebody_put_there_will_do_if_it_is_the_right_one(
    server: FileServer, tmp_path: Path
) -> None:
    data = Coco2017(tmp_path, publish(server))
    archive = server.files["/zips/val2017.zip"]
    data.folder.mkdir()
    (data.folder / "val2017.zip").write_bytes(archive)
    data.fetched_images()
    assert server.requests == []
    other = Coco2017(tmp_path / "other", data.source)
    other.folder.mkdir(parents=True)
    (other.folder / "val2017.zip").write_bytes(archive[:-1])
    other.fetched_images()
    assert names(other.images) == names(data.images)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("images", ["val2017.zip", "404", "data.root"]),
        ("annotations", ["annotations_trainval2017.zip", "404", "data.annotations"]),
        ("sample", ["mscoco_testset_10000.csv", "404", "data.sample_path", "data.sample=seeded"]),
    ],
)
def test_what_cannot_be_had_names_the_setting_for_a_copy(
    server: FileServer, tmp_path: Path, what: str, named: list[str]
) -> None:
    data = Coco2017(tmp_path, publish(server))
    server.files.clear()
    with pytest.raises(UserError) as caught:
        getattr(data, f"fetched_{what}")()
    for word in named:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(data.folder) == []


def test_a_cache_that_cannot_be_written_names_its_setting(
    server: FileServer, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    data = Coco2017(tmp_path / "file", publish(server))
    with pytest.raises(UserError, match=r"file.*data\.cache=.*data\.root=") as caught:
        data.fetched_images()
    assert "\n" not in str(caught.value)


JOB = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from coco_fixture import publish
from file_server import FileServer
from profi.data.coco2017 import Coco2017
data = Coco2017(Path(sys.argv[1]), publish(FileServer(url=sys.argv[2])))
print(len(list(data.fetched_images().iterdir())), data.fetched_annotations().stat().st_size)
"""


def test_jobs_that_start_together_fetch_and_unpack_once(server: FileServer, tmp_path: Path) -> None:
    publish(server)
    command = [sys.executable, "-c", JOB, str(tmp_path), server.url]
    jobs = [
        subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = {process.communicate(timeout=60)[0].strip() for process in jobs}
    assert said == {f"4 {INSTANCES.stat().st_size}"}
    assert sorted(path for path, _ in server.requests) == [
        "/annotations/annotations_trainval2017.zip",
        "/zips/val2017.zip",
    ]
    assert names(tmp_path / "coco2017") == ["instances_val2017.json", "val2017"]


def test_a_list_that_is_not_the_published_one_is_refused(
    server: FileServer, tmp_path: Path
) -> None:
    source = publish(server)
    path = tmp_path / "mine.csv"
    path.write_text("image_idx,segment_idx\n0,0\n")
    with pytest.raises(UserError, match=r"mine\.csv is not the published list.*sample_path"):
        read_sample(path, source.sample)
    with pytest.raises(UserError, match=r"none\.csv cannot be read.*sample_path"):
        read_sample(tmp_path / "none.csv", source.sample)


@pytest.mark.parametrize("text", ["image_idx\n0\n", "image_idx,segment_idx\n0\n", "a,b\n1,2\n"])
def test_a_list_of_other_columns_is_refused(server: FileServer, tmp_path: Path, text: str) -> None:
    source = publish(server)
    path = tmp_path / "list.csv"
    path.write_text(text)
    digest = source.sample.digest_of(path)
    with pytest.raises(UserError, match="segment_idx"):
        read_sample(path, replace(source.sample, hexdigest=digest))


def test_the_source_is_the_documented_one() -> None:
    assert SOURCE.n_images == 5000
    remotes = (SOURCE.images, SOURCE.annotations, SOURCE.sample)
    assert [remote.name for remote in remotes] == [
        "val2017.zip",
        "annotations_trainval2017.zip",
        "mscoco_testset_10000.csv",
    ]
    assert [len(remote.hexdigest) for remote in remotes] == [32, 32, 64]


def test_the_cache_is_the_user_s_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "profi"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "profi"
