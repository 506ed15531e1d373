"""The mask narrowed by a segmenter: laws with stand-ins, and a tiny random SAM from disk."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from painter_pictures import picture
from PIL import Image
from tiny_upscaler import SUFFIX
from transformers import SamConfig, SamImageProcessorPil, SamModel

import profi
from profi.cli.paint import main
from profi.highres import HIGHRES, Enlarging, Segmenter, Upscaler, load_segmenter
from profi.highres.latent_masks import box_dilated
from profi.highres.segmenter import BOXES
from profi.metrics.functional import Box
from profi.models.backbone import Backbone
from profi.settings.evaluation import EVALUATIONS
from profi.types import UserError

SETTINGS = replace(
    HIGHRES["ours"], prompt_suffix=SUFFIX, num_inference_steps=2, pad_multiple=64, margin=9
)
SIDE = 64


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SAM's real classes with few channels, saved in their real layout."""
    torch.manual_seed(0)
    config = SamConfig(
        vision_config={
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "global_attn_indexes": [1],
            "window_size": 2,
            "image_size": SIDE,
            "mlp_dim": 32,
            "output_channels": 16,
            "num_pos_feats": 8,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": SIDE, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 16,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )
    folder = tmp_path_factory.mktemp("sam")
    SamModel(config).save_pretrained(folder)
    sides = {"height": SIDE, "width": SIDE}
    SamImageProcessorPil(size={"longest_edge": SIDE}, pad_size=sides).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def segmenter(sam: Path) -> Segmenter:
    return load_segmenter(sam, "cpu")


@pytest.fixture(scope="module")
def painter(backbone: Backbone) -> profi.Painter:
    return profi.Painter(backbone, long_side=32, pad_multiple=16)


def two_parts(width: int = 90, height: int = 70) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return ((x < 30) & (y < 30)) | ((x > 60) & (y > 40))


def work_of(painter: profi.Painter, hole: np.ndarray) -> Enlarging:
    mask = Image.fromarray(hole.astype(np.uint8) * 255)
    height, width = hole.shape
    return painter.enlarging(
        picture(width, height), mask, "a", highres=SETTINGS, steps=1, ablation="base"
    )


class Found:
    """Finds `rule` of every picture; remembers what it was asked."""

    def __init__(self, rule: object) -> None:
        self.rule, self.asked = rule, []

    def __call__(self, seen: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
        self.asked.append((seen, list(boxes)))
        found = self.rule(*np.mgrid[: seen.shape[0], : seen.shape[1]], len(self.asked))
        return np.stack([found] * len(boxes))


def test_all_or_nothing_leaves_the_mask(
    painter: profi.Painter, caplog: pytest.LogCaptureFixture
) -> None:
    work = work_of(painter, two_parts())
    everything = work.narrowed(Found(lambda y, x, n: y >= 0))
    assert torch.equal(everything.mask, work.mask)
    assert torch.equal(everything.hole, work.hole)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        nothing = work.narrowed(Found(lambda y, x, n: y < 0))
    assert torch.equal(nothing.mask, work.mask)
    assert torch.equal(nothing.hole, work.hole)
    assert [r.getMessage() for r in caplog.records] == [
        "no object is found in 2 of the mask's 2 parts: they stay whole"
    ]


def test_it_sees_the_old_and_the_new_picture_with_a_box_per_part(painter: profi.Painter) -> None:
    work, found = work_of(painter, two_parts()), Found(lambda y, x, n: y >= 0)
    work.narrowed(found)
    (old, boxes), (new, same) = found.asked
    assert old.shape == new.shape == (*work.low.shape[1:], 3)
    assert boxes == same
    # 90 x 70 pixels are 32 x 25 low ones.
    assert [tuple(box) for box in boxes] == [(0, 0, 11, 11), (14, 21, 25, 32)]
    hole = np.zeros(old.shape[:2], bool)
    for box in boxes:
        hole[box.top : box.bottom, box.left : box.right] = True
    levels = np.abs(old.astype(int) - new.astype(int)).max(-1)
    assert levels[~hole].max() == 0  # ours: the low picture is the given one outside its mask
    assert levels[hole].max() > 0


def test_the_union_of_both_objects_within_the_mask_stays(painter: profi.Painter) -> None:
    work = work_of(painter, two_parts())

    # The old object is the left half, the new one the top half of the low picture.
    found = Found(lambda y, x, n: x < 5 if n == 1 else y < 5)
    narrowed = work.narrowed(found).mask.numpy()
    y, x = np.mgrid[:70, :90]
    scale_y, scale_x = 70 / 25, 90 / 32
    near = (x < 5 * scale_x) | (y < 5 * scale_y)
    near_grown = (x < 6 * scale_x) | (y < 6 * scale_y)
    first = two_parts() & (y < 35)
    assert not (first & near & ~narrowed).any()
    assert not (narrowed & (y < 35) & ~(first & near_grown)).any()
    # In the second part nothing of either is found: it stays whole.
    assert np.array_equal(narrowed & (y >= 35), two_parts() & (y >= 35))


def test_pixels_outside_the_narrowed_mask_are_the_given_ones(
    painter: profi.Painter, upscaler: Upscaler
) -> None:
    hole = two_parts()
    hole[40:] = False
    image = picture(90, 70)
    mask = Image.fromarray(hole.astype(np.uint8) * 255)
    result = painter.highres(
        image,
        mask,
        "a",
        upscaler=upscaler,
        highres=SETTINGS,
        segmenter=Found(lambda y, x, n: (x < 4) & (y < 4)),
        steps=1,
        ablation="base",
    )
    changed = (np.asarray(result) != np.asarray(image)).any(-1)
    kept = np.zeros_like(hole)
    kept[:12, :12] = True  # 4 low pixels are 11.3 pixels
    assert changed.any()
    assert not changed[~box_dilated(kept, 9)].any()


def test_boxes_do_not_influence_each_other(segmenter: Segmenter) -> None:
    seen = np.asarray(picture(90, 70))
    boxes = [Box(0, 0, 30, 30), Box(40, 60, 70, 90), Box(10, 20, 60, 50)]
    together = segmenter(seen, boxes)
    assert together.dtype == bool
    assert together.shape == (3, 70, 90)
    assert together.any()
    assert not together.all()
    for box, one in zip(boxes, together, strict=True):
        assert np.array_equal(segmenter(seen, [box])[0], one)


def test_a_mask_that_the_low_picture_lacks_stays() -> None:
    hole = torch.zeros(1024, 768, dtype=torch.bool)
    hole[301, 402] = True
    image, low = torch.zeros(3, 1024, 768), torch.rand(3, 32, 24)
    released = EVALUATIONS["released"]
    work = Enlarging.of(image, hole, lambda *_: low, 32, SETTINGS, released)
    assert work.hole.any()
    assert not work.low_mask.any()
    assert work.narrowed(Found(lambda y, x, n: y >= 0)) is work


def test_many_boxes_are_seen_in_turns(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = np.asarray(picture(90, 70))
    boxes = [Box(i, 2 * i, 20 + i, 30 + i) for i in range(2 * BOXES + 3)]
    whole = segmenter(seen, boxes)
    assert whole.shape == (len(boxes), 70, 90)
    monkeypatch.setattr("profi.highres.segmenter.BOXES", 1000)
    assert np.array_equal(segmenter(seen, boxes), whole)


def test_a_box_is_in_the_pictures_own_pixels(segmenter: Segmenter) -> None:
    """A picture of SAM's own size, and the same twice as large with a box twice as large."""
    seen = np.asarray(picture(SIDE, SIDE))
    large = seen.repeat(2, 0).repeat(2, 1)
    small = segmenter(seen, [Box(10, 20, 40, 60)])[0]
    found = segmenter(large, [Box(20, 40, 80, 120)])[0]
    assert found.shape == (2 * SIDE, 2 * SIDE)
    wrong = segmenter(large, [Box(10, 20, 40, 60)])[0]
    assert (found[::2, ::2] == small).mean() > 0.95 > (wrong[::2, ::2] == small).mean()


def test_a_picture_is_narrowed_from_the_command_line(
    sam: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(90, 70).save("image.png")
    Image.fromarray(two_parts().astype(np.uint8) * 255).save("mask.png")
    arguments = ["image.png", "mask.png", "a bus", "-o", "out.png", "--device", "cpu"]
    more = ["--steps", "1", "--ablation", "base", "--long-side", "32", "--upscaler", str(folder)]
    assert main([*arguments, *more, "--highres", "--segmenter", str(sam)]) == 0
    facts = json.loads(Image.open("out.png").text["profi"])
    assert facts["segmenter"] == str(sam)


def test_mistakes_are_one_line(sam: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"segmenter '.*nowhere' cannot be loaded .*segmenter="):
        load_segmenter(tmp_path / "nowhere", "cpu")
    with pytest.raises(UserError, match=r"segmenter .* cannot be loaded"):
        load_segmenter(folder, "cpu")
    half = tmp_path / "half"
    shutil.copytree(sam, half)
    model = SamModel.from_pretrained(sam)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("mask_decoder")}
    model.save_pretrained(half, state_dict=state)
    with pytest.raises(UserError, match=r"lacks weights of SAM \(mask_decoder"):
        load_segmenter(half, "cpu")


def test_the_segmenter_goes_with_high_resolution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(90, 70).save("image.png")
    arguments = ["image.png", "image.png", "a bus", "-o", "out.png", "--segmenter", "sam"]
    assert main(arguments) == 2
    assert "--segmenter needs --highres" in capsys.readouterr().err


def test_a_wrong_name_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(90, 70).save("image.png")
    arguments = ["image.png", "image.png", "a bus", "-o", "out.png", "--highres"]
    assert main([*arguments, "--segmenter", "no/such/folder"]) == 2
    assert "--segmenter no/such/folder: give a folder or a repository" in capsys.readouterr().err
