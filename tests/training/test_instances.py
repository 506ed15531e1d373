"""MSCOCO's instances as samples, and BLIP's captions of their crops."""

from __future__ import annotations

import gc
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import RECIPE
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
)

from profi.training.captions import Blip, caption_instances
from profi.training.examples import Draw
from profi.training.instance_list import InstanceList, crop_of, mask_of, read_instances
from profi.training.instances import MAX_UNREADABLE, CocoSource, Instances, read_captions
from profi.types import UserError

SIDE = 64


BOXES = {1: (4, 8, 24, 40), 2: (60, 10, 30, 30), 3: (50, 50, 4, 4)}


def write(
    folder: Path, boxes: dict[int, tuple[int, int, int, int]] = BOXES
) -> tuple[Path, Path, Path]:
    """Three pictures, 96x64, with a red box each: at the left, at the right, and a tiny one."""
    root = folder / "train2017"
    root.mkdir()
    images, annotations, captions = [], [], []
    for i, (x, y, w, h) in boxes.items():
        pixels = np.full((64, 96, 3), 40 * i % 200, np.uint8)
        pixels[y : y + h, x : x + w] = (200, 0, 0)
        Image.fromarray(pixels).save(root / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": 64, "width": 96})
        polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
        annotations.append(
            {"id": 10 * i, "image_id": i, "category_id": 1, "segmentation": [polygon],
             "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
        )  # fmt: skip
        captions.append({"id": i, "image_id": i, "caption": f"the whole of {i} "})
    categories = [{"id": 1, "name": "bus"}]
    a, c = folder / "instances.json", folder / "captions.json"
    a.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    c.write_text(json.dumps({"images": images, "annotations": captions}))
    return root, a, c


@pytest.fixture
def instances(tmp_path: Path):  # type: ignore[no-untyped-def]
    return read_instances(*write(tmp_path), min_share=0.01)


CAPTIONS = {10: "a red left", 20: "a red right"}


def test_instances_are_read_and_small_ones_left_out(instances) -> None:  # type: ignore[no-untyped-def]
    assert [i.number for i in instances] == [10, 20]
    assert instances[0].captions == ["the whole of 1"]
    mask = mask_of(instances[0])
    assert mask.shape == (64, 96)
    assert mask[8:48, 4:28].all()
    assert int(mask.sum()) <= 25 * 41
    crop = crop_of(instances[0], torch.ones(3, 64, 96))
    assert crop.size == (24, 40)


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
    wanted = [range(0, 3), range(3, 6)]
    here = list(CocoSource(data, model, workers=0).batches(wanted))
    there = list(CocoSource(data, model, workers=1).batches(iter(wanted)))
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a.latents, b.latents)
        assert torch.equal(a.ids, b.ids)
        assert torch.equal(a.mask, b.mask)
    assert here[0].latents.shape == (3, 4, 16, 16)
    assert here[0].inpainting.tolist() == [Draw.of(RECIPE, i).level is not None for i in range(3)]


def many(folder: Path, bad: int, good: int) -> InstanceList:
    """The instances of as many pictures, of which the first ones are no pictures at all."""
    root, *files = write(folder, dict.fromkeys(range(1, bad + good + 1), (4, 8, 24, 40)))
    for i in range(1, bad + 1):
        (root / f"{i}.png").write_bytes(b"no picture")
    return read_instances(root, *files, min_share=0.01)


LABELS = replace(RECIPE, captions=0.0)


def test_an_unreadable_picture_is_replaced_alike_in_every_process_and_told_once(
    tmp_path: Path, model, caplog: pytest.LogCaptureFixture
) -> None:  # type: ignore[no-untyped-def]
    data = Instances(many(tmp_path, bad=2, good=4), {}, SIDE, LABELS)
    wanted = [range(3 * k, 3 * k + 3) for k in range(8)]
    here = list(CocoSource(data, model, workers=0).batches(wanted))
    told = [record.getMessage() for record in caplog.records]
    assert sorted(Path(line.split()[0]).name for line in told) == ["1.png", "2.png"]
    assert all("\n" not in line and "cannot be read" in line for line in told)
    there = list(CocoSource(data, model, workers=2).batches(wanted))
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a.latents, b.latents)
        assert torch.equal(a.ids, b.ids)
    # A resumed run begins in the middle.
    (later,) = CocoSource(data, model, workers=1).batches(wanted[-1:])
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
    wanted = (range(2 * k, 2 * k + 2) for k in range(1000))
    with pytest.raises(UserError, match=r"^more than 100 pictures cannot be read") as e:
        for _ in CocoSource(data, model, workers).batches(wanted):
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


