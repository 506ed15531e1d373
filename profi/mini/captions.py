"""Captions of scenes, in several wordings, and the tokenizer that knows their words."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from profi.metrics.coco_categories import COCO_CATEGORIES

TEMPLATES = ("{}", "a photo of {}", "a picture of {}", "{} in a scene")
SOT, EOT = "<|startoftext|>", "<|endoftext|>"


def with_article(name: str) -> str:
    """ "an apple", "a bus"."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def caption(names: Sequence[str], rng: random.Random) -> str:
    """One caption that names every object of a scene, each category once, in a random order.

    A lone object is often captioned by its bare label, the form of the benchmark's prompts;
    no object gives "an empty scene".
    """
    names = sorted(set(names))
    if not names:
        return "an empty scene"
    rng.shuffle(names)
    if rng.random() < 0.4:
        return ", ".join(names)
    parts = [with_article(name) for name in names]
    text = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return rng.choice(TEMPLATES).format(text)


@dataclass(frozen=True)
class CaptionNoise:
    """How far the captions of a training set are from their pictures.

    Captions from the web leave objects out and name what is not in the picture, which is why a
    model trained on them trusts what it sees more than what it reads. `left_out`: the probability
    that an object's category is not named (one is always); `foreign`: that the whole caption
    belongs to another picture.
    """

    left_out: float = 0.0
    foreign: float = 0.0


def noisy_caption(
    names: Sequence[str], every: Sequence[str], noise: CaptionNoise, rng: random.Random
) -> str:
    """A caption of a scene that shows `names`, in a world of the categories `every`."""
    if rng.random() < noise.foreign:
        return caption(rng.sample(list(every), rng.choice((1, 1, 2))), rng)
    shown = sorted(set(names))
    rng.shuffle(shown)
    named = [name for name in shown[1:] if rng.random() >= noise.left_out]
    return caption(shown[:1] + named, rng)


def build_tokenizer(folder: Path, token_limit: int) -> CLIPTokenizer:
    """A CLIP tokenizer whose merges make every word of the captions one token; saved to `folder`.

    The vocabulary is COCO's category names and the templates' words over CLIP's byte alphabet,
    so other words still tokenize, into more pieces.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(unk_token=EOT, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=2000, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    texts = [*COCO_CATEGORIES, *(t.format("a an and") for t in TEMPLATES), "an empty scene"]
    tokenizer.train_from_iterator(texts, trainer)
    merges = [tuple(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]]
    # CLIP's order: bytes, bytes that end a word, merges, then the two special tokens.
    symbols = [*alphabet, *(f"{a}</w>" for a in alphabet), *("".join(m) for m in merges)]
    vocabulary = {s: i for i, s in enumerate([*dict.fromkeys(symbols), SOT, EOT])}
    result = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=token_limit)
    result.save_pretrained(folder)
    return result
