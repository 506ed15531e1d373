"""CLIP scores by open_clip, where it is installed and can be imported: `make test-vision`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from profi.metrics import CLIPScore
from profi.metrics.open_clip_encoder import OpenClipEncoder
from profi.types import UserError

# Without torchvision the import fails by ImportError, with one of another torch by RuntimeError.
try:
    import open_clip
except (ImportError, RuntimeError) as error:
    pytest.skip(f"open_clip cannot be used: {error}", allow_module_level=True)

KEY = "metric.clip.path"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the real ViT-B/32."""
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32")
    path = tmp_path_factory.mktemp("open_clip") / "model.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def metric(weights: Path) -> CLIPScore:
    return CLIPScore.from_pretrained(f"open_clip:ViT-B-32/{weights}", batch_size=2)


def test_against_open_clips_own_recipe(metric, weights, samples):
    """Its transform by torchvision, its tokenizer, unit features, 100 times their product."""
    model, _, transform = open_clip.create_model_and_transforms("ViT-B-32", str(weights))
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    for value, sample in zip(metric(samples), samples, strict=True):
        rows, columns = np.nonzero(sample.mask)
        region = sample.image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        side = max(region.shape[:2])
        square = Image.new("RGB", (side, side))
        corner = ((side - region.shape[1]) // 2, (side - region.shape[0]) // 2)
        square.paste(Image.fromarray(region), corner)
        with torch.no_grad():
            image = model.eval().encode_image(transform(square)[None], normalize=True)
            text = model.encode_text(tokenizer([sample.prompt]), normalize=True)
        assert value == pytest.approx(100 * float(image[0] @ text[0]), abs=2e-3)


def test_a_value_does_not_depend_on_its_batch(metric, samples):
    assert metric(samples) == pytest.approx([metric([s])[0] for s in samples], abs=1e-3)
    assert metric([]) == []


def test_a_tag_brings_its_activation(weights, samples, monkeypatch):
    """OpenAI's weights were trained with quick_gelu, which the bare architecture lacks."""
    monkeypatch.setattr("open_clip.factory.download_pretrained", lambda *_, **__: str(weights))
    squares = [sample.image[:40, :40] for sample in samples]
    found = OpenClipEncoder.from_name("open_clip:ViT-B-32/openai", KEY).embed_squares(squares)
    right, wrong = (
        OpenClipEncoder.from_name(f"open_clip:{name}/{weights}", KEY).embed_squares(squares)
        for name in ("ViT-B-32-quickgelu", "ViT-B-32")
    )
    torch.testing.assert_close(found, right)
    assert (found - wrong).abs().max() > 1e-3


def test_mistakes_are_one_line(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    for name, message in {
        "open_clip:ViT-B-32": "MODEL/WEIGHTS",
        "open_clip:ViT-Z-1/openai": "MODEL/WEIGHTS",
        "open_clip:ViT-B-32/nobody": "choose among openai",
        f"open_clip:ViT-B-32/{tmp_path}/absent.safetensors": "choose among openai",
        f"open_clip:ViT-B-32/{tmp_path}/model.safetensors": "cannot be loaded",
    }.items():
        with pytest.raises(
            UserError, match=rf"metric\.clip\.path.*{message}|{message}.*{KEY}"
        ) as caught:
            CLIPScore.from_pretrained(name)
        assert "\n" not in str(caught.value)


def test_identity_knows_the_weights_and_the_activation(metric, weights):
    again = CLIPScore.from_pretrained(f"open_clip:ViT-B-32/{weights}")
    assert again.identity == metric.identity
    other = OpenClipEncoder.from_name(f"open_clip:ViT-B-32-quickgelu/{weights}", KEY)
    assert other.identity["weights"] == again.identity["clip"]["weights"]
    assert other.identity != again.identity["clip"]
