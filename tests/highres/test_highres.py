"""`painter.highres`: any picture and mask, what may change, progress, cancelling, comparisons."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from painter_pictures import disc, picture
from PIL import Image
from tiny_upscaler import SUFFIX

import profi
from profi.fitting import fit_picture
from profi.highres import HIGHRES, WAYS, Enlarging, Upscaler, compare, measures
from profi.highres.latent_masks import box_dilated
from profi.highres.measures import around, edge_step, faithful
from profi.metrics.functional import CAP_DB
from profi.models.backbone import Backbone
from profi.settings.evaluation import EVALUATIONS
from profi.settings.highres import HighRes
from profi.types import UserError

SMALL = {"prompt_suffix": SUFFIX, "num_inference_steps": 2, "pad_multiple": 64, "margin": 9}
OURS = replace(HIGHRES["ours"], **SMALL)
RELEASED = replace(HIGHRES["released"], **SMALL)
PAPER = replace(HIGHRES["paper"], **SMALL)


@pytest.fixture(scope="module")
def painter(backbone: Backbone) -> profi.Painter:
    return profi.Painter(backbone, long_side=32, pad_multiple=16)


def paint(painter: profi.Painter, upscaler: Upscaler, image: Any, mask: Any, **more: Any) -> Any:
    choices = {"highres": OURS, "steps": 2, "ablation": "base"} | more
    return painter.highres(image, mask, "a", upscaler=upscaler, **choices)


def masks(width: int, height: int) -> dict[str, np.ndarray]:
    y, x = np.mgrid[:height, :width]
    return {
        "inside": (abs(y - height // 2) < height // 5) & (abs(x - width // 2) < width // 5),
        "border": (x < width // 3) & (abs(y - height // 2) < height // 4),
        "corner": (x < width // 4) & (y < height // 4),
        "several parts": ((x < width // 6) & (y < height // 6))
        | ((x > width * 5 // 6) & (y > height * 5 // 6)),
        "a point": (x == width // 2) & (y == height // 2),
        "all but the border": (x > 0) & (y > 0) & (x < width - 1) & (y < height - 1),
        "whole picture": np.ones((height, width), bool),
    }


def as_mask(hole: np.ndarray) -> Image.Image:
    return Image.fromarray(hole.astype(np.uint8) * 255)


@pytest.mark.parametrize("settings", [OURS, replace(OURS, crop=4)], ids=["whole", "crop"])
@pytest.mark.parametrize("name", masks(90, 70))
def test_only_the_dilated_mask_changes(
    painter: profi.Painter, upscaler: Upscaler, name: str, settings: HighRes
) -> None:
    image, hole = picture(90, 70), masks(90, 70)[name]
    found = paint(painter, upscaler, image, as_mask(hole), highres=settings)
    assert (found.mode, found.size) == ("RGB", image.size)
    changed = (np.asarray(found) != np.asarray(image)).any(-1)
    allowed = box_dilated(hole, 9)
    assert not changed[~allowed].any()
    assert changed[allowed].mean() > 0.5


@pytest.mark.parametrize("settings", [RELEASED, PAPER], ids=["released", "paper"])
@pytest.mark.parametrize("name", masks(90, 70))
def test_the_papers_sets_give_the_worked_size(
    painter: profi.Painter, upscaler: Upscaler, name: str, settings: HighRes
) -> None:
    hole = as_mask(masks(90, 70)[name])
    found = paint(painter, upscaler, picture(90, 70), hole, highres=settings, evaluation="released")
    assert found.size == (128, 99)  # 128 * 70 / 90 = 99.6, truncated


@pytest.mark.parametrize(
    "size",
    [(128, 128), (33, 47), (20, 20), (300, 15), (12, 240), (257, 129), (1, 40)],
)
@pytest.mark.parametrize("settings", [OURS, RELEASED], ids=["ours", "released"])
def test_any_size(
    painter: profi.Painter, upscaler: Upscaler, size: tuple[int, int], settings: HighRes
) -> None:
    image, hole = picture(*size), np.zeros(size[::-1], bool)
    hole[size[1] // 3 : size[1] // 2 + 1, size[0] // 3 : size[0] // 2 + 1] = True
    evaluation = "released" if settings is RELEASED else "ours"
    found = paint(painter, upscaler, image, as_mask(hole), highres=settings, evaluation=evaluation)
    assert found.size == size if settings is OURS else max(found.size) == 128


def test_grey_rgba_and_turned_pictures(
    painter: profi.Painter, upscaler: Upscaler, tmp_path: Path
) -> None:
    mask = disc(60, 40)
    grey = picture(60, 40).convert("L")
    as_rgb = paint(painter, upscaler, grey.convert("RGB"), mask)
    assert np.array_equal(paint(painter, upscaler, grey, mask), as_rgb)
    clear = picture(60, 40).convert("RGBA")
    clear.putalpha(Image.new("L", (60, 40), 255))
    assert np.array_equal(
        paint(painter, upscaler, clear, mask), paint(painter, upscaler, picture(60, 40), mask)
    )
    turned = picture(40, 60)
    exif = turned.getexif()
    exif[0x0112] = 6  # stored on its side
    turned.save(tmp_path / "turned.png", exif=exif)
    found = paint(painter, upscaler, str(tmp_path / "turned.png"), mask)
    upright = turned.transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(found, paint(painter, upscaler, upright, mask))


def test_mistakes_are_one_line(painter: profi.Painter, upscaler: Upscaler) -> None:
    image, mask = picture(60, 40), disc(60, 40)

    def refused(**more: Any) -> str:
        with pytest.raises(UserError) as caught:
            paint(painter, upscaler, **({"image": image, "mask": mask} | more))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "empty" in refused(mask=Image.new("L", (60, 40)))
    assert "size" in refused(mask=disc(61, 40)) or "61" in refused(mask=disc(61, 40))
    assert "highres=best is unknown" in refused(highres="best")
    assert "multiple of 16" in refused(highres=replace(OURS, pad_multiple=8))
    assert "seed" in refused(seed=-1)
    for wrong in ({"long_side": 33}, {"blur": 4}, {"overlap": 200}, {"pad_multiple": 6}):
        with pytest.raises(UserError, match=f"highres.{min(wrong)}|highres.tile"):
            replace(OURS, **wrong)


def test_mistakes_are_found_before_the_first_step(
    painter: profi.Painter, upscaler: Upscaler
) -> None:
    for wrong, message in (
        ({"noise_level": 900}, "this upscaler knows"),
        ({"tile": 33}, "must be a multiple"),
        ({"num_inference_steps": 1001}, "num_inference_steps=1001"),
        ({"prompt_suffix": "word " * 200}, "tokens"),
        ({"pad_multiple": 4}, "needs a multiple of 16"),
    ):
        steps: list[int] = []
        with pytest.raises(UserError, match=message):
            paint(
                painter,
                upscaler,
                picture(60, 40),
                disc(60, 40),
                highres=replace(OURS, **wrong),  # type: ignore[arg-type]
                progress=lambda step, total, steps=steps: steps.append(step),
            )
        assert steps in ([], [0]), wrong


def test_a_seed_of_numpy_is_a_seed(painter: profi.Painter, upscaler: Upscaler) -> None:
    image, mask = picture(60, 40), disc(60, 40)
    found = paint(painter, upscaler, image, mask, seed=np.int64(3))
    assert np.array_equal(found, paint(painter, upscaler, image, mask, seed=3))


def test_progress_runs_over_both_and_cancel_stops_each(
    painter: profi.Painter, upscaler: Upscaler
) -> None:
    image, mask = picture(60, 40), disc(60, 40)
    seen: list[tuple[int, int]] = []
    whole = paint(painter, upscaler, image, mask, progress=lambda *n: seen.append(n))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for stop in range(4):
        cancel = threading.Event()
        if stop == 0:
            cancel.set()

        def report(done: int, total: int, stop: int = stop, cancel: Any = cancel) -> None:
            if done == stop:
                cancel.set()

        with pytest.raises(profi.Cancelled, match=f"after step {stop} of 4"):
            paint(painter, upscaler, image, mask, cancel=cancel, progress=report)
    assert np.array_equal(paint(painter, upscaler, image, mask), whole)  # nothing was left changed


def test_a_seed_is_the_same_picture_and_another_is_not(
    painter: profi.Painter, upscaler: Upscaler
) -> None:
    image, mask = picture(60, 40), disc(60, 40)
    one, again, other = (paint(painter, upscaler, image, mask, seed=s) for s in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_low_picture_is_the_painters(painter: profi.Painter, upscaler: Upscaler) -> None:
    """Of an image in the painter's own size the low picture is `painter(...)`, bit for bit."""
    image, mask = picture(32, 24), disc(32, 24)
    for low, blended in (("decoded", False), ("blended", True)):
        work = painter.enlarging(
            image, mask, "a", highres=replace(OURS, low=low), seed=3, steps=2, ablation="base"
        )
        theirs = painter(image, mask, "a", seed=3, steps=2, ablation="base", blended=blended)
        ours = (work.low * 255).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(ours, np.asarray(theirs))


