"""The published architectures with random weights, and the mistakes that are made with them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.multimodal import clip_score as torchmetrics_clip_score
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from profi.metrics import AestheticScore, ClipEncoder, CLIPScore, Sample
from profi.metrics.aesthetic import AestheticPredictor
from profi.metrics.preprocess import Preprocessing

# openai/clip-vit-base-patch16 and openai/clip-vit-large-patch14; of the latter two layers of 24.
BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "patch_size": 16}
LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "patch_size": 14,
}
PROCESSOR = {
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def clip_model(vision: dict[str, int], layers: int, width: int, act: str = "quick_gelu"):
    torch.manual_seed(0)
    config = CLIPConfig(
        vision_config=CLIPVisionConfig(
            **vision, num_hidden_layers=layers, hidden_act=act, projection_dim=width
        ).to_dict(),
        text_config=CLIPTextConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=min(layers, 12),
            num_attention_heads=width // 64,
            hidden_act=act,
            projection_dim=width,
            # Its tokenizer's own numbers are not to be had offline: those of the tests' letters.
            bos_token_id=52,
            eos_token_id=53,
        ).to_dict(),
        projection_dim=width,
    )
    return CLIPModel(config).eval()


@pytest.fixture(scope="module")
def base(encoder: ClipEncoder) -> ClipEncoder:
    """The CLIP score's encoder; a tokenizer of letters."""
    return ClipEncoder(
        clip_model(BASE, 12, 512), encoder._tokenizer, Preprocessing.from_config(PROCESSOR)
    )


@pytest.fixture(scope="module")
def pictures() -> list[Sample]:
    """Smooth colours with a mask that is no square."""
    rng = np.random.default_rng(0)
    result = []
    for prompt in ("dog", "teddy bear"):
        small = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
        image = np.array(small.resize((300, 260), Image.Resampling.BICUBIC))
        image[..., 2] //= 3
        mask = np.zeros(image.shape[:2], dtype=bool)
        mask[20:240, 50:170] = True
        result.append(Sample(image, mask, prompt))
    return result


def by_torchmetrics(encoder: ClipEncoder, image: np.ndarray, prompt: str) -> float:
    """torchmetrics on a picture, by CLIP's own processor.

    It wants the features as transformers 4 returned them; all else, lengths and the factor 100
    among it, is its own.
    """
    model, processor = encoder._model, CLIPImageProcessorPil(**PROCESSOR)
    adapted = SimpleNamespace(
        config=model.config,
        get_image_features=lambda pixels: model.get_image_features(pixels).pooler_output,
        get_text_features=lambda ids, mask: model.get_text_features(ids, mask).pooler_output,
        to=lambda _device: adapted,
    )

    def process(text=None, images=None, **_):
        if text is not None:
            return encoder._tokenizer(text, return_tensors="pt", padding=True)
        return processor(
            images=[Image.fromarray(i.permute(1, 2, 0).numpy()) for i in images],
            return_tensors="pt",
        )

    picture = torch.from_numpy(image.copy()).permute(2, 0, 1)
    with torch.no_grad():
        return float(torchmetrics_clip_score(picture, prompt, lambda: (adapted, process)))


def padded_crop(sample: Sample) -> np.ndarray:
    """220 x 120 in the middle of 220 x 220."""
    square = np.zeros((220, 220, 3), dtype=np.uint8)
    square[:, 50:170] = sample.image[20:240, 50:170]
    return square


def test_clip_score_against_torchmetrics(base, pictures):
    values = CLIPScore(base)(pictures)
    for value, sample in zip(values, pictures, strict=True):
        # torchmetrics cuts negative scores at 0.
        expected = by_torchmetrics(base, padded_crop(sample), sample.prompt)
        assert max(value, 0.0) == pytest.approx(expected, abs=2e-3)
    assert max(values) > 0.1


def stretched(sample: Sample) -> np.ndarray:
    crop = Image.fromarray(sample.image[20:240, 50:170])
    return np.array(crop.resize((220, 220), Image.Resampling.BICUBIC))


def with_white_borders(sample: Sample) -> np.ndarray:
    square = padded_crop(sample)
    square[:, :50] = square[:, 170:] = 255
    return square


