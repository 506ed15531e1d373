"""Random scenes: sprites on varied backgrounds with exact instance masks, and their captions.

All code is batched torch, so scenes are composed as fast as a model trains and no data loader is
needed. The two splits differ in seed and layout; for categories with three or more sprites they
also differ in the sprites. Captions come in several wordings; the tokenizer knows their words.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTokenizer

from profi.metrics.detectors import COCO_CATEGORIES
from profi.mini.world import SPRITES, World

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


Split = Literal["train", "val"]
CHUNK = 32  # scenes composed at once: fits a CPU's caches, twice as fast as hundreds at once
MIN_VISIBLE = 0.35  # an object with a smaller visible share is neither annotated nor named


@dataclass(frozen=True)
class SpriteSheet:
    """The sprites of one split.

    `rgba` [S, 4, n, n] in [0, 1], premultiplied; `category` [S], indices into `world.categories`.
    """

    rgba: Tensor
    category: Tensor

    @staticmethod
    def load(world: World, split: Split, device: torch.device | str = "cpu") -> SpriteSheet:
        """The sprites that a split of a world may use, at the world's sprite size."""
        index = json.loads((SPRITES / "sprites.json").read_text())
        sheet = Image.open(SPRITES / "sprites.png").convert("RGBA")
        side, columns = index["side"], index["columns"]
        tiles, kinds = [], []
        for i, sprite in enumerate(index["sprites"]):
            if sprite["category"] not in world.categories or sprite["split"] not in ("both", split):
                continue
            x, y = i % columns * side, i // columns * side
            tile = sheet.crop((x, y, x + side, y + side)).convert("RGBa")
            size = (world.sprite_size, world.sprite_size)
            tiles.append(np.asarray(tile.resize(size, Image.Resampling.LANCZOS)))
            kinds.append(world.categories.index(sprite["category"]))
        rgba = torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).float() / 255
        return SpriteSheet(rgba.to(device), torch.tensor(kinds, device=device))


@dataclass(frozen=True)
class Scenes:
    """A batch of N scenes with up to K objects each, from back to front.

    Fields:
        image: [N, 3, H, W] in [0, 1].
        masks: [N, K, H, W] bool, the visible part of each object.
        category: [N, K], indices into the world's categories; -1 without a visible object.
        clear: [N, 3, H, W], the background without objects.
    """

    image: Tensor
    masks: Tensor
    category: Tensor
    clear: Tensor


def _uniform(shape: tuple[int, ...], low: float, high: float, g: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=g, device=g.device) * (high - low) + low


