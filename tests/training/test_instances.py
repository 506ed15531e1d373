"""MSCOCO's instances as samples, and BLIP's captions of their crops."""

from __future__ import annotations

import json
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
from profi.training.instances import (
    CocoSource,
    Instances,
    crop_of,
    mask_of,
    read_captions,
    read_instances,
)
from profi.types import UserError

SIDE = 64


def write(folder: Path) -> tuple[Path, Path, Path]:
    """Three pictures, 96x64, with a red box each: at the left, at the right, and a tiny one."""
    root = folder / "train2017"
    root.mkdir()
    boxes = {1: (4, 8, 24, 40), 2: (60, 10, 30, 30), 3: (50, 50, 4, 4)}
    images, annotations, captions = [], [], []
    for i, (x, y, w, h) in boxes.items():
        pixels = np.full((64, 96, 3), 40 * i, np.uint8)
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
        image, mask, text, level = data[i]
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


def test_other_files_than_captions_are_refused(tmp_path: Path) -> None:
    for content in ("no json", '{"id": 3}', "[1]"):
        (tmp_path / "x.jsonl").write_text(content)
        with pytest.raises(UserError, match="no file of captions"):
            read_captions(tmp_path / "x.jsonl")
    with pytest.raises(UserError, match="safetensors"):
        Blip.load(str(tmp_path / "none"), "cpu")
