from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import RTDetrForObjectDetection, YolosForObjectDetection
from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil

from profi.metrics import Detection, GenerationAccuracy, Sample, TransformersDetector
from profi.metrics.detectors import COCO_ALIASES, COCO_CATEGORIES
from profi.types import UserError

BOX = (0.0, 0.0, 1.0, 1.0)


@pytest.fixture(scope="session")
def rtdetr_folder(tmp_path_factory, tiny) -> Path:
    return tiny.save_rtdetr(tmp_path_factory.mktemp("rtdetr"))


@pytest.fixture(scope="session")
def detector(rtdetr_folder) -> TransformersDetector:
    return TransformersDetector.from_pretrained(str(rtdetr_folder), batch_size=2)


class ColourDetector:
    """A real, if simple, detector: the channel that dominates is the category."""

    categories = {"dog": 1, "person": 2, "sofa": 3}
    identity = {"kind": "colour"}

    def detect(self, crops):
        return [[Detection(int(c.mean(axis=(0, 1)).argmax()) + 1, 0.9, BOX)] for c in crops]


def test_coco_has_its_80_categories():
    assert len(COCO_CATEGORIES) == 80
    known = {"person": 1, "airplane": 5, "tie": 32, "couch": 63, "tv": 72, "toothbrush": 90}
    assert {name: COCO_CATEGORIES[name] for name in known} == known
    assert max(COCO_CATEGORIES.values()) == 90
    assert set(COCO_ALIASES.values()) <= set(COCO_CATEGORIES)


def test_against_the_models_own_processor(detector, rtdetr_folder, samples):
    """RTDetrImageProcessorPil prepares and reads the same model."""
    model = RTDetrForObjectDetection.from_pretrained(rtdetr_folder).eval()
    processor = RTDetrImageProcessorPil.from_pretrained(rtdetr_folder)
    coco_of = {0: 1, 1: 63, 2: 18}
    images = [sample.image for sample in samples]
    seen = 0
    for image, found in zip(images, detector.detect(images), strict=True):
        inputs = processor(images=Image.fromarray(image), return_tensors="pt")
        with torch.no_grad():
            outputs = model(**inputs)
        expected = processor.post_process_object_detection(
            outputs, threshold=0.0, target_sizes=[image.shape[:2]]
        )[0]
        kept = [
            (coco_of[int(label)], float(score), box.tolist())
            for label, score, box in zip(
                expected["labels"], expected["scores"], expected["boxes"], strict=True
            )
            if int(label) in coco_of
        ]
        seen += len(kept)
        assert [d.category_id for d in found] == [category for category, _, _ in kept]
        np.testing.assert_allclose([d.score for d in found], [s for _, s, _ in kept], atol=1e-4)
        np.testing.assert_allclose([d.box for d in found], [b for _, _, b in kept], atol=1e-2)
    assert seen > 10


def test_softmax_models_by_hand(tmp_path, samples, tiny):
    folder = tiny.save_yolos(tmp_path)
    detector = TransformersDetector.from_pretrained(str(folder))
    model = YolosForObjectDetection.from_pretrained(folder).eval()
    image = samples[0].image
    height, width = image.shape[:2]
    goal_height, goal_width = 32, int(32 * width / height)
    small = Image.fromarray(image).resize((goal_width, goal_height), Image.Resampling.BILINEAR)
    scaled = np.asarray(small) / 255.0
    scaled = (scaled - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    pixels = torch.from_numpy(scaled.transpose(2, 0, 1)[None].astype(np.float32))
    with torch.no_grad():
        logits = model(pixel_values=pixels).logits[0].double().numpy()
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = scores[:, :3].argmax(axis=1)
    coco_of = {1: 1, 2: 18}
    expected = sorted(
        (float(row[label]), coco_of[int(label)])
        for row, label in zip(scores, labels, strict=True)
        if label in coco_of
    )
    found = sorted((d.score, d.category_id) for d in detector.detect([image])[0])
    assert [category for _, category in found] == [category for _, category in expected]
    np.testing.assert_allclose([s for s, _ in found], [s for s, _ in expected], atol=1e-4)


def test_detections_do_not_depend_on_the_batch(detector, samples):
    crops = [sample.image for sample in samples]
    together = detector.detect(crops)
    for crop, expected in zip(crops, together, strict=True):
        alone = detector.detect([crop])[0]
        assert [d.category_id for d in alone] == [d.category_id for d in expected]
        np.testing.assert_allclose([d.score for d in alone], [d.score for d in expected], atol=1e-4)
    assert detector.detect([]) == []


def test_categories_are_matched_by_name_with_old_spellings(detector):
    assert detector.categories == {"person": 1, "couch": 63, "dog": 18}
    assert detector.identity["type"] == "rt_detr"


def test_a_worlds_own_categories(rtdetr_folder):
    detector = TransformersDetector.from_pretrained(
        str(rtdetr_folder), categories={"dog": 7, "sofa": 9}
    )
    assert detector.categories == {"dog": 7, "sofa": 9}


def test_a_detector_of_other_categories_is_refused(rtdetr_folder):
    with pytest.raises(UserError, match=r"metric\.accuracy\.path"):
        TransformersDetector.from_pretrained(str(rtdetr_folder), categories={"zeppelin": 1})
    with pytest.raises(UserError, match=r"no/such.*metric\.accuracy\.path="):
        TransformersDetector.from_pretrained("no/such")


def test_accuracy_sees_the_crop_in_rgb_and_nothing_else():
    image = np.zeros((20, 20, 3), dtype=np.uint8)
    image[..., 2] = 255
    image[4:9, 3:11] = (255, 0, 0)
    mask = np.zeros((20, 20), dtype=bool)
    mask[4:9, 3:11] = True
    metric = GenerationAccuracy(ColourDetector())
    assert metric([Sample(image, mask, "dog"), Sample(image, mask, "sofa")]) == [100.0, 0.0]
    bgr = image[..., ::-1]
    assert metric([Sample(bgr, mask, "dog"), Sample(bgr, mask, "sofa")]) == [0.0, 100.0]


def test_what_cannot_be_scored_is_nan():
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    mask = np.ones((4, 4), dtype=bool)
    values = GenerationAccuracy(ColourDetector())(
        [Sample(image, ~mask, "dog"), Sample(image, mask, "zeppelin"), Sample(image, mask, "dog")]
    )
    assert [math.isnan(value) for value in values] == [True, True, False]


def test_the_threshold_is_part_of_the_identity_and_of_the_answer():
    detector = SimpleNamespace(
        categories={"dog": 18},
        identity={},
        detect=lambda crops: [[Detection(18, 0.31, BOX)] for _ in crops],
    )
    sample = Sample(np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), bool), "dog")
    loose, tight = GenerationAccuracy(detector), GenerationAccuracy(detector, threshold=0.5)
    assert (loose([sample]), tight([sample])) == ([100.0], [0.0])
    assert loose.identity != tight.identity


def test_samples_check_their_shapes():
    image, mask = np.zeros((4, 5, 3), np.uint8), np.ones((4, 5), bool)
    with pytest.raises(ValueError, match="image"):
        Sample(image.astype(float), mask, "dog")
    with pytest.raises(ValueError, match="mask"):
        Sample(image, mask.T, "dog")
    with pytest.raises(ValueError, match="original"):
        Sample(image, mask, "dog", original=image[:3])
