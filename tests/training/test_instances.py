"""MSCOCO's instances as samples."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_coco import CAPTIONS, LABELS, SIDE, many, write
from tiny_model import RECIPE

from profi.training.examples import Draw
from profi.training.instance_list import read_instances
from profi.training.instances import MAX_UNREADABLE, CocoSource, Instances
from profi.types import UserError


def test_a_sample_shows_its_whole_object_and_has_the_drawn_text(instances) -> None:  # type: ignore[no-untyped-def]
    data = Instances(instances, CAPTIONS, SIDE, RECIPE)
    kinds = set()
    for i in range(120):
        image, mask, text, level, _ = data[i]
        draw = Draw.of(RECIPE, i)
        assert image.shape == (3, SIDE, SIDE)
        assert level == draw.level
        # The object is red and nothing else is; bicubic edges blur by a pixel.
        red = (image[0] > 0.6) & (image[1] < 0.1)
        number = 10 if int(mask.sum()) > 930 else 20
        assert abs(int(mask.sum()) - {10: 25 * 41, 20: 31 * 31}[number]) < 80
        assert (red & mask).sum() > 0.8 * mask.sum()
        expected = "bus" if not draw.captioned else CAPTIONS[number]
        if level is None:
            expected = f"the whole of {number // 10}"
        assert text == ("" if draw.silent else expected)
        kinds.add((number, level is None, draw.captioned))
    assert len(kinds) == 8


def test_a_source_s_batches_are_its_samples_whatever_the_workers(instances, model) -> None:  # type: ignore[no-untyped-def]
    data = Instances(instances, CAPTIONS, SIDE, RECIPE)
    expected = [range(0, 3), range(3, 6)]
    here = list(CocoSource(data, model, workers=0).batches(expected))
    there = list(CocoSource(data, model, workers=1).batches(iter(expected)))
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a.latents, b.latents)
        assert torch.equal(a.ids, b.ids)
        assert torch.equal(a.mask, b.mask)
    assert here[0].latents.shape == (3, 4, 16, 16)
    assert here[0].inpainting.tolist() == [Draw.of(RECIPE, i).level is not None for i in range(3)]


def test_an_unreadable_picture_is_replaced_alike_in_every_process_and_told_once(
    tmp_path: Path, model, caplog: pytest.LogCaptureFixture
) -> None:  # type: ignore[no-untyped-def]
    data = Instances(many(tmp_path, bad=2, good=4), {}, SIDE, LABELS)
    expected = [range(3 * k, 3 * k + 3) for k in range(8)]
    here = list(CocoSource(data, model, workers=0).batches(expected))
    message = [record.getMessage() for record in caplog.records]
    assert sorted(Path(line.split()[0]).name for line in message) == ["1.png", "2.png"]
    assert all("\n" not in line and "cannot be read" in line for line in message)
    there = list(CocoSource(data, model, workers=2).batches(expected))
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a.latents, b.latents)
        assert torch.equal(a.ids, b.ids)
    # A resumed run begins in the middle.
    (later,) = CocoSource(data, model, workers=1).batches(expected[-1:])
    assert torch.equal(later.latents, here[-1].latents)
    replaced = 0
    for i in range(24):
        rng = Draw.of(LABELS, i).rng
        drawn = [rng.randrange(6) for _ in range(100)]
        first = next(n for n, k in enumerate(drawn) if k >= 2)
        assert [path.name for path, _ in data[i].unreadable] == [
            f"{k + 1}.png" for k in drawn[:first]
        ]
        replaced += first > 0
    assert replaced > 3


def test_no_other_sample_changes_for_an_unreadable_picture(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = Instances(many(tmp_path / "a", bad=0, good=6), {}, SIDE, LABELS)
    other = Instances(many(tmp_path / "b", bad=2, good=4), {}, SIDE, LABELS)
    for i in range(30):
        if not other[i].unreadable:
            assert torch.equal(whole[i].image, other[i].image)
            assert torch.equal(whole[i].mask, other[i].mask)
            assert whole[i].text == other[i].text


@pytest.mark.parametrize("workers", [0, 2])
def test_many_unreadable_pictures_end_it_in_one_line(tmp_path: Path, model, workers: int) -> None:  # type: ignore[no-untyped-def]
    data = Instances(many(tmp_path, bad=MAX_UNREADABLE + 5, good=40), {}, SIDE, LABELS)
    expected = (range(2 * k, 2 * k + 2) for k in range(1000))
    with pytest.raises(UserError, match=r"^more than 100 pictures cannot be read") as e:
        for _ in CocoSource(data, model, workers).batches(expected):
            pass
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_refusal_in_a_worker_is_its_own_line(tmp_path: Path, instances, model, workers) -> None:  # type: ignore[no-untyped-def]
    data = Instances(instances, CAPTIONS, SIDE, RECIPE)
    (tmp_path / "train2017" / "1.png").unlink()
    with pytest.raises(UserError, match=r"1\.png does not exist") as caught:
        list(CocoSource(data, model, workers).batches([range(20)]))
    assert "\n" not in str(caught.value)
    Image.new("RGB", (96, 65)).save(tmp_path / "train2017" / "1.png")
    with pytest.raises(UserError, match=r"1\.png is not 96x64 pixels as its annotations say") as c:
        list(CocoSource(data, model, workers).batches([range(20)]))
    assert "\n" not in str(c.value)
    # All of few: the same ones over and over.
    for name in ("1.png", "2.png"):
        (tmp_path / "train2017" / name).write_bytes(b"")
    with pytest.raises(UserError, match="more than 100 pictures"):
        list(CocoSource(data, model, workers).batches([range(2)]))


def test_a_picture_is_as_stored_like_its_outline(tmp_path: Path) -> None:
    """An orientation tag turns what a viewer shows, not what the polygons refer to."""
    root, *files = write(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 3  # half a turn
    for i in (1, 2):
        with Image.open(root / f"{i}.png") as image:
            image.save(root / f"{i}.png", exif=exif)
    data = Instances(read_instances(root, *files, min_share=0.01), {}, SIDE, LABELS)
    image, mask, *_ = data[0]
    red = (image[0] > 0.6) & (image[1] < 0.1)
    assert (red & mask).sum() > 0.8 * mask.sum()


def test_missing_captions_and_pictures_are_told_in_one_line(tmp_path: Path, instances) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=r"1 of 2 instances .* captions=0"):
        Instances(instances, {10: "x"}, SIDE, RECIPE)
    Instances(instances, {}, SIDE, replace(RECIPE, captions=0.0))
    with pytest.raises(UserError, match="no instance covers"):
        read_instances(
            tmp_path, tmp_path / "instances.json", tmp_path / "captions.json", min_share=0.9
        )
    with pytest.raises(UserError, match="does not exist"):
        read_instances(tmp_path, tmp_path / "none.json", tmp_path / "captions.json", 0.1)
    document = json.loads((tmp_path / "instances.json").read_text())
    document["images"][0]["file_name"] = "../../secret.png"
    (tmp_path / "instances.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="leads out of"):
        read_instances(
            tmp_path, tmp_path / "instances.json", tmp_path / "captions.json", min_share=0.01
        )
