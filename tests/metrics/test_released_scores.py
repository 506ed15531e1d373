"""The scores' rules of evaluation=released: OpenCV's resizing, torchmetrics' clamp, torchvision's
crop and the box of the bicubic mask, each against the thing itself or its formula."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel

from profi.metrics import AestheticScore, CLIPScore, Detection, GenerationAccuracy, Sample
from profi.metrics.aesthetic import AestheticPredictor
from profi.metrics.functional import Box
from profi.metrics.preprocess import centre_crop, opencv_cubic
from profi.settings.evaluation import OURS, RELEASED

RULES = {"resizing": RELEASED.clip_resizing, "clamp": RELEASED.clip_clamp, "box": RELEASED.box}


@pytest.mark.parametrize("size", [(224, 224), (20, 20)])
def test_opencv_s_cubic_is_opencv_s(size):
    rng = np.random.default_rng(0)
    n_bytes = n_off = 0
    for side in (5, 17, 100, 224, 301, 448, 512):
        for image in (
            rng.integers(0, 256, (side, side, 3), dtype=np.uint8),
            cv2.resize(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), (side, side)),
        ):
            peer = cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC)
            off = np.abs(opencv_cubic(image, size).astype(int) - peer)
            assert off.max() <= 1
            n_bytes, n_off = n_bytes + off.size, n_off + int(off.sum())
    # Of a gradient many values lie halfway between two levels.
    assert n_off <= n_bytes / 500


def clip_inputs(sample: Sample, size: int) -> np.ndarray:
    """The released crop by numpy and OpenCV: uint8 [size, size, 3]."""
    rows, columns = np.nonzero(sample.bicubic_mask)
    region = sample.image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    h, w = region.shape[:2]
    side = max(h, w)
    square = np.zeros((side, side, 3), np.uint8)
    top, left = (side - h) // 2, (side - w) // 2
    square[top : top + h, left : left + w] = region
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def wider(samples):
    """The samples with a bicubic mask that is a pixel wider on all sides."""
    cross = np.ones((3, 3), np.uint8)
    return [
        Sample(s.image, s.mask, s.prompt, None, cv2.dilate(s.mask.astype(np.uint8), cross) > 0)
        for s in samples
    ]


def test_the_clip_score_is_that_of_opencv_s_crop_and_never_negative(
    encoder, wider, tiny, clip_folder
):
    released = CLIPScore(encoder, **RULES)(wider)
    texts = encoder.embed_texts([s.prompt for s in wider]).double().numpy()
    model = CLIPModel.from_pretrained(clip_folder).eval()
    cosines = []
    for sample, text in zip(wider, texts, strict=True):
        small = clip_inputs(sample, tiny.INPUT).astype(np.float64) / 255
        pixels = ((small - tiny.CLIP_MEAN) / tiny.CLIP_STD).transpose(2, 0, 1)[None]
        with torch.no_grad():
            pooled = model.vision_model(pixel_values=torch.from_numpy(pixels).float())
            image = model.visual_projection(pooled.pooler_output)[0].double().numpy()
        cosines.append(image @ text / np.sqrt((image @ image) * (text @ text)))
    assert min(cosines) < 0 < max(cosines)
    assert released == pytest.approx([max(0.0, 100 * c) for c in cosines], abs=2e-2)
    # Each rule by itself is another score.
    for name, value in (("resizing", "antialiased"), ("clamp", "none"), ("box", "painted_mask")):
        other = CLIPScore(encoder, **{**RULES, name: value})(wider)
        assert max(abs(a - b) for a, b in zip(released, other, strict=True)) > 0.05
    ours = CLIPScore(encoder)(wider)
    assert min(ours) < 0


def torchvision_offset(length: int, size: int) -> int:
    """`crop_top = int(round((image_height - crop_height) / 2.0))`."""
    return round((length - size) / 2.0)


@pytest.mark.parametrize("extra", range(12))
def test_the_centre_crop_is_torchvision_s_or_the_floored_one(extra):
    size = 8
    image = np.arange((size + extra) * size * 3).reshape(size, size + extra, 3).astype(np.uint8)
    at = torchvision_offset(size + extra, size)
    rounded = centre_crop(image, (size, size), "rounded")
    np.testing.assert_array_equal(rounded, image[:, at : at + size])
    floored = centre_crop(image, (size, size))
    np.testing.assert_array_equal(floored, image[:, extra // 2 : extra // 2 + size])
    assert (extra % 4 == 3) == (not np.array_equal(rounded, floored))


def test_the_aesthetic_score_is_that_of_torchvision_s_crop(encoder, tiny):
    """Of a picture whose crop has an odd rest of 3: its Resize, its CenterCrop."""
    torch.manual_seed(4)
    predictor = AestheticPredictor(encoder.embedding_dim).eval()
    height = 40
    width = next(w for w in range(41, 80) if (int(tiny.INPUT * w / height) - tiny.INPUT) % 4 == 3)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    resized = Image.fromarray(image).resize(
        (int(tiny.INPUT * width / height), tiny.INPUT), Image.Resampling.BICUBIC
    )
    left = torchvision_offset(resized.width, tiny.INPUT)
    square = np.asarray(resized.crop((left, 0, left + tiny.INPUT, tiny.INPUT)))
    sample, cropped = (Sample(i, np.ones(i.shape[:2], bool), "dog") for i in (image, square))
    scores = {
        rule: AestheticScore(encoder, predictor, rule)([sample])[0]
        for rule in (RELEASED.aesthetic_crop, OURS.aesthetic_crop)
    }
    (expected,) = AestheticScore(encoder, predictor)([cropped])
    assert scores["rounded"] == pytest.approx(expected, abs=1e-6)
    assert abs(scores["floored"] - expected) > 1e-6


class Seen:
    """A detector that finds nothing and remembers what it was shown."""

    categories = {"dog": 18, "person": 1, "sofa": 63, "teddy bear": 88}
    identity = {"type": "seen"}

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def detect(self, crops: list[np.ndarray]) -> list[list[Detection]]:
        self.shapes += [crop.shape for crop in crops]
        return [[] for _ in crops]


def test_the_detector_sees_the_box_of_the_chosen_mask(wider):
    found = {}
    for rule in ("painted_mask", "bicubic_mask"):
        detector = Seen()
        GenerationAccuracy(detector, box=rule)(wider)
        found[rule] = detector.shapes
    for narrow, wide in zip(found["painted_mask"], found["bicubic_mask"], strict=True):
        assert (wide[0], wide[1]) == (narrow[0] + 2, narrow[1] + 2)
    # Without another mask there is one box.
    assert Sample(wider[0].image, wider[0].mask, "dog").box("bicubic_mask") == Box(3, 5, 20, 12)
