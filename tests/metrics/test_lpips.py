from __future__ import annotations

import hashlib
import math
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import RTDetrForObjectDetection

from profi.metrics import KnownRegionLPIPS, Sample
from profi.metrics.lpips import LPIPS, FeatureDistance
from profi.types import UserError

SHAPES = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


@pytest.fixture(scope="session")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights under the keys of torchvision's file (its classifier's are not read)."""
    generator = torch.Generator().manual_seed(0)
    state = {"classifier.6.bias": torch.zeros(3)}
    for index, (outer, inner, side) in SHAPES.items():
        scale = 1.5 / math.sqrt(inner * side * side)
        weight = torch.randn(outer, inner, side, side, generator=generator) * scale
        state[f"features.{index}.weight"] = weight
        state[f"features.{index}.bias"] = torch.randn(outer, generator=generator) * 0.1
    path = tmp_path_factory.mktemp("alexnet") / "alexnet.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="session")
def metric(alexnet: Path) -> KnownRegionLPIPS:
    return KnownRegionLPIPS.from_pretrained(str(alexnet), None, batch_size=2)


def heads() -> list[np.ndarray]:
    import torchmetrics

    folder = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models"
    state = torch.load(folder / "alex.pth", map_location="cpu", weights_only=True)
    return [state[f"lin{i}.model.1.weight"].double().numpy().reshape(-1, 1, 1) for i in range(5)]


def by_hand(alexnet: Path, one: np.ndarray, two: np.ndarray) -> float:
    """The definition, in float64, layer by layer; pictures are uint8 [H, W, 3]."""
    state = torch.load(alexnet, weights_only=True)
    shift = np.array([-0.030, -0.088, -0.188]).reshape(3, 1, 1)
    scale = np.array([0.458, 0.448, 0.450]).reshape(3, 1, 1)
    features = []
    for picture in (one, two):
        x = (picture.transpose(2, 0, 1) / 127.5 - 1 - shift) / scale
        x, found = torch.from_numpy(x)[None], []
        for index in SHAPES:
            weight, bias = (
                state[f"features.{index}.{part}"].double() for part in ("weight", "bias")
            )
            if index in (3, 6):
                x = F.max_pool2d(x, 3, 2)
            padding = {0: 2, 3: 2}.get(index, 1)
            x = F.conv2d(x, weight, bias, stride=4 if index == 0 else 1, padding=padding).relu()
            found.append(x[0].numpy())
        features.append(found)
    total = 0.0
    for a, b, head in zip(*features, heads(), strict=True):
        a, b = (v / (np.sqrt((v**2).sum(0, keepdims=True)) + 1e-10) for v in (a, b))
        total += float((head * (a - b) ** 2).sum(0).mean())
    return total


@pytest.fixture(scope="session")
def painted() -> list[Sample]:
    """Two sizes; the known region changed by more and more noise."""
    rng = np.random.default_rng(1)
    result = []
    for index, shape in enumerate([(64, 80), (40, 33), (64, 80), (64, 80)]):
        original = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        noise = rng.normal(0, 8 * index, original.shape)
        image = np.clip(original + noise, 0, 255).astype(np.uint8)
        mask = np.zeros(shape, dtype=bool)
        mask[10:30, 8:25] = True
        image[mask] = rng.integers(0, 256, (mask.sum(), 3), dtype=np.uint8)
        result.append(Sample(image, mask, "dog", original))
    return result


def test_against_the_definition_with_the_hole_undone(metric, alexnet, painted):
    values = metric(painted)
    assert values[0] == 0.0
    for value, sample in zip(values, painted, strict=True):
        undone = sample.image.copy()
        undone[sample.mask] = sample.original[sample.mask]
        assert value == pytest.approx(by_hand(alexnet, undone, sample.original), abs=1e-5)
    assert values[3] > values[2] > 1e-3
    # The known mistake: the hole compared too.
    hole = by_hand(alexnet, painted[2].image, painted[2].original)
    assert abs(hole - values[2]) > 1e-3


@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
def test_against_torchmetrics(alexnet, metric, painted, tmp_path, monkeypatch):
    """Its public class, given the same AlexNet in place of torchvision's download."""
    import torchvision
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    state = torchvision.models.alexnet(weights=None).state_dict()
    ours = torch.load(alexnet, weights_only=True)
    state |= {key: value for key, value in ours.items() if key.startswith("features.")}
    (tmp_path / "checkpoints").mkdir()
    torch.save(state, tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    oracle = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)
    for value, sample in zip(metric(painted), painted, strict=True):
        undone = np.where(sample.mask[..., None], sample.original, sample.image)
        one, two = (
            torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
            for picture in (undone, sample.original)
        )
        assert value == pytest.approx(float(oracle(one, two)), abs=1e-5)


