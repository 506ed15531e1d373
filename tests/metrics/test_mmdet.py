"""The accuracy by MMDetection, where it is installed: `make test-mmdet`."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from profi.metrics import GenerationAccuracy, MMDetDetector, Sample
from profi.metrics.detectors import COCO_CATEGORIES
from profi.metrics.mmdet_detector import installed_config
from profi.types import UserError

pytest.importorskip(
    "mmdet.apis", reason="MMDetection is not installed: make test-mmdet", exc_type=ImportError
)
pytestmark = pytest.mark.filterwarnings("ignore")


def smooth_pictures() -> list[np.ndarray]:
    """Coloured pictures of several shapes."""
    rng = np.random.default_rng(0)
    result = []
    for height, width in ((90, 130), (200, 60), (64, 64)):
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        picture = np.array(small.resize((width, height), Image.Resampling.BICUBIC))
        # Far from grey, so that the order of the channels matters.
        picture[..., 2] //= 3
        result.append(picture)
    return result


def random_model(seed: int = 0):
    """The real RTMDet-tiny with random weights.

    Left alone these answer every place and picture alike: the last layer is scaled so that over
    places the logits of every class have a mean of -10 and a deviation of 2.5.
    """
    from mmdet.apis import init_detector

    torch.manual_seed(seed)
    model = init_detector(str(installed_config()), None, device="cpu")
    picture = torch.from_numpy(smooth_pictures()[0][..., ::-1].copy()).permute(2, 0, 1)
    inputs = torch.nn.functional.interpolate(picture[None].float(), (640, 640), mode="bilinear")
    with torch.no_grad():
        scaled = model.data_preprocessor({"inputs": [inputs[0]], "data_samples": None})["inputs"]
        for head, logits in zip(
            model.bbox_head.rtm_cls, model.bbox_head(model.extract_feat(scaled))[0], strict=True
        ):
            mean, deviation = logits.mean((0, 2, 3)), logits.std((0, 2, 3))
            head.weight *= (2.5 / deviation).view(-1, 1, 1, 1)
            head.bias.copy_((head.bias - mean) * 2.5 / deviation - 10.0)
    return model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As MMDetection saves them: with its logs, which are no tensors."""
    from mmdet.datasets import CocoDataset
    from mmengine.logging import HistoryBuffer

    model = random_model()
    path = tmp_path_factory.mktemp("mmdet") / "rtmdet.pth"
    content = {
        "meta": {"epoch": 300, "dataset_meta": CocoDataset.METAINFO},
        "state_dict": model.state_dict(),
        "message_hub": {"log_scalars": {"train/loss": HistoryBuffer([1.0, 0.5], [1, 1])}},
    }
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def sha256(checkpoint: Path) -> str:
    return hashlib.sha256(checkpoint.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def detector(checkpoint: Path, sha256: str) -> MMDetDetector:
    return MMDetDetector.from_checkpoint(str(checkpoint), sha256[:8], batch_size=2)


@pytest.fixture(scope="module")
def crops() -> list[np.ndarray]:
    return smooth_pictures()


@pytest.fixture(scope="module")
def by_hand(checkpoint: Path, crops: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory):
    """MMDetection alone: it loads the checkpoint and reads the pictures from files."""
    from mmdet.apis import inference_detector, init_detector

    forced = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    os.environ[forced] = "1"
    try:
        model = init_detector(str(installed_config()), str(checkpoint), device="cpu")
    finally:
        del os.environ[forced]
    folder = tmp_path_factory.mktemp("pictures")

    def infer(index: int, *, rgb_as_bgr: bool = False):
        path = folder / f"{index}.png"
        # OpenCV reads a file as BGR: of the swapped picture it gets what is RGB.
        Image.fromarray(crops[index][..., ::-1] if rgb_as_bgr else crops[index]).save(path)
        found = inference_detector(model, str(path)).pred_instances
        names = [model.dataset_meta["classes"][label] for label in found.labels.tolist()]
        return names, found.scores.numpy(), found.bboxes.numpy()

    return infer


def assert_same(found, expected) -> None:
    names, scores, boxes = expected
    assert [d.category_id for d in found] == [COCO_CATEGORIES[name] for name in names]
    np.testing.assert_allclose([d.score for d in found], scores, atol=1e-5)
    np.testing.assert_allclose([d.box for d in found], boxes, atol=1e-2)


def test_against_a_hand_run_inference_on_files(detector, crops, by_hand):
    expected = [by_hand(index) for index in range(len(crops))]
    for found, reference in zip(detector.detect(crops), expected, strict=True):
        assert_same(found, reference)
    # Enough to tell right from wrong.
    assert min(len(names) for names, _, _ in expected) > 10
    assert len({name for names, _, _ in expected for name in names}) > 5
    assert min(np.ptp(scores) for _, scores, _ in expected) > 0.1


def test_the_order_of_the_channels(detector, checkpoint, sha256, crops, by_hand):
    """Handing RGB to the model, as the released code does, is another answer, and a named one."""
    released = MMDetDetector.from_checkpoint(str(checkpoint), sha256, channels="rgb_as_bgr")
    for index, found in enumerate(released.detect(crops)):
        assert_same(found, by_hand(index, rgb_as_bgr=True))
    right, wrong = (
        np.array([d.score for d in one.detect(crops[:1])[0]][:10]) for one in (detector, released)
    )
    assert np.abs(right - wrong).max() > 1e-3
    assert detector.identity != released.identity
    assert (detector.identity["channels"], released.identity["channels"]) == ("bgr", "rgb_as_bgr")
    # Swapping the channels of the picture is the same mistake, so both together are none.
    swapped = released.detect([crops[0][..., ::-1]])[0]
    assert_same(swapped, by_hand(0))


def test_detections_do_not_depend_on_the_batch(detector, crops):
    together = detector.detect(crops)
    for crop, expected in zip(crops, together, strict=True):
        (alone,) = detector.detect([crop])
        assert [d.category_id for d in alone] == [d.category_id for d in expected]
        np.testing.assert_allclose([d.score for d in alone], [d.score for d in expected], atol=1e-5)
    assert detector.detect([]) == []


def test_every_class_is_a_category_of_coco_by_its_name(detector):
    assert detector.categories == COCO_CATEGORIES


@pytest.mark.parametrize(("index", "name"), [(0, "person"), (11, "stop sign"), (79, "toothbrush")])
def test_a_label_becomes_the_id_of_its_category(index, name, crops):
    """A model that knows one class alone."""
    model = random_model()
    with torch.no_grad():
        for head in model.bbox_head.rtm_cls:
            head.bias.fill_(-30.0)
            head.bias[index] = 3.0
    found = MMDetDetector(model).detect(crops[:1])[0]
    assert {d.category_id for d in found} == {COCO_CATEGORIES[name]}
    mask = np.ones(crops[0].shape[:2], dtype=bool)
    metric = GenerationAccuracy(MMDetDetector(model))
    samples = [Sample(crops[0], mask, label) for label in (name, "teddy bear", "zeppelin")]
    values = metric(samples)
    assert values[:2] == [100.0, 0.0]
    assert np.isnan(values[2])


def test_a_checkpoint_is_read_by_its_hash_alone(checkpoint, sha256, tmp_path):
    class Command:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    evil = tmp_path / "rtmdet-78e30dcc.pth"
    torch.save({"state_dict": Command()}, evil)
    other = tmp_path / "other.pth"
    torch.save({"state_dict": {"a": torch.zeros(1)}}, other)
    digest_of = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in (evil, other)}
    for path, given, message in (
        (checkpoint, None, r"metric\.accuracy\.sha256"),
        (checkpoint, "78e30dcc", f"another file.*{sha256}"),
        (evil, "78e30dcc", "another file"),
        # Even one that is vouched for is not obeyed.
        (evil, digest_of[evil], "no checkpoint"),
        (other, digest_of[other], "no checkpoint.*lacks backbone"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            MMDetDetector.from_checkpoint(str(path), given)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_identity_knows_the_weights(detector, checkpoint, sha256):
    again = MMDetDetector.from_checkpoint(str(checkpoint), sha256)
    assert again.identity == detector.identity
    assert MMDetDetector(random_model(1)).identity["weights"] != detector.identity["weights"]