def test_a_folder_without_the_pictures_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    root, *files = write(tmp_path)
    (root / "2.png").unlink()
    with pytest.raises(UserError, match=r"2\.png does not exist \(1 of 2 pictures of"):
        read_instances(root, *files, min_share=0.01)
    with pytest.raises(UserError, match=r"does not exist \(2 of 2 pictures of"):
        read_instances(tmp_path / "nowhere", *files, min_share=0.01)


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


def test_the_list_gives_what_the_file_has(tmp_path: Path) -> None:
    """Numbers, boxes and outlines to the last bit; several polygons; pictures that are shared."""
    rng = np.random.default_rng(3)
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    names = ["sub/ä.jpg", "b.jpg"]
    for name in names:
        (root / name).touch()
    outlines = [[(rng.random(2 * n) * 90).tolist() for n in ns] for ns in ([4, 3], [5], [3], [7])]
    boxes = (rng.random((4, 4)) * 30 + 30).tolist()
    document = {
        "images": [
            {"id": 70 + i, "file_name": name, "height": 100 + i, "width": 100}
            for i, name in enumerate(names)
        ],
        "annotations": [
            {"id": 500 - i, "image_id": 71 - i % 2, "category_id": (9, 4)[i // 2],
             "bbox": box, "segmentation": outline}
            for i, (box, outline) in enumerate(zip(boxes, outlines, strict=True))
        ],
        "categories": [{"id": 4, "name": "café"}, {"id": 9, "name": "cat"}],
    }  # fmt: skip
    told = [{"id": i, "image_id": 71, "caption": f" says {i}"} for i in range(3)]
    a, c = tmp_path / "a.json", tmp_path / "c.json"
    a.write_text(json.dumps(document))
    c.write_text(json.dumps({"images": document["images"], "annotations": told}))
    found = list(read_instances(root, a, c, 0.01))
    assert [one.number for one in found] == [500, 499, 498, 497]
    assert [list(one.box) for one in found] == boxes
    assert [one.polygons for one in found] == outlines
    assert [one.label for one in found] == ["cat", "cat", "café", "café"]
    assert [one.path for one in found] == [root / names[1], root / names[0]] * 2
    assert [(one.height, one.width) for one in found] == [(101, 100), (100, 100)] * 2
    assert [one.captions for one in found] == [["says 0", "says 1", "says 2"], []] * 2


def test_a_list_of_many_is_small(tmp_path: Path) -> None:
    """Python's objects took kilobytes each, and forked workers copied them by reading."""
    n = 3000
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "x.jpg").touch()
    outline = [float(i) + 0.25 for i in range(80)]
    annotations = [
        {
            "id": i,
            "image_id": 1,
            "category_id": 1,
            "bbox": [0, 0, 50, 50],
            "segmentation": [outline],
        }
        for i in range(n)
    ]
    images = [{"id": 1, "file_name": "x.jpg", "height": 100, "width": 100}]
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}],
    }
    a, c = tmp_path / "a.json", tmp_path / "c.json"
    a.write_text(json.dumps(document))
    c.write_text(json.dumps({"images": images, "annotations": []}))
    read_instances(tmp_path / "root", a, c, 0.01)  # (what is imported and cached on first use)
    tracemalloc.start()
    try:
        held = read_instances(tmp_path / "root", a, c, 0.01)
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(held) == n
    # 80 coordinates and some ten numbers of 8 bytes.
    assert size / n < 1.3 * 8 * 90


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


def tiny_blip(folder: Path) -> Blip:
    """A random BLIP of the real classes, saved and loaded as one from the Hub is."""
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "[DEC]",
        *(f"w{i}" for i in range(26)),
    ]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = BertTokenizerFast(vocab=vocabulary)
    torch.manual_seed(0)
    width = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = BlipConfig(
        text_config={
            "vocab_size": 32,
            "encoder_hidden_size": 16,
            "bos_token_id": 5,
            "eos_token_id": 2,
            "sep_token_id": 3,
            "pad_token_id": 0,
            **width,
        },
        vision_config={"image_size": 32, "patch_size": 16, **width},
        projection_dim=16,
        image_text_hidden_size=16,
    )
    BlipForConditionalGeneration(config).save_pretrained(folder)
    processor = BlipProcessor(BlipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer)
    processor.save_pretrained(folder)
    return Blip.load(str(folder), "cpu")


def test_blip_captions_crops_and_a_stopped_run_goes_on(tmp_path: Path, instances) -> None:  # type: ignore[no-untyped-def]
    blip = tiny_blip(tmp_path / "blip")
    target = tmp_path / "out" / "crops.jsonl"
    caption_instances(instances, blip, target, batch=2)
    found = read_captions(target)
    assert set(found) == {10, 20}
    assert all(isinstance(text, str) and text for text in found.values())
    asked: list[int] = []

    def counting(crops):  # type: ignore[no-untyped-def]
        asked.append(len(crops))
        return blip(crops)

    # Cut within the second line, as a kill leaves it.
    whole = target.read_text()
    target.write_text(whole[: whole.index("\n") + 8])
    caption_instances(instances, counting, target, batch=2)
    assert asked == [1]
    assert target.read_text() == whole
    caption_instances(instances, counting, target, batch=2)
    assert asked == [1]