def test_a_value_does_not_depend_on_its_batch(metric, painted):
    alone = [metric([sample])[0] for sample in painted]
    assert metric(painted) == pytest.approx(alone, abs=1e-6)


def test_what_cannot_be_compared_is_nan(metric, painted):
    sample = painted[2]
    small = np.zeros((31, 40, 3), np.uint8)
    values = metric(
        [
            Sample(sample.image, sample.mask, "dog"),
            Sample(sample.image, np.ones_like(sample.mask), "dog", sample.original),
            Sample(small, np.zeros((31, 40), bool), "dog", small),
            sample,
        ]
    )
    assert [math.isnan(value) for value in values] == [True, True, True, False]
    assert metric([]) == []


def test_mistakes_are_one_line(alexnet, tmp_path, monkeypatch):
    torch.save({"features.0.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    for name, message in {"other": "AlexNet", "text": "AlexNet", "absent": "no such file"}.items():
        with pytest.raises(UserError, match=rf"metric\.lpips\.path=.*{message}") as caught:
            LPIPS.from_pretrained(str(tmp_path / f"{name}.pth"), None)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="another file"):
        LPIPS.from_pretrained(str(alexnet), "7be5be79")
    sha256 = hashlib.sha256(alexnet.read_bytes()).hexdigest()
    LPIPS.from_pretrained(str(alexnet), sha256)
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(UserError, match=r"'\.\[lpips\]'"):
        LPIPS.from_pretrained(str(alexnet), None)


@pytest.fixture(scope="session")
def rtdetr_folder(tmp_path_factory: pytest.TempPathFactory, tiny: ModuleType) -> Path:
    return tiny.save_rtdetr(tmp_path_factory.mktemp("rtdetr"))


@pytest.fixture(scope="session")
def features(rtdetr_folder: Path) -> FeatureDistance:
    return FeatureDistance.from_pretrained(str(rtdetr_folder))


def test_features_are_compared_by_the_same_formula(features, rtdetr_folder):
    """The sum over the backbone's stages of 2 - 2 cos, averaged over the places."""
    detector = RTDetrForObjectDetection.from_pretrained(rtdetr_folder).eval()
    one, two = torch.rand(2, 1, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    expected, seen = 0.0, []
    for name, part in detector.model.backbone.model.named_modules():
        # What the stem and the four stages give, taken from the modules themselves.
        if name == "embedder" or (name.startswith("encoder.stages.") and name.count(".") == 2):
            part.register_forward_hook(lambda module, given, found: seen.append(found))
    with torch.no_grad():
        for picture in (one, two):
            detector.model.backbone.model(picture)
    half = len(seen) // 2
    assert half == 5
    for x, y in zip(seen[:half], seen[half:], strict=True):
        both = x.norm(dim=1) * y.norm(dim=1)
        # (Where ReLU leaves nothing of one vector, its unit vector is zero.)
        squares = (x.norm(dim=1) > 0).float() + (y.norm(dim=1) > 0).float()
        cosine = (x * y).sum(1) / both.clamp(min=1e-20)
        expected += float((squares - 2 * cosine).mean())
    assert expected > 0.01
    assert float(features(one, two)) == pytest.approx(expected, rel=1e-4)


def test_features_are_close_for_like_pictures(features):
    generator = torch.Generator().manual_seed(4)
    one = torch.rand(2, 3, 48, 64, generator=generator)
    noise = torch.rand(2, 3, 48, 64, generator=generator) - 0.5
    none, little, much = (features(one, (one + s * noise).clamp(0, 1)) for s in (0.0, 0.1, 0.8))
    assert none.tolist() == [0.0, 0.0]
    assert (little > 0).all()
    assert (2 * little < much).all()
    assert torch.allclose(features(one[1:], (one + 0.8 * noise).clamp(0, 1)[1:]), much[1:])


def test_a_detector_without_a_backbone_compares_nothing(tiny, tmp_path):
    assert FeatureDistance.from_pretrained(str(tiny.save_yolos(tmp_path))) is None