def test_a_decoded_low_picture_is_blended_later_as_at_once(painter: profi.Painter) -> None:
    choices = {"steps": 1, "ablation": "base"}
    for size in ((90, 70), (71, 90)):
        decoded, at_once = (
            painter.enlarging(
                picture(*size), disc(*size), "a", highres=replace(OURS, low=low), **choices
            )
            for low in ("decoded", "blended")
        )
        assert not torch.equal(decoded.low, at_once.low)
        assert torch.equal(decoded.with_known_low().low, at_once.low)


def test_released_pads_by_reflection_and_resizes_by_pil(painter: profi.Painter) -> None:
    image, hole = picture(90, 70), masks(90, 70)["inside"]
    released = EVALUATIONS["released"]
    seen = {}

    def paint_low(picture_: torch.Tensor, mask: torch.Tensor, side: int) -> torch.Tensor:
        seen["side"] = side
        return torch.rand(3, 24, 32)

    unit = torch.from_numpy(np.asarray(image)).permute(2, 0, 1) / 255.0
    work = Enlarging.of(unit, torch.from_numpy(hole), paint_low, 32, RELEASED, released)
    assert seen["side"] == 32
    assert (work.height, work.width) == (99, 128)
    assert work.large.shape == (3, 128, 128)
    large = np.asarray(image.resize((128, 99), Image.Resampling.BICUBIC))
    padded = np.pad(large, [(0, 29), (0, 0), (0, 0)], mode="reflect")
    assert np.array_equal((work.large * 255).round().byte().permute(1, 2, 0).numpy(), padded)
    grey = np.asarray(as_mask(hole).resize((128, 99), Image.Resampling.BICUBIC)) > 0
    assert np.array_equal(work.hole.numpy(), np.pad(grey, [(0, 29), (0, 0)], mode="reflect"))