def backgrounds(n: int, size: int, g: torch.Generator) -> Tensor:
    """N varied backgrounds [N, 3, size, size] in [0, 1].

    Each is a colour gradient in a random direction with low-frequency mottling. Many have a ground
    of another colour below a tilted horizon; some have soft stripes.
    """
    device = g.device
    axis = torch.linspace(-1, 1, size, device=device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    colours = _uniform((n, 3, 3, 1, 1), 0.25, 1.0, g)
    angle = _uniform((n, 1, 1, 1), 0, 2 * math.pi, g)
    ramp = ((torch.cos(angle) * x + torch.sin(angle) * y) / 2.8 + 0.5).clamp(0, 1)
    image = colours[:, 0] * (1 - ramp) + colours[:, 1] * ramp
    horizon = _uniform((n, 1, 1, 1), -0.4, 0.7, g) + _uniform((n, 1, 1, 1), -0.3, 0.3, g) * x
    ground = torch.sigmoid((y - horizon) * size / 2) * (
        torch.rand((n, 1, 1, 1), generator=g, device=device) < 0.6
    )
    image = image * (1 - ground) + colours[:, 2] * ground
    mottle = torch.randn((n, 1, 5, 5), generator=g, device=device)
    mottle = F.interpolate(mottle, size=(size, size), mode="bicubic", align_corners=True)
    image = image + mottle * _uniform((n, 1, 1, 1), 0.0, 0.06, g)
    turn = _uniform((n, 1, 1, 1), 0, math.pi, g)
    wave = torch.sin((torch.cos(turn) * x + torch.sin(turn) * y) * _uniform((n, 1, 1, 1), 6, 14, g))
    striped = (torch.rand((n, 1, 1, 1), generator=g, device=device) < 0.3) * 0.08
    return (image + wave * striped).clamp(0, 1)


@dataclass(frozen=True)
class SceneSampler:
    """Draws scenes of one world and split from a generator, on the generator's device.

    Fields:
        scale: smallest and largest half side of an object, as a share of the image's half side.
        max_rotation: in radians, in both directions.
        repeats: the probability that an object repeats the first object's sprite (things often
            come in groups).
        counts: the probabilities of one, two, ... objects.
        places: the number of centres that are tried for an object. The first centre is taken whose
            distance from all earlier objects is at least `clearance` times the sum of the two half
            sides; if there is none, the farthest. So most objects are free and some are occluded.
    """

    world: World
    sheet: SpriteSheet
    scale: tuple[float, float] = (0.30, 0.58)
    max_rotation: float = math.radians(15)
    repeats: float = 0.3
    counts: tuple[float, ...] = (0.30, 0.35, 0.22, 0.13)
    places: int = 6
    clearance: float = 0.75

    def sample(self, n: int, g: torch.Generator) -> Scenes:
        """N scenes; equal generator states give equal scenes on the same device."""
        parts = [self._composed(min(CHUNK, n - i), g) for i in range(0, n, CHUNK)]
        return Scenes(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Scenes)))

    def _composed(self, n: int, g: torch.Generator) -> Scenes:
        world, device, size = self.world, g.device, self.world.image_size
        k = world.max_objects
        clear = backgrounds(n, size, g)
        weights = torch.tensor(self.counts, device=device)
        count = torch.multinomial(weights.expand(n, k), 1, generator=g) + 1
        kind = torch.randint(len(world.categories), (n, k), generator=g, device=device)
        # One sprite of the drawn category; all its sprites are equally likely.
        match = (self.sheet.category == kind[..., None]).float()
        sprite = torch.multinomial(match.view(n * k, -1), 1, generator=g).view(n, k)
        again = torch.rand((n, k), generator=g, device=device) < self.repeats
        kind, sprite = (torch.where(again, x[:, :1], x) for x in (kind, sprite))
        scale = _uniform((n, k), *self.scale, g)
        angle = _uniform((n, k), -self.max_rotation, self.max_rotation, g)
        flip = torch.where(torch.rand((n, k), generator=g, device=device) < 0.5, -1.0, 1.0)
        centre = self._centres(scale, g)
        gain = _uniform((n, k, 3), 0.85, 1.1, g)
        present = torch.arange(k, device=device) < count

        image, covers = (
            clear.clone(),
            torch.zeros((n, k, size, size), dtype=torch.bool, device=device),
        )
        for j in range(k):
            drawn = present[:, j].nonzero()[:, 0]
            if not len(drawn):
                break
            grid = F.affine_grid(
                _placed(scale, angle, flip, centre)[drawn, j], [len(drawn), 4, size, size], False
            )
            rgba = F.grid_sample(self.sheet.rgba[sprite[drawn, j]], grid, align_corners=False)
            alpha, colour = rgba[:, 3:], rgba[:, :3] * gain[drawn, j, :, None, None]
            image[drawn] = image[drawn] * (1 - alpha) + colour.clamp(0, 1)
            covers[drawn, j] = alpha[:, 0] > 0.5
        masks = covers.clone()
        whole = masks.flatten(2).sum(-1)
        for j in range(k - 1):
            masks[:, j] &= ~covers[:, j + 1 :].any(1)
        seen = masks.flatten(2).sum(-1) >= MIN_VISIBLE * whole.clamp(min=1)
        seen &= present & (whole > 0)
        masks &= seen[..., None, None]
        return Scenes(image.clamp(0, 1), masks, torch.where(seen, kind, -1), clear)

    def _centres(self, scale: Tensor, g: torch.Generator) -> Tensor:
        """Centres [N, K, 2] in [-1, 1] for objects with half sides `scale` [N, K]."""
        n, k = scale.shape
        centres: list[Tensor] = []
        for j in range(k):
            tried = _uniform((n, self.places, 2), -1, 1, g) * (1.1 - scale[:, j, None, None])
            room = torch.full((n, self.places), self.clearance, device=g.device)
            for i, other in enumerate(centres):
                reach = (scale[:, i] + scale[:, j])[:, None]
                room = room.minimum((tried - other[:, None]).norm(dim=-1) / reach)
            best = room.argmax(1)  # the first of several that are free
            centres.append(tried[torch.arange(n, device=g.device), best])
        return torch.stack(centres, 1)


def _placed(scale: Tensor, angle: Tensor, flip: Tensor, centre: Tensor) -> Tensor:
    """Affine maps [N, K, 2, 3] from image coordinates to sprite coordinates.

    Each is the inverse of scaling, rotating, flipping and shifting the sprite.
    """
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = torch.stack([cos * flip, sin * flip, -sin, cos], -1) / scale[..., None]
    rotation = rows.view(*scale.shape, 2, 2)
    return torch.cat([rotation, -(rotation @ centre[..., None])], -1)