def test_crops_of_unreadable_pictures_are_skipped_and_tried_again(tmp_path: Path) -> None:
    instances = many(tmp_path, bad=1, good=2)
    target, told = tmp_path / "crops.jsonl", []

    def captioner(crops):  # type: ignore[no-untyped-def]
        assert crops
        return [f"{crop.width} wide" for crop in crops]

    for _ in range(2):
        caption_instances(instances, captioner, target, batch=1, unreadable=told.append)
        assert read_captions(target) == {10: "", 20: "24 wide", 30: "24 wide"}
        assert len(target.read_text().splitlines()) == 3
    assert len(told) == 2
    assert "1.png cannot be read" in told[0]
    # Such a file is whole: that picture is no sample's, and where it is mended its label stands in.
    picture = Path(told[0].split()[0])
    picture.write_bytes((picture.parent / "2.png").read_bytes())
    data = Instances(instances, read_captions(target), SIDE, replace(RECIPE, captions=1.0))
    texts = {data[i].text for i in range(60) if data[i].level is not None}
    assert texts == {"", "bus", "24 wide"}
    caption_instances(instances, captioner, target, batch=1, unreadable=told.append)
    assert read_captions(target)[10] == "24 wide"
    assert len(told) == 2


def test_captioning_ends_where_many_pictures_cannot_be_read(tmp_path: Path) -> None:
    instances = many(tmp_path, bad=MAX_UNREADABLE + 1, good=1)
    told: list[str] = []
    with pytest.raises(UserError, match="more than 100 pictures cannot be read"):
        caption_instances(instances, list, tmp_path / "c.jsonl", 8, unreadable=told.append)
    assert len(told) == MAX_UNREADABLE


FOREIGN = {
    "coco": json.dumps({"info": {}, "annotations": [{"id": 1, "image_id": 2, "caption": "a"}]}),
    "pretty": json.dumps({"annotations": [{"id": 1, "caption": "a"}]}, indent=1),
    "an id alone": '{"id": 3}',
    "more than a caption": '{"id": 3, "caption": "a", "image_id": 4}',
    "text id": '{"id": "3", "caption": "a"}\n',
    "notes": "first line\nsecond line",
    "binary": b"\x80\x04\n\xff",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_another_file_than_captions_is_refused_and_stays(
    kind: str, tmp_path: Path, instances
) -> None:  # type: ignore[no-untyped-def]
    content = FOREIGN[kind]
    target = tmp_path / "out.json"
    before = content if isinstance(content, bytes) else content.encode()
    target.write_bytes(before)
    with pytest.raises(UserError, match="no file of captions") as caught:
        caption_instances(instances, list, target, batch=2)
    assert "\n" not in str(caught.value)
    assert target.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_was_cut_anywhere_goes_on(tmp_path: Path, instances) -> None:  # type: ignore[no-untyped-def]
    target = tmp_path / "crops.jsonl"

    def captioner(crops):  # type: ignore[no-untyped-def]
        return ['a "quoted" \\ é bus' for _ in crops]

    caption_instances(instances, captioner, target, batch=1)
    whole = target.read_bytes()
    for end in range(len(whole)):
        target.write_bytes(whole[:end])
        caption_instances(instances, captioner, target, batch=1)
        assert target.read_bytes() == whole


def test_a_target_that_cannot_be_written_is_one_line(tmp_path: Path, instances) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match="cannot be written: Is a directory"):
        caption_instances(instances, list, tmp_path, batch=2)


@pytest.mark.parametrize("device", ["foo", "cuda:99", "cuda:x"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_read(
    device: str, tmp_path: Path, load_script
) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=f"^device={device}: ") as caught:
        Blip.load(str(tmp_path / "none"), device)
    assert "\n" not in str(caught.value)
    arguments = [f"out={tmp_path / 'c'}", f"device={device}", "annotations=none", "blip=none"]
    with pytest.raises(UserError, match=f"^device={device}: "):
        load_script("caption_crops").main(arguments)
    assert list(tmp_path.iterdir()) == []


def test_other_files_than_captions_are_refused(tmp_path: Path) -> None:
    for content in ("no json", '{"id": 3}', "[1]"):
        (tmp_path / "x.jsonl").write_text(content)
        with pytest.raises(UserError, match="no file of captions"):
            read_captions(tmp_path / "x.jsonl")
    with pytest.raises(UserError, match="safetensors"):
        Blip.load(str(tmp_path / "none"), "cpu")