def test_four_times_the_low_picture_is_the_large_one(painter: profi.Painter) -> None:
    """With our rules the low picture lies exactly on the large one, whatever the aspect."""
    for size in ((90, 70), (71, 90), (300, 31)):
        work = painter.enlarging(
            picture(*size), disc(*size), "a", highres=OURS, steps=1, ablation="base"
        )
        assert (work.height, work.width) == tuple(4 * side for side in work.low.shape[1:])


def test_the_three_ways_share_the_low_picture(painter: profi.Painter, upscaler: Upscaler) -> None:
    settings = replace(OURS, result="worked", dilation=2, blur=3)
    work = painter.enlarging(
        picture(90, 70), disc(90, 70), "a", highres=settings, steps=1, ablation="base"
    )
    found = compare(work, upscaler, "a", seed=4)
    assert tuple(one.way for one in found) == WAYS
    assert all(one.painted.shape == (work.height, work.width, 3) for one in found)
    bicubic = fit_picture(work.low, (work.height, work.width), "antialiased")
    expected = (bicubic * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(found[0].painted, expected)
    same = work.finished(work.upscaled(upscaler, "a", 4))
    assert np.array_equal(found[2].picture, same)
    numbers = [measures(work, one, lambda a, b: float((a != b).mean())) for one in found]
    # A random upscaler's picture is far from the known region; eq. 16 brings it back to what the
    # VAE can say.
    assert numbers[2].known_psnr > numbers[1].known_psnr
    assert all(np.isfinite(list(vars(n).values())).all() for n in numbers)


@pytest.mark.parametrize(("hole", "same"), [("painted", True), ("given", False)])
def test_the_old_object_has_no_say(
    painter: profi.Painter, upscaler: Upscaler, hole: Any, same: bool
) -> None:
    """Two pictures that differ in the hole alone; the mistake: eq. 16 sees what stood there."""
    mask = masks(128, 96)["all but the border"]
    mask[:, 90:] = False
    settings = replace(OURS, hole=hole, dilation=0, blur=9)
    found = []
    for colour in (10, 240):
        pixels = np.asarray(picture(128, 96)).copy()
        # (The picture's own resizing brings pixels at the edge into the known region.)
        pixels[12:-12, 12:78] = colour
        image = Image.fromarray(pixels)
        found.append(np.asarray(paint(painter, upscaler, image, as_mask(mask), highres=settings)))
    assert np.array_equal(found[0][mask], found[1][mask]) == same


def test_a_large_picture_is_compared_with_the_small_one_in_the_hole() -> None:
    low = torch.rand(3, 8, 6, generator=torch.Generator().manual_seed(0))
    low = (low * 255).round() / 255
    large = (low * 255).byte().permute(1, 2, 0).numpy().repeat(4, 0).repeat(4, 1)
    mask = np.zeros((32, 24), bool)
    mask[6:20, 4:16] = True  # rows 2 to 4 of the low picture, columns 1 to 3
    assert faithful(large, low, mask) > CAP_DB - 20
    outside = large.copy()
    outside[~mask] = 0
    outside[6:8] = 0  # a low row of which the hole has a half
    assert faithful(outside, low, mask) == faithful(large, low, mask)
    expected = -20 * math.log10(10 / 255)
    shifted = faithful(np.clip(large, 0, 245) + np.uint8(10), low.clamp(0, 245 / 255), mask)
    assert shifted == pytest.approx(expected, abs=1e-3)
    mask[:] = False
    assert np.isnan(faithful(large, low, mask))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((100, 100, 160, 140), (70, 80, 190, 160)),  # twice the box; at least 64
        ((100, 100, 101, 101), (68, 68, 132, 132)),
        ((0, 290, 20, 300), (0, 236, 64, 300)),
        ((0, 0, 200, 300), (0, 0, 200, 300)),
    ],
)
def test_the_part_around_the_hole(box: Any, expected: Any) -> None:
    mask = np.zeros((200, 300), bool)
    mask[box[0] : box[2], box[1] : box[3]] = True
    rows, columns = around(mask)
    assert (rows.start, columns.start, rows.stop, columns.stop) == expected


def test_a_step_across_an_edge() -> None:
    flat = np.full((20, 20, 3), 100, np.uint8)
    mask = np.zeros((20, 20), bool)
    mask[5:10, 5:10] = True
    assert edge_step(flat, mask) == 0
    flat[mask] = 130
    assert edge_step(flat, mask) == 30
    assert np.isnan(edge_step(flat, np.ones_like(mask)))


def test_own_size_of_a_larger_picture(painter: profi.Painter, upscaler: Upscaler) -> None:
    """The painted pixels are enlarged and the last blend is in the picture's own size."""
    image, mask = picture(200, 160), disc(200, 160)
    assert paint(painter, upscaler, image, mask).size == (200, 160)
    worked = replace(OURS, result="worked", long_side=64)
    assert max(paint(painter, upscaler, image, mask, highres=worked).size) == 64
