from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from profi.metrics import ClipEncoder, PickScore, Sample
from profi.reports.preference import preference_probability
from profi.types import UserError


@pytest.fixture(scope="module")
def metric(encoder: ClipEncoder) -> PickScore:
    return PickScore(encoder)


def published_recipe(folder: Path, images: list[np.ndarray], prompt: str) -> list[float]:
    """As the model's card computes it: unit features, logit_scale.exp() times their product."""
    model = CLIPModel.from_pretrained(folder).eval()
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    tokens = CLIPTokenizer.from_pretrained(folder)([prompt], return_tensors="pt")
    pictures = processor(images=[Image.fromarray(image) for image in images], return_tensors="pt")
    with torch.no_grad():
        image = model.visual_projection(model.vision_model(**pictures).pooler_output)
        text = model.text_projection(model.text_model(**tokens).pooler_output)
        image = image / torch.linalg.norm(image, dim=-1, keepdim=True)
        text = text / torch.linalg.norm(text, dim=-1, keepdim=True)
        return (model.logit_scale.exp() * (text @ image.T)[0]).tolist()


def test_against_the_published_recipe(metric, clip_folder, samples):
    """The whole image by CLIP's own processor, whatever the mask."""
    chosen = [sample for sample in samples if sample.prompt == "dog"]
    expected = published_recipe(clip_folder, [sample.image for sample in chosen], "dog")
    assert metric(chosen) == pytest.approx(expected, abs=1e-3)
    assert max(expected) - min(expected) > 1e-2
    unmasked = [Sample(s.image, np.zeros_like(s.mask), s.prompt) for s in chosen]
    assert metric(unmasked) == pytest.approx(expected, abs=1e-3)


def test_two_images_of_a_prompt_are_joined_by_a_softmax(metric, clip_folder, samples):
    one, two = (Sample(s.image, s.mask, "dog") for s in (samples[0], samples[3]))
    logits = published_recipe(clip_folder, [one.image, two.image], "dog")
    expected = torch.softmax(torch.tensor(logits, dtype=torch.float64), 0).numpy()
    scores = [np.array(metric([sample])) for sample in (one, two)]
    assert preference_probability(*scores) == pytest.approx(expected[0], abs=1e-4)
    assert preference_probability(*scores[::-1]) == pytest.approx(expected[1], abs=1e-4)


def test_values_do_not_depend_on_the_batch(metric, samples):
    assert metric(samples) == pytest.approx([metric([s])[0] for s in samples], abs=1e-3)
    assert metric([]) == []


def test_the_processor_may_lie_elsewhere(clip_folder, samples, metric, tmp_path):
    bare, processor = tmp_path / "model", tmp_path / "processor"
    for folder in (bare, processor):
        shutil.copytree(clip_folder, folder)
    for file in ("preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (bare / file).unlink()
    (processor / "model.safetensors").unlink()
    apart = PickScore.from_pretrained(str(bare), str(processor))
    assert apart(samples) == pytest.approx(metric(samples), abs=1e-5)
    with pytest.raises(UserError, match=r"metric\.pick\.path=") as caught:
        PickScore.from_pretrained(str(bare), None)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"metric\.pick\.processor="):
        PickScore.from_pretrained(str(clip_folder), str(tmp_path / "absent"))
