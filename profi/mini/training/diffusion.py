"""Stages `t2i`, `inpaint` and `inpaint_random`: the UNets, on encoded scenes with captions.

`inpaint` goes on from the text-to-image UNet as Stable Inpainting was made (paper, sec. 3.1): new
input channels start at zero, captions are of the whole scene. Half of the masks lie over an object
in this short stage, so that the model learns what a caption has to do with a hole.

`inpaint_random` goes on from it, long, with random masks alone, as Stable Inpainting was trained
on captions from the web: such a mask seldom covers what the caption names, and the caption is not
always the picture's. So the model learns to trust what it sees around the hole more than the text:
the neglect of prompts that the paper addresses.
"""

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
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from profi.mini import models
from profi.mini.captions import CaptionNoise, noisy_caption
from profi.mini.training.clip import tokens
from profi.mini.training.latents import Latents
from profi.mini.training.stage import make_generator, mixed_precision, train_stage
from profi.mini.world import World
from profi.training.loop import Plan, stratified_timesteps
from profi.training.smartbrush_training import plain_attention_on_cpu

DROP_CAPTION = 0.1  # classifier-free guidance needs the unconditional branch
TRUE = CaptionNoise()
T2I_PLANS = {
    "cpu": Plan(steps=8000, batch=64, rate=1e-3, warmup=200, decay=0.25, ema=0.9995),
    "gpu": Plan(steps=60000, batch=256, rate=6e-4, warmup=500, decay=0.25, ema=0.9995),
}
INPAINT_PLANS = {
    "cpu": Plan(steps=3000, batch=64, rate=8e-4, warmup=200, decay=0.2, ema=0.9995),
    "gpu": Plan(steps=40000, batch=256, rate=4e-4, warmup=500, decay=0.3, ema=0.9995),
}
RANDOM_PLANS = {
    "cpu": Plan(steps=9000, batch=64, rate=8e-4, warmup=100, decay=0.5, ema=0.9995),
    "gpu": Plan(steps=40000, batch=256, rate=2e-4, warmup=500, decay=0.5, ema=0.9995),
}


@dataclass(frozen=True)
class Holes:
    """Where an inpainting UNet's masks lie: over an object with this probability, else anywhere."""

    over_objects: float = 0.0


HOLES = Holes(over_objects=0.5)
RANDOM_CAPTIONS = CaptionNoise(left_out=0.2, foreign=0.2)


def run_t2i(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train from scratch (or the checkpoint) and save to `work/models/t2i`."""
    torch.manual_seed(seed + 1)
    unet = models.unet(world, in_channels=world.latent_channels)
    return fit(unet, world, device, work, "t2i", T2I_PLANS[world.size], seed, minutes)


def run_inpaint(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train from the text-to-image UNet (or the checkpoint) and save to `work/models/inpaint`."""
    unet, plan = widen(trained_unet(work, "t2i"), world), INPAINT_PLANS[world.size]
    return fit(unet, world, device, work, "inpaint", plan, seed + 1000, minutes, holes=HOLES)


def run_random(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train from `work/models/inpaint` (or the checkpoint) and replace it."""
    unet, plan, stage = trained_unet(work, "inpaint"), RANDOM_PLANS[world.size], "inpaint_random"
    noise, holes = RANDOM_CAPTIONS, Holes()
    return fit(unet, world, device, work, stage, plan, seed + 2000, minutes, noise, holes)


def trained_unet(work: Path, name: str) -> UNet2DConditionModel:
    """The UNet of an earlier stage, in float32."""
    folder = work / "models" / name / "unet"
    return UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32)


def widen(source: UNet2DConditionModel, world: World) -> UNet2DConditionModel:
    """A UNet that computes what `source` does, whatever its new channels (mask, masked) hold."""
    more = 1 + world.latent_channels
    unet = models.unet(world, in_channels=world.latent_channels + more)
    state = source.state_dict()
    first = state["conv_in.weight"]
    state["conv_in.weight"] = torch.cat(
        [first, first.new_zeros(first.shape[0], more, *first.shape[2:])], 1
    )
    unet.load_state_dict(state)
    return unet


def v_prediction() -> DDPMScheduler:
    """The noise schedule that all UNets here are trained with."""
    return DDPMScheduler.from_config(dict(models.SCHEDULER), prediction_type="v_prediction")


class Prompts:
    """Captions of scenes, embedded by the frozen text encoder in `folder`."""

    def __init__(self, world: World, device: torch.device, folder: Path) -> None:
        self._world, self._device = world, device
        self._tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        text = CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32)
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


def fit(
    unet: UNet2DConditionModel,
    world: World,
    device: torch.device,
    work: Path,
    stage: str,
    plan: Plan,
    seed: int,
    minutes: float,
    noise: CaptionNoise = TRUE,
    holes: Holes | None = None,
) -> dict:
    """Train a UNet on v-prediction; with `holes` it also gets mask and masked image.

    Saves it as `models/t2i`, or with holes as `models/inpaint`.
    """
    unet.to(device)
    plain_attention_on_cpu(unet)
    prompts, scenes = Prompts(world, device, work / "models"), Latents.load(work, world)
    scheduler, order = v_prediction(), Order(len(scenes), plan.batch, seed)

    def loss_at(step: int) -> dict[str, Tensor]:
        rows = order(step)
        g = make_generator(device, seed, 33, step)
        x0 = scenes.x0[rows].to(device).float()
        gaussian = torch.randn(x0.shape, generator=g, device=device)
        t = stratified_timesteps(len(x0), g)
        x_t = scheduler.add_noise(x0, gaussian, t)
        inputs = x_t
        if holes is not None:
            mask, masked = draw_holes(scenes, rows, holes, make_generator(device, seed, 34, step))
            inputs = torch.cat([x_t, mask.to(device), masked.to(device)], 1)
        context = prompts(scenes.kinds[rows], noise, random.Random(f"{seed}:{step}"))
        with mixed_precision(device):
            prediction = unet(inputs, t, context).sample
        return {"v": F.mse_loss(prediction.float(), scheduler.get_velocity(x0, gaussian, t))}

    figures: dict = train_stage(unet, loss_at, plan, work / stage, minutes)
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
