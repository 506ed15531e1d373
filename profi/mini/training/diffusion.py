"""What the UNets' stages share: encoded scenes with captions, the noise and the loss."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from profi.mini import models
from profi.mini.captions import CaptionNoise, noisy_caption
from profi.mini.training.clip import tokens
from profi.mini.training.latents import Latents
from profi.mini.training.loop import Plan, make_generator, mixed_precision, train
from profi.mini.world import World

DROP_CAPTION = 0.1  # classifier-free guidance needs the unconditional branch
TRUE = CaptionNoise()


def v_prediction() -> DDPMScheduler:
    """The noise schedule that all UNets here are trained with."""
    return DDPMScheduler.from_config(dict(models.SCHEDULER), prediction_type="v_prediction")


class Prompts:
    """Captions of scenes, embedded by the frozen text encoder."""

    def __init__(self, world: World, device: torch.device, work: Path) -> None:
        self._world, self._device = world, device
        self._tokenizer = CLIPTokenizer.from_pretrained(work / "models" / "tokenizer")
        folder = work / "models" / "text_encoder"
        text = CLIPTextModel.from_pretrained(folder, torch_dtype=torch.float32)
        self._text = text.to(device).eval().requires_grad_(False)

    def __call__(self, kinds: Tensor, noise: CaptionNoise, rng: random.Random) -> Tensor:
        """[N, L, D] for scenes of `kinds` [N, K] (-1: no object); a tenth are empty texts."""
        every = self._world.categories
        texts = [
            ""
            if rng.random() < DROP_CAPTION
            else noisy_caption([every[k] for k in row if k >= 0], every, noise, rng)
            for row in kinds.tolist()
        ]
        return self.embed(texts)

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """[N, L, D] of N texts."""
        ids = tokens(self._tokenizer, list(texts), self._world.token_limit).to(self._device)
        with mixed_precision(self._device):
            embedded: Tensor = self._text(ids).last_hidden_state
        return embedded


def timesteps(n: int, g: torch.Generator) -> Tensor:
    """N times in [0, 1000), one in every n-th of the range.

    The loss varies strongly with t; an even spread steadies it.
    """
    spread = torch.arange(n, device=g.device) + torch.rand(n, generator=g, device=g.device)
    return (spread / n * 1000).long().clamp(max=999)


class Order:
    """Which scenes a step sees: all of them in a random order, then all in another."""

    def __init__(self, count: int, batch: int, seed: int) -> None:
        self._count, self._batch, self._seed = count, batch, seed
        self._permutation = lru_cache(maxsize=1)(self._shuffled)

    def _shuffled(self, number: int) -> Tensor:
        g = make_generator(torch.device("cpu"), self._seed, 32, number)
        return torch.randperm(self._count, generator=g)

    def __call__(self, step: int) -> Tensor:
        """Indices [batch] into the scenes."""
        number, i = divmod(step, self._count // self._batch)
        return self._permutation(number)[i * self._batch : (i + 1) * self._batch]


def plain_attention_on_cpu(model: UNet2DConditionModel) -> None:
    """On a CPU the backward pass of fused attention takes several times as long as the plain one.

    (With it a training step of these UNets takes 1.4 times as long.)
    """
    if model.device.type == "cpu":
        model.set_attn_processor(AttnProcessor())


@dataclass(frozen=True)
class Holes:
    """Where an inpainting UNet's masks lie: over an object with this probability, else anywhere."""

    over_objects: float = 0.0


def fit(
    unet: UNet2DConditionModel,
    world: World,
    device: torch.device,
    work: Path,
    stage: str,
    plan: Plan,
    seed: int,
    noise: CaptionNoise = TRUE,
    holes: Holes | None = None,
) -> dict:
    """Train a UNet on v-prediction; with `holes` it also gets mask and masked image.

    Saves it as `models/t2i`, or with holes as `models/inpaint`.
    """
    unet.to(device)
    plain_attention_on_cpu(unet)
    prompts, scenes = Prompts(world, device, work), Latents.load(work, world)
    scheduler, order = v_prediction(), Order(len(scenes), plan.batch, seed)

    def loss_at(step: int) -> dict[str, Tensor]:
        rows = order(step)
        g = make_generator(device, seed, 33, step)
        x0 = scenes.x0[rows].to(device).float()
        gaussian = torch.randn(x0.shape, generator=g, device=device)
        t = timesteps(len(x0), g)
        x_t = scheduler.add_noise(x0, gaussian, t)
        inputs = x_t
        if holes is not None:
            mask, masked = draw_holes(scenes, rows, holes, make_generator(device, seed, 34, step))
            inputs = torch.cat([x_t, mask.to(device), masked.to(device)], 1)
        context = prompts(scenes.kinds[rows], noise, random.Random(f"{seed}:{step}"))
        with mixed_precision(device):
            prediction = unet(inputs, t, context).sample
        return {"v": F.mse_loss(prediction.float(), scheduler.get_velocity(x0, gaussian, t))}

    figures: dict = train(unet, loss_at, plan, work / stage)
    figures["parameters"] = models.parameters(unet)
    folder = work / "models" / ("t2i" if holes is None else "inpaint")
    unet.half().save_pretrained(folder / "unet")
    (folder / "scheduler").mkdir(exist_ok=True)
    config = {**models.SCHEDULER, "prediction_type": "v_prediction"}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config, indent=1) + "\n")
    return figures


def draw_holes(
    scenes: Latents, rows: Tensor, holes: Holes, g: torch.Generator
) -> tuple[Tensor, Tensor]:
    """One of each scene's masks [N, 1, h, w] and its masked image's latents [N, C, h, w]."""
    anywhere = scenes.mask.shape[1] - 1
    chosen = torch.randint(anywhere, rows.shape, generator=g, device=g.device)
    over = torch.rand(rows.shape, generator=g, device=g.device) < holes.over_objects
    chosen = torch.where(over, anywhere, chosen).cpu()
    return scenes.mask[rows, chosen][:, None].float(), scenes.masked[rows, chosen].float()
