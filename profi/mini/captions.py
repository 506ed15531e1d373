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
    """One caption that names every category of a scene once, in a random order.

    40 % of the captions are bare labels, the form of the benchmark's prompts. A scene without
    objects gives "an empty scene".
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
    """How much the captions of a training set differ from their pictures.

    Web captions omit objects and name objects that are not in the picture. A model trained on
    such captions therefore trusts the picture more than the text. `left_out`: the probability that
    a category is not named (one always is). `foreign`: the probability that the whole caption
    belongs to another picture.
    """

    left_out: float = 0.0
    foreign: float = 0.0


def noisy_caption(
    names: Sequence[str], every: Sequence[str], noise: CaptionNoise, rng: random.Random
) -> str:
    """A noisy caption of a scene with the objects `names`; `every` are all categories."""
    if rng.random() < noise.foreign:
        return caption(rng.sample(list(every), rng.choice((1, 1, 2))), rng)
    shown = sorted(set(names))
    rng.shuffle(shown)
    named = [name for name in shown[1:] if rng.random() >= noise.left_out]
    return caption(shown[:1] + named, rng)


def build_tokenizer(folder: Path, token_limit: int) -> CLIPTokenizer:
    """A CLIP tokenizer in which every word of the captions is one token; saved to `folder`.

    The vocabulary has COCO's category names, the templates' words and CLIP's byte alphabet, so
    other words are tokenized too, into more pieces.
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
