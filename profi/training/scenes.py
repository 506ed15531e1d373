"""The embedded world's training scenes as a source of samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import groupby

import torch

from profi.mini.captions import caption
from profi.mini.scenes import SceneSampler, SpriteSheet
from profi.mini.training.loop import make_generator
from profi.mini.world import World
from profi.training.examples import Draw, Examples, TextToImage
from profi.training.recipe import Recipe
from profi.training.smartbrush import Batch
from profi.types import digest

CHUNK = 512  # scenes that are composed and encoded at once
# Half an hour on one core of a CPU; a model of 7 M parameters takes a larger rate than SD's.
MINI = Recipe(steps=1000, batch=64, rate=6e-4, warmup=50, decay=0.4, ema=0.999)


@dataclass(frozen=True)
class Scenes:
    """Pools of `size` encoded scenes, each used in `uses` passes, every pass in another order.

    One object of a scene, any visible one, is the sample's. The caption of its crop names it in
    one of the captions' wordings (nothing here would describe pixels); text-to-image samples have
    the whole scene's caption. A scene without a visible object is text-to-image.
    """

    world: World
    model: TextToImage
    recipe: Recipe
    size: int = 8192
    uses: int = 4

    def batches(self, wanted: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """See `Source`."""
        pool, order = lru_cache(maxsize=1)(self._pool), lru_cache(maxsize=2)(self._order)
        for indices in wanted:
            parts = []
            for use, run in groupby(indices, key=lambda index: index // self.size):
                places = torch.tensor([index % self.size for index in run])
                parts.append(pool(use // self.uses).rows(order(use)[places]))
            yield Batch.joined(parts)

    @property
    def identity(self) -> dict[str, object]:
        """What decides the samples beside the recipe."""
        return {"world": digest(asdict(self.world)), "pool": self.size, "uses": self.uses}

    def _order(self, use: int) -> torch.Tensor:
        g = make_generator(torch.device("cpu"), self.recipe.seed, 71, use)
        return torch.randperm(self.size, generator=g)

    def _pool(self, number: int) -> Batch:
        g = make_generator(torch.device("cpu"), self.recipe.seed, 72, number)
        sampler = SceneSampler(self.world, SpriteSheet.load(self.world, "train"))
        encoded = []
        for start in range(0, self.size, CHUNK):
            n = min(CHUNK, self.size - start)
            scenes = sampler.sample(n, g)
            kinds = scenes.category.tolist()
            objects, texts, levels = [], [], []
            for i in range(n):
                draw = Draw.of(self.recipe, number * self.size + start + i)
                seen = [k for k, kind in enumerate(kinds[i]) if kind >= 0]
                names = [self.world.categories[kinds[i][k]] for k in seen]
                chosen = draw.rng.randrange(len(seen)) if seen else None
                objects.append(scenes.masks[i, seen[chosen] if chosen is not None else 0])
                if chosen is None or draw.level is None:
                    text, level = caption(names, draw.rng), None
                else:
                    label = names[chosen]
                    text = caption([label], draw.rng) if draw.captioned else label
                    level = draw.level
                texts.append("" if draw.silent else text)
                levels.append(level)
            examples = Examples(scenes.image, torch.stack(objects), texts, levels)
            encoded.append(self.model.batch(examples, self.recipe))
        return Batch.joined(encoded)
