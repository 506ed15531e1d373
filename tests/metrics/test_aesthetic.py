from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from profi.metrics import AestheticScore, Sample
from profi.metrics.aesthetic import AestheticPredictor
from profi.types import UserError


@pytest.fixture
def predictor(encoder) -> AestheticPredictor:
    torch.manual_seed(4)
    return AestheticPredictor(encoder.embedding_dim).eval()


def plain(predictor: AestheticPredictor, embed: np.ndarray) -> float:
    """Matrices times vectors, by the public file's keys."""
    state = {key: value.double().numpy() for key, value in predictor.state_dict().items()}
    for index in (0, 2, 4, 6, 7):
        embed = state[f"layers.{index}.weight"] @ embed + state[f"layers.{index}.bias"]
    return float(embed[0])


def test_the_public_files_keys_and_shapes():
    shapes = {key: tuple(value.shape) for key, value in AestheticPredictor().state_dict().items()}
    widths = [768, 1024, 128, 64, 16, 1]
    expected = {}
    for index, inner, outer in zip((0, 2, 4, 6, 7), widths, widths[1:], strict=False):
        expected[f"layers.{index}.weight"] = (outer, inner)
        expected[f"layers.{index}.bias"] = (outer,)
    assert shapes == expected
    # 3,714,759 bytes in the public file are these float32 numbers and some kilobytes of zip.
    numbers = sum(int(np.prod(shape)) for shape in shapes.values())
    assert 0 < 3_714_759 - 4 * numbers < 10_000


def test_against_plain_numpy_on_unit_embeddings(encoder, predictor, samples):
    values = AestheticScore(encoder, predictor)(samples)
    embeds = encoder.embed_whole([sample.image for sample in samples]).double().numpy()
    unit = embeds / np.sqrt((embeds**2).sum(axis=1, keepdims=True))
    assert values == pytest.approx([plain(predictor, row) for row in unit], abs=1e-5)
    # The known mistake: embeddings as they come.
    raw = [plain(predictor, row) for row in embeds]
    assert max(abs(a - b) for a, b in zip(values, raw, strict=True)) > 1e-3


def test_the_activation_of_clip_matters(encoder, predictor, samples, tmp_path, tiny):
    other = type(encoder).from_pretrained(str(tiny.save_clip(tmp_path, act="gelu")), "key")
    right, wrong = (AestheticScore(clip, predictor)(samples) for clip in (encoder, other))
    assert max(abs(a - b) for a, b in zip(right, wrong, strict=True)) > 1e-5


def test_the_whole_image_is_resized_and_cut_as_clip_does(encoder, samples, tiny):
    image = samples[0].image
    height, width = image.shape[:2]
    resized = Image.fromarray(image).resize(
        (int(width * tiny.INPUT / height), tiny.INPUT), Image.Resampling.BICUBIC
    )
    left = (resized.width - tiny.INPUT) // 2
    square = np.asarray(resized.crop((left, 0, left + tiny.INPUT, tiny.INPUT)))
    torch.testing.assert_close(encoder.embed_whole([image]), encoder.embed_squares([square]))


def test_the_mask_does_not_matter(encoder, predictor, samples):
    metric = AestheticScore(encoder, predictor)
    empty = Sample(samples[0].image, np.zeros_like(samples[0].mask), "anything")
    assert metric([empty]) == pytest.approx(metric([samples[0]]), abs=1e-6)


def test_batch_independence(encoder, predictor, samples):
    metric = AestheticScore(encoder, predictor)
    assert metric(samples) == pytest.approx([metric([s])[0] for s in samples], abs=1e-5)


def test_dropout_is_off_even_for_a_model_in_training(encoder, predictor, samples):
    metric = AestheticScore(encoder, predictor.train())
    assert metric(samples) == metric(samples)


def test_both_file_formats_load_the_same(encoder, predictor, samples, tmp_path, clip_folder):
    predictor.save_pretrained(tmp_path / "mini")
    metric = AestheticScore.from_pretrained(tmp_path / "mini", str(clip_folder))
    assert metric(samples) == pytest.approx(AestheticScore(encoder, predictor)(samples), abs=1e-6)
    public = AestheticPredictor()
    torch.save(public.state_dict(), tmp_path / "public.pth")
    loaded = AestheticPredictor.from_pretrained(tmp_path / "public.pth")
    torch.testing.assert_close(loaded.state_dict(), public.state_dict())


def test_mistakes_are_one_line(encoder, tmp_path):
    torch.save({"layers.0.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    for path in (tmp_path / "absent", tmp_path / "other.pth", tmp_path / "text.pth"):
        with pytest.raises(UserError, match=r"metric\.aesthetic\.path=") as caught:
            AestheticPredictor.from_pretrained(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"768.*metric\.aesthetic\.clip_path"):
        AestheticScore(encoder, AestheticPredictor(768))