def masked_too(sample: Sample) -> np.ndarray:
    image = sample.image * ~sample.mask[..., None]
    return padded_crop(Sample(image, sample.mask, sample.prompt))


MISTAKES = {
    "the whole image": lambda sample: sample.image,
    "the crop's middle, not the crop": lambda sample: sample.image[20:240, 50:170],
    "stretched, not padded": stretched,
    "padded with white": with_white_borders,
    "hole erased": masked_too,
    "BGR": lambda sample: padded_crop(sample)[..., ::-1],
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_another_picture_is_another_clip_score(base, pictures, mistake):
    """So that agreeing with torchmetrics on the padded crop means something."""
    sample = pictures[0]
    texts = base.embed_texts([sample.prompt])
    wrong = base.embed_whole([MISTAKES[mistake](sample)])
    value = CLIPScore(base)([sample])[0]
    assert abs(100 * float(torch.cosine_similarity(wrong, texts)) - value) > 0.02


@pytest.fixture(scope="module")
def large() -> dict[str, CLIPModel]:
    """The same weights under both activations."""
    right = clip_model(LARGE, 2, 768)
    wrong = clip_model(LARGE, 2, 768, act="gelu")
    wrong.load_state_dict(right.state_dict())
    return {"quick_gelu": right, "gelu": wrong}


@pytest.fixture(scope="module")
def predictor() -> AestheticPredictor:
    """The published head's shape, 768-1024-128-64-16-1, with weights that do not shrink."""
    torch.manual_seed(5)
    predictor = AestheticPredictor().eval()
    with torch.no_grad():
        for layer in predictor.layers:
            if isinstance(layer, torch.nn.Linear):
                layer.weight *= 3.0
    return predictor


def published_head(predictor: AestheticPredictor, embeds: np.ndarray) -> np.ndarray:
    """Five affine maps in float64, without activations: dropout does nothing after training."""
    state = {key: value.double().numpy() for key, value in predictor.state_dict().items()}
    for index in (0, 2, 4, 6, 7):
        embeds = embeds @ state[f"layers.{index}.weight"].T + state[f"layers.{index}.bias"]
    return embeds[:, 0]


def test_aesthetic_against_the_published_head_in_numpy(encoder, large, predictor, pictures):
    """The embedding by CLIP's own processor and forward, the head in numpy."""
    clip = ClipEncoder(
        large["quick_gelu"], encoder._tokenizer, Preprocessing.from_config(PROCESSOR)
    )
    values = AestheticScore(clip, predictor)(pictures)
    processor = CLIPImageProcessorPil(**PROCESSOR)

    def embeds(model: CLIPModel, images: list[np.ndarray]) -> np.ndarray:
        inputs = processor(images=[Image.fromarray(image) for image in images], return_tensors="pt")
        with torch.no_grad():
            return model.get_image_features(**inputs).pooler_output.double().numpy()

    images = [sample.image for sample in pictures]
    raw = embeds(large["quick_gelu"], images)
    lengths = np.linalg.norm(raw, axis=1)
    right = published_head(predictor, raw / lengths[:, None])
    np.testing.assert_allclose(values, right, atol=5e-5)
    # Un-normalised embeddings are off by their length: the head is affine. That is how public
    # scores of about 5 become 20 to 30.
    offset = published_head(predictor, np.zeros((1, 768)))
    unnormalised = published_head(predictor, raw)
    np.testing.assert_allclose(unnormalised - offset, lengths * (right - offset), atol=1e-9)
    assert lengths.min() > 2
    mistakes = {
        "un-normalised": unnormalised,
        "wrong activation": published_head(predictor, unit(embeds(large["gelu"], images))),
        "BGR": published_head(
            predictor, unit(embeds(large["quick_gelu"], [image[..., ::-1] for image in images]))
        ),
    }
    for name, wrong in mistakes.items():
        assert np.abs(wrong - right).max() > 5e-4, (name, wrong, right)


def unit(embeds: np.ndarray) -> np.ndarray:
    return embeds / np.linalg.norm(embeds, axis=1, keepdims=True)
