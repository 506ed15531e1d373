"""BLIP's captions of crops, and the file of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_coco import SIDE, many
from tiny_model import RECIPE
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
)

from profi.training.crop_captions import Blip, caption_instances
from profi.training.instances import MAX_UNREADABLE, Instances, read_captions
from profi.types import UserError


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
    target, calls = tmp_path / "crops.jsonl", []

    def captioner(crops):  # type: ignore[no-untyped-def]
        assert crops
        return [f"{crop.width} wide" for crop in crops]

    for _ in range(2):
        caption_instances(instances, captioner, target, batch=1, unreadable=calls.append)
        assert read_captions(target) == {10: "", 20: "24 wide", 30: "24 wide"}
        assert len(target.read_text().splitlines()) == 3
    assert len(calls) == 2
    assert "1.png cannot be read" in calls[0]
    # Such a file is whole: that picture is no sample's, and where it is mended its label stands in.
    picture = Path(calls[0].split()[0])
    picture.write_bytes((picture.parent / "2.png").read_bytes())
    data = Instances(instances, read_captions(target), SIDE, replace(RECIPE, captions=1.0))
    texts = {data[i].text for i in range(60) if data[i].level is not None}
    assert texts == {"", "bus", "24 wide"}
    caption_instances(instances, captioner, target, batch=1, unreadable=calls.append)
    assert read_captions(target)[10] == "24 wide"
    assert len(calls) == 2


def test_captioning_ends_where_many_pictures_cannot_be_read(tmp_path: Path) -> None:
    instances = many(tmp_path, bad=MAX_UNREADABLE + 1, good=1)
    calls: list[str] = []
    with pytest.raises(UserError, match="more than 100 pictures cannot be read"):
        caption_instances(instances, list, tmp_path / "c.jsonl", 8, unreadable=calls.append)
    assert len(calls) == MAX_UNREADABLE


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
