"""From the data's settings to triplets: what is fetched, what is taken, what is refused."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from coco_fixture import INSTANCES, SAMPLE, SAMPLED, write_images
from file_server import FileServer
from own_set import write_folder
from rich.console import Console

from profi.data.coco import CROWD
from profi.data.manifest import manifest_digest
from profi.data.pictures import load_image
from profi.harness.build_data import image_root, load_triplets
from profi.settings import DataConfig
from profi.settings.evaluation import OURS, RELEASED
from profi.types import Triplet, UserError


def numbers(triplets: tuple[Triplet, ...]) -> list[int | None]:
    return [triplet.annotation_id for triplet in triplets]


def test_released_is_the_list_and_is_fetched_once(server: FileServer, val2017: DataConfig) -> None:
    triplets, candidates = load_triplets(val2017)
    assert sorted(numbers(triplets)) == sorted(SAMPLED)
    assert candidates.skipped == {}
    root = image_root(val2017)
    assert root == Path(str(val2017.cache)) / "coco2017" / "val2017"
    assert all(load_image(root, t).shape == (t.height, t.width, 3) for t in triplets)
    again, _ = load_triplets(val2017)
    assert manifest_digest(again) == manifest_digest(triplets)
    assert len(server.requests) == 3


def test_a_part_of_the_list_is_drawn_by_the_seed(val2017: DataConfig) -> None:
    every = numbers(load_triplets(replace(val2017, sample_seed=1))[0])
    two = numbers(load_triplets(replace(val2017, sample_seed=1, limit=2))[0])
    assert two == every[:2]
    assert numbers(load_triplets(replace(val2017, limit=None, sample_seed=1))[0]) == every
    with pytest.raises(UserError, match=r"data\.limit=6"):
        load_triplets(replace(val2017, limit=6))


def test_in_the_list_s_order_a_part_of_it_is_its_beginning(val2017: DataConfig) -> None:
    """And the seed is of no account."""
    for limit in (None, 1, 3, 5):
        for seed in (0, 1):
            data = replace(val2017, limit=limit, sample_seed=seed)
            assert numbers(load_triplets(data, evaluation=RELEASED)[0]) == SAMPLED[:limit]
    with pytest.raises(UserError, match=r"data\.limit=6: the list has only 5 rows"):
        load_triplets(replace(val2017, limit=6), evaluation=RELEASED)


def test_rows_that_are_left_out_do_not_make_the_limit_one_too_many(
    val2017: DataConfig, tmp_path: Path
) -> None:
    content = json.loads(INSTANCES.read_text())
    content["annotations"][2]["iscrowd"] = 1
    (tmp_path / "a.json").write_text(json.dumps(content))
    data = replace(val2017, annotations=str(tmp_path / "a.json"))
    triplets, candidates = load_triplets(data)
    assert set(numbers(triplets)) == set(SAMPLED) - {2001}
    assert candidates.skipped == {CROWD: 1}
    # Of the first four rows one is left out, and no fifth one takes its place.
    listed = replace(OURS, order="list")
    assert numbers(load_triplets(replace(data, limit=4), evaluation=listed)[0]) == SAMPLED[:3]


def test_other_samples_are_drawn_alike_in_both_orders(val2017: DataConfig) -> None:
    seeded = replace(val2017, sample="seeded", sample_seed=1, limit=3)
    listed = load_triplets(seeded, evaluation=replace(OURS, order="list"))[0]
    assert numbers(listed) == [1770, 2002, 3003]
    assert [t.triplet_id for t in listed] == ["139_1", "285_1", "632_2"]
    assert set(numbers(load_triplets(seeded)[0])) == set(numbers(listed))


def test_seeded_takes_count_seed_and_area(val2017: DataConfig) -> None:
    seeded = replace(val2017, sample="seeded", sample_seed=1, limit=3)
    assert numbers(load_triplets(seeded)[0]) == [1770, 2002, 3003]
    assert numbers(load_triplets(replace(seeded, sample_seed=2))[0]) == [1768, 2002, 1770]
    large = replace(seeded, min_area=500.0, limit=2)
    assert numbers(load_triplets(large)[0]) == [1770, 2002]
    with pytest.raises(UserError, match=r"data\.limit=3: there are only 2"):
        load_triplets(replace(large, min_area=800.0, limit=3))


def test_a_local_copy_needs_no_network(
    server: FileServer, val2017: DataConfig, tmp_path: Path
) -> None:
    """Images, annotations (next to them, as MSCOCO has it, or by name) and the list."""
    server.files.clear()
    root = write_images(tmp_path / "coco" / "val2017")
    (tmp_path / "list.csv").write_text(SAMPLE)
    local = replace(val2017, root=str(root), sample_path=str(tmp_path / "list.csv"))
    named = load_triplets(replace(local, annotations=str(INSTANCES)))[0]
    assert set(numbers(named)) == set(SAMPLED)
    (tmp_path / "coco" / "annotations").mkdir()
    copy = tmp_path / "coco" / "annotations" / "instances_val2017.json"
    copy.write_bytes(INSTANCES.read_bytes())
    assert load_triplets(local)[0] == named
    assert server.requests == []
    assert not (tmp_path / "cache").exists()


def test_only_what_is_not_given_is_fetched(
    server: FileServer, val2017: DataConfig, tmp_path: Path
) -> None:
    root = write_images(tmp_path / "pictures")
    load_triplets(replace(val2017, root=str(root)))
    assert {path for path, _ in server.requests} == {
        "/annotations/annotations_trainval2017.zip",
        "/mscoco_testset_10000.csv",
    }


def test_the_list_with_other_annotations_is_refused_before_the_images_are_fetched(
    server: FileServer, val2017: DataConfig
) -> None:
    other = DataConfig().annotations
    with pytest.raises(UserError, match=r"data\.sample=released: .* has 400 images, not 4"):
        load_triplets(replace(val2017, annotations=other))
    assert "/zips/val2017.zip" not in {path for path, _ in server.requests}


def test_a_list_of_one_s_own_is_not_the_released_one(val2017: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("image_idx,segment_idx\n0,0\n")
    with pytest.raises(UserError, match="is not the published list"):
        load_triplets(replace(val2017, sample_path=str(tmp_path / "mine.csv")))


def test_a_folder_that_is_not_there_is_refused_before_anything_is_fetched(
    server: FileServer, val2017: DataConfig, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"data\.root"):
        load_triplets(replace(val2017, root=str(tmp_path / "none")))
    assert server.requests == []


def test_a_missing_image_is_logged_and_stays_in_the_sample(
    val2017: DataConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_images(tmp_path / "pictures")
    (root / "000000000139.jpg").unlink()
    with caplog.at_level(logging.WARNING, "profi"):
        triplets, _ = load_triplets(replace(val2017, root=str(root)))
    assert set(numbers(triplets)) == set(SAMPLED)
    assert "1 images are missing" in caplog.text


def test_a_download_is_logged(
    val2017: DataConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bar on a terminal, lines elsewhere."""
    screen = io.StringIO()
    load_triplets(val2017, Console(file=screen, force_terminal=True, width=120))
    for name in ("val2017.zip", "annotations_trainval2017.zip", "mscoco_testset_10000.csv"):
        assert name in screen.getvalue()
    monkeypatch.setattr("profi.harness.progress.PAUSE", 0.0)
    with caplog.at_level(logging.INFO, "profi"):
        load_triplets(replace(val2017, cache=str(val2017.cache) + "2"), Console(file=screen))
    assert "val2017.zip: 0 of 0 MB" in caplog.text


def test_a_folder_is_a_set_like_others(tmp_path: Path) -> None:
    data = write_folder(tmp_path)
    triplets, _ = load_triplets(data)
    assert sorted(t.file_name for t in triplets) == ["0.png", "1.png", "2.png", "3.png"]
    assert image_root(data) == tmp_path / "images"
    two, _ = load_triplets(replace(data, limit=2))
    assert two == triplets[:2]
    assert load_triplets(replace(data, sample_seed=5))[0] != triplets
    listed = load_triplets(data, evaluation=RELEASED)[0]
    assert [t.file_name for t in listed] == ["0.png", "1.png", "2.png", "3.png"]
    assert set(listed) == set(triplets)
    # Order by the ids' hashes, not by the table's.
    lines = (tmp_path / "prompts.csv").read_text().splitlines()
    (tmp_path / "prompts.csv").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    assert load_triplets(data)[0] == triplets


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    data = write_folder(tmp_path)
    for i in range(3):
        (tmp_path / "images" / f"{i}.png").unlink()
    with pytest.raises(UserError, match=r"3 of the 4 sampled images.*data\.root"):
        load_triplets(data)
    with pytest.raises(UserError, match=r"none.*data\.root"):
        load_triplets(replace(data, root=str(tmp_path / "none")))
