from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from profi.metrics import ClipEncoder, CLIPScore, Sample
from profi.types import UserError


def hand_made_pixels(sample: Sample, tiny) -> np.ndarray:
    """The paper's region in plain numpy and PIL: [3, S, S]."""
    rows, columns = np.nonzero(sample.mask)
    region = sample.image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    side = max(region.shape[:2])
    canvas = Image.new("RGB", (side, side))
    canvas.paste(
        Image.fromarray(region), ((side - region.shape[1]) // 2, (side - region.shape[0]) // 2)
    )
    small = np.asarray(canvas.resize((tiny.INPUT, tiny.INPUT), Image.Resampling.BICUBIC))
    scaled = (small.astype(np.float64) / 255 - tiny.CLIP_MEAN) / tiny.CLIP_STD
    return scaled.transpose(2, 0, 1).astype(np.float32)


@pytest.fixture
def oracle(clip_folder: Path, samples, tiny) -> list[float]:
    """transformers' own forward: its logits are exp(logit_scale) cos."""
    model = CLIPModel.from_pretrained(clip_folder).eval()
    tokenizer = CLIPTokenizer.from_pretrained(clip_folder)
    values = []
    for sample in samples:
        tokens = tokenizer([sample.prompt], return_tensors="pt")
        pixels = torch.from_numpy(hand_made_pixels(sample, tiny))[None]
        with torch.no_grad():
            output = model(pixel_values=pixels, **tokens)
        values.append(float((output.logits_per_image / model.logit_scale.exp()).detach() * 100))
    return values


def test_against_the_whole_model_of_transformers(encoder, samples, oracle):
    assert CLIPScore(encoder)(samples) == pytest.approx(oracle, abs=2e-3)


def test_against_plain_numpy_on_the_embeddings(encoder, samples, oracle):
    texts = encoder.embed_texts([sample.prompt for sample in samples]).double().numpy()
    for sample, text, expected in zip(samples, texts, oracle, strict=True):
        left, top, right, bottom = Image.fromarray(sample.mask.astype(np.uint8)).getbbox()
        region = Image.fromarray(sample.image[top:bottom, left:right])
        side = max(region.size)
        square = Image.new("RGB", (side, side))
        square.paste(region, ((side - region.width) // 2, (side - region.height) // 2))
        image = encoder.embed_squares([np.asarray(square)])[0].double().numpy()
        value = 100 * image @ text / math.sqrt((image @ image) * (text @ text))
        assert value == pytest.approx(expected, abs=2e-3)
        # The known mistakes are far off: raw dot products, and cosines not times 100.
        assert abs(image @ text - expected) > 0.5
        assert abs(value / 100 - expected) > 0.5


def test_a_value_does_not_depend_on_its_batch(encoder, samples):
    metric = CLIPScore(encoder)
    together = metric(samples)
    alone = [metric([sample])[0] for sample in reversed(samples)][::-1]
    assert together == pytest.approx(alone, abs=1e-3)


def test_pixels_outside_the_box_do_not_matter_and_inside_do(encoder, samples):
    metric, sample = CLIPScore(encoder), samples[0]
    rows, columns = np.nonzero(sample.mask)
    outside, inside = sample.image.copy(), sample.image.copy()
    outside[rows.max() + 1 :] = 0
    inside[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] //= 3
    value, same, other = metric(
        [Sample(image, sample.mask, "dog") for image in (sample.image, outside, inside)]
    )
    assert same == pytest.approx(value, abs=1e-4)
    assert abs(other - value) > 1e-2


def test_channels_are_read_as_rgb(encoder, samples, oracle):
    swapped = [Sample(s.image[..., ::-1], s.mask, s.prompt) for s in samples]
    values = CLIPScore(encoder)(swapped)
    assert max(abs(a - b) for a, b in zip(values, oracle, strict=True)) > 0.1


def test_an_empty_mask_is_nan_and_only_it(encoder, samples):
    empty = Sample(samples[0].image, np.zeros_like(samples[0].mask), "dog")
    values = CLIPScore(encoder)([samples[0], empty, samples[1]])
    assert [math.isnan(value) for value in values] == [False, True, False]
    assert CLIPScore(encoder)([]) == []


def test_long_prompts_are_cut(encoder):
    assert encoder.embed_texts(["dog " * 200]).shape == (1, encoder.embedding_dim)


def test_a_text_s_bits_do_not_depend_on_what_was_asked_before(clip_folder):
    """A job that goes on where another stopped has asked for less."""
    prompts = [f"a {word}" for word in ("dog", "cat", "bus", "kite", "tall red clock")]
    whole = ClipEncoder.from_pretrained(str(clip_folder), "key").embed_texts(prompts)
    for first in range(len(prompts)):
        late = ClipEncoder.from_pretrained(str(clip_folder), "key").embed_texts(prompts[first:])
        assert torch.equal(late, whole[first:])


def test_a_broken_tokenizer_is_one_line(clip_folder, tmp_path):
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"metric\.clip\.path=") as caught:
        ClipEncoder.from_pretrained(str(folder), "metric.clip.path")
    assert "\n" not in str(caught.value)


def test_an_unreachable_repository_is_one_line():
    with pytest.raises(UserError, match=r"openai/no-such.*metric\.clip\.path=") as caught:
        CLIPScore.from_pretrained("openai/no-such")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "size"])
def test_a_damaged_model_is_one_line(clip_folder, tmp_path, damage):
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    if damage == "cut":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:200])
    else:
        config = folder / "preprocessor_config.json"
        config.write_text('{"do_resize": true, "size": {"odd": 1}}')
    with pytest.raises(UserError, match=r"cannot be loaded.*metric\.clip\.path=") as caught:
        CLIPScore.from_pretrained(str(folder))
    assert "\n" not in str(caught.value)


def test_identity_knows_the_weights(encoder, clip_folder, tmp_path, tiny):
    again = ClipEncoder.from_pretrained(str(clip_folder), "metric.clip.path")
    assert again.identity == encoder.identity
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    model = CLIPModel.from_pretrained(folder)
    with torch.no_grad():
        model.visual_projection.weight[0, 0] += 1e-3
    model.save_pretrained(folder)
    other = ClipEncoder.from_pretrained(str(folder), "metric.clip.path")
    assert other.identity["weights"] != encoder.identity["weights"]
    assert other.identity["vocabulary"] == encoder.identity["vocabulary"]


def test_identity_knows_the_activation(encoder, tmp_path, tiny):
    other = ClipEncoder.from_pretrained(str(tiny.save_clip(tmp_path, act="gelu")), "key")
    assert other.identity["weights"] == encoder.identity["weights"]
    assert other.identity != encoder.identity
