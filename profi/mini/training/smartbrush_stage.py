"""Stage `smartbrush`: SmartBrush from the text-to-image UNet, by the training of the real one.

The samples are training scenes; scripts/train_smartbrush.py uses them too (data=scenes).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import torch
from accelerate import Accelerator

from profi.mini import models
from profi.mini.scenes import SceneSampler, SpriteSheet, caption
from profi.mini.training.stage import console, make_generator
from profi.mini.world import World
from profi.training.examples import Draw, Examples, TextToImage, start_fingerprint
from profi.training.loop import emulates_bfloat16
from profi.training.metrics_log import loss_line
from profi.training.recipe import Recipe
from profi.training.smartbrush_loss import Batch, from_text_to_image
from profi.training.smartbrush_training import save_model, train_smartbrush
from profi.types import digest

CHUNK = 512  # scenes that are composed and encoded at once
# Half an hour on one core of a CPU; a model of 7 M parameters takes a larger rate than SD's.
MINI = Recipe(steps=1000, batch=64, rate=6e-4, warmup=50, decay=0.4, ema=0.999)
RECIPES = {
    "cpu": MINI,
    "gpu": replace(MINI, steps=20000, batch=256, rate=4e-4, warmup=500, decay=0.3),
}
POOLS = {"cpu": 8192, "gpu": 65536}


@dataclass(frozen=True)
class SceneSource:
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

    def batches(self, index_lists: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """See `Source`."""
        pool, order = lru_cache(maxsize=1)(self._pool), lru_cache(maxsize=2)(self._order)
        for indices in index_lists:
            parts = []
            for use, run in groupby(indices, key=lambda index: index // self.size):
                places = torch.tensor([index % self.size for index in run])
                parts.append(pool(use // self.uses).rows(order(use)[places]))
            yield Batch.joined(parts)

    @property
    def fingerprint(self) -> dict[str, object]:
        """What decides the samples apart from the recipe."""
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


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train from `work/models/t2i` (or the checkpoint) and save to `work/models/smartbrush`.

    Where `minutes` end it early, nothing is saved but the checkpoint.
    """
    recipe = replace(RECIPES[world.size], seed=seed)
    on_cpu = device.type == "cpu"
    precision = "no" if emulates_bfloat16(device) else "bf16"
    accelerator = Accelerator(mixed_precision=precision, cpu=on_cpu)
    folder = work / "models" / "t2i"
    model = TextToImage.load(folder, work / "models").to(accelerator.device)

    def show(step: int, _: float, losses: dict[str, float]) -> None:
        console.print(f"smartbrush {loss_line(step, recipe.steps, losses)}")

    scenes = SceneSource(world, model, recipe, POOLS[world.size])
    unet, figures = train_smartbrush(
        from_text_to_image(model.unet, recipe.coarsest),
        model,
        scenes,
        recipe,
        work / "smartbrush",
        accelerator,
        fingerprint={**start_fingerprint(folder, work / "models"), **scenes.fingerprint},
        save_every=100,
        stop=lambda _, seconds: seconds > 60 * minutes,
        on_log=show,
    )
    figures["parameters"] = models.parameters(unet)
    if figures["steps"] < recipe.steps:
        console.print(
            f"smartbrush stopped at update {figures['steps']} of {recipe.steps} and left no model: "
            "the same command goes on"
        )
    else:
        save_model(unet, folder, work / "models" / "smartbrush")
    return figures
