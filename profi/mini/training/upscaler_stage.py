"""Stages `upscaler_vae` and `upscaler`: a latent x4 upscaler on the world's fine scenes.

As Stable Diffusion's: the UNet sees the noisy latents next to the low picture, which has noise of a
random level; the level is a class embedding; v-prediction; captions of the scene condition it.
The text encoder is the inpainting model's, as shipped.
"""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor

from profi.mini import models
from profi.mini.fine_scenes import FineScenes, small
from profi.mini.training.diffusion_stages import TRUE, Prompts
from profi.mini.training.ship_stage import forget_folders
from profi.mini.training.stage import console, make_generator, mixed_precision, train_stage
from profi.mini.training.vae_stage import LossWeights, edge_error, losses, psnr
from profi.mini.world import World
from profi.models.backbone import mean_latents
from profi.training.loop import Plan, stratified_timesteps
from profi.training.smartbrush_training import plain_attention_on_cpu

SCENES = 256
DRAWN = 8  # scenes at once
ENCODED = 96  # scenes that the UNet learns from, each in many pieces
# The VAE learns from pieces, for the time; but group normalisation sees the whole picture, so then
# the decoder learns from whole ones what it misses in them. (The latents do not change any more.)
VAE_PLAN = Plan(
    steps=1500, batch=16, rate=2e-3, matrix_rate=1e-2, warmup=30, decay=0.5, weight_decay=0.0
)
VAE_PIECE = 64  # pixels
DECODER_PLAN = Plan(
    steps=400,
    batch=1,
    rate=1e-3,
    matrix_rate=5e-3,
    warmup=10,
    decay=0.6,
    weight_decay=0.0,
    ema=0.98,
)
PLAN = Plan(
    steps=3000,
    batch=32,
    rate=2e-3,
    matrix_rate=1e-2,
    warmup=50,
    decay=0.5,
    weight_decay=0.0,
    ema=0.99,
)
# Side of the UNet's pieces in latents, the batch, and the share of the steps with the first ones:
# small ones for the time, then whole pictures for the same reason.
CROPS, BATCHES, SMALL = (16, 128), (32, 1), 0.75


@dataclass(frozen=True)
class Pictures:
    """Fine scenes: images [N, 3, H, W] uint8, and their categories [N, K] int8."""

    images: Tensor
    kinds: Tensor


def pictures(world: World, work: Path, seed: int) -> Pictures:
    """The training's scenes, drawn once and kept in `work`."""
    file = work / "fine_scenes.safetensors"
    if not file.exists():
        scenes, parts = FineScenes.load(world, "train"), []
        for i in range(SCENES // DRAWN):
            drawn = scenes.sample(DRAWN, make_generator(torch.device("cpu"), seed, 91, i))
            parts.append(((drawn.image * 255).round().byte(), drawn.category.to(torch.int8)))
        images, kinds = (torch.cat(part) for part in zip(*parts, strict=True))
        save_file({"images": images, "kinds": kinds}, file.with_suffix(".tmp"))
        file.with_suffix(".tmp").rename(file)
        console.print(f"{SCENES} fine scenes")
    return Pictures(**load_file(file))


def from_trained(vae: AutoencoderKL, trained: AutoencoderKL) -> AutoencoderKL:
    """`vae` with the weights of another one where both have the same layer on the same level.

    Levels are counted from the picture's size, which is where both begin and end.
    """
    ups = len(trained.decoder.up_blocks) - len(vae.decoder.up_blocks)
    theirs, state = trained.state_dict(), vae.state_dict()
    for name in state:
        words = name.split(".")
        if words[1] == "up_blocks":
            words[2] = str(int(words[2]) + ups)
        found = theirs.get(".".join(words))
        if found is not None and found.shape == state[name].shape and "mid" not in name:
            state[name] = found
    vae.load_state_dict(state)
    return vae


def run_vae(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train from the layers of the world's VAE; saves `work/models/upscaler/vae`."""
    torch.manual_seed(seed + 90)
    trained = AutoencoderKL.from_pretrained(
        world.folder / "inpaint" / "vae", torch_dtype=torch.float32
    )
    model = from_trained(models.upscaler_vae(), trained).to(device)
    drawn = pictures(world, work, seed).images

    def loss_at(step: int) -> dict[str, Tensor]:
        g = make_generator(device, seed, 92, step)
        x = _signed(crops(drawn, VAE_PLAN.batch, VAE_PIECE, g)[0], device)
        with mixed_precision(device, enabled=device.type == "cuda"):
            return losses(model, x, g, LossWeights())

    model = model.to(memory_format=torch.channels_last)
    figures: dict = train_stage(model, loss_at, VAE_PLAN, work / "upscaler_vae", minutes)
    model.register_to_config(scaling_factor=1.0)
    latents = mean_latents(model, _signed(drawn[:16], device))
    model.register_to_config(scaling_factor=float(1 / latents.std()))
    figures["parameters"] = models.parameters(model)
    model.half().save_pretrained(work / "models" / "upscaler" / "vae")
    return figures


def run_decoder(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train the decoder of `work/models/upscaler/vae` on whole pictures, and replace it."""
    folder = work / "models" / "upscaler" / "vae"
    model = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32)
    model = model.to(device, memory_format=torch.channels_last)
    drawn = pictures(world, work, seed).images
    model.encoder.requires_grad_(False)
    model.quant_conv.requires_grad_(False)

    def loss_at(step: int) -> dict[str, Tensor]:
        g = make_generator(device, seed, 96, step)
        x = _signed(crops(drawn, DECODER_PLAN.batch, drawn.shape[-1], g)[0], device)
        with torch.no_grad():
            latents = model.encode(x).latent_dist.mean
        y = model.decode(latents).sample
        weights = LossWeights()
        return {
            "mse": F.mse_loss(y, x),
            "l1": weights.l1 * F.l1_loss(y, x),
            "edges": weights.edges * edge_error(y, x),
        }

    figures: dict = train_stage(model, loss_at, DECODER_PLAN, work / "upscaler_decoder", minutes)
    figures["psnr_db"] = validation_psnr(model, world, seed)
    model.half().save_pretrained(folder)
    return figures


def _signed(images: Tensor, device: torch.device) -> Tensor:
    """Bytes as floats in [-1, 1]."""
    signed = images.to(device).float() / 127.5 - 1
    return signed.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def validation_psnr(model: AutoencoderKL, world: World, seed: int) -> float:
    """Mean PSNR in dB over 16 fine validation scenes, encoded by the mean and decoded."""
    device = next(model.parameters()).device
    found = []
    for i in range(4):
        drawn = FineScenes.load(world, "val", device).sample(4, make_generator(device, seed, 93, i))
        decoded = model.decode(model.encode(drawn.image * 2 - 1).latent_dist.mean).sample
        found.append(psnr((decoded / 2 + 0.5).clamp(0, 1), drawn.image))
    return torch.cat(found).mean().item()


def crops(images: Tensor, n: int, side: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """N square pieces [N, C, side, side] of images [P, C, H, W], and the images' indices [N]."""
    of = torch.randint(len(images), (n,), generator=g, device=g.device).cpu()
    room = images.shape[-1] - side + 1
    places = torch.randint(room, (n, 2), generator=g, device=g.device).tolist()
    pieces = [
        images[i, :, top : top + side, left : left + side]
        for i, (top, left) in zip(of.tolist(), places, strict=True)
    ]
    return torch.stack(pieces), of


def pairs(vae: AutoencoderKL, images: Tensor, file: Path, device: torch.device) -> Tensor:
    """Latents and low pictures [N, 4 + 3, h, w], float16, of images; kept in `file`."""
    if not file.exists():
        parts = []
        for part in images.split(DRAWN):
            large = part.to(device).float() / 255
            latents, low = mean_latents(vae, large * 2 - 1), small(large) * 2 - 1
            parts.append(torch.cat([latents, low], 1).half().cpu())
        save_file({"pairs": torch.cat(parts)}, file.with_suffix(".tmp"))
        file.with_suffix(".tmp").rename(file)
    return load_file(file)["pairs"]


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train from scratch (or the checkpoint); saves `work/models/upscaler`."""
    torch.manual_seed(seed + 94)
    folder = work / "models" / "upscaler"
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    vae = vae.to(device).eval().requires_grad_(False)
    drawn = pictures(world, work, seed)
    unet = models.upscaler_unet(world).to(device)
    plain_attention_on_cpu(unet)
    prompts = Prompts(world, device, world.folder / "inpaint")
    noising = DDPMScheduler.from_config(dict(models.UPSCALER_SCHEDULER))

    both_of_all = pairs(vae, drawn.images[:ENCODED], work / "fine_latents.safetensors", device)

    def loss_at(step: int) -> dict[str, Tensor]:
        g = make_generator(device, seed, 95, step)
        large = step >= SMALL * PLAN.steps
        batch = BATCHES[large]
        both, of = crops(both_of_all, batch, CROPS[large], g)
        both = both.to(device).float()
        x0, low = both[:, :4], both[:, 4:]
        noise = torch.randn(x0.shape, generator=g, device=device)
        t = stratified_timesteps(batch, g)
        x_t = noising.add_noise(x0, noise, t)
        level = torch.randint(models.NOISE_LEVELS, (batch,), generator=g, device=device)
        low = noising.add_noise(low, torch.randn(low.shape, generator=g, device=device), level)
        context = prompts(drawn.kinds[of], TRUE, random.Random(f"{seed}:upscaler:{step}"))
        with mixed_precision(device):
            found = unet(torch.cat([x_t, low], 1), t, context, class_labels=level).sample
        return {"v": F.mse_loss(found.float(), noising.get_velocity(x0, noise, t))}

    figures: dict = train_stage(unet, loss_at, PLAN, work / "upscaler", minutes)
    figures["parameters"] = models.parameters(unet)
    unet.half().save_pretrained(folder / "unet")
    for name, kind in (("scheduler", "DDIMScheduler"), ("low_res_scheduler", "DDPMScheduler")):
        (folder / name).mkdir(exist_ok=True)
        config = {**models.UPSCALER_SCHEDULER, "_class_name": kind}
        (folder / name / "scheduler_config.json").write_text(json.dumps(config, indent=1) + "\n")
    return figures


def ship(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Replace what the package has of the upscaler; returns its size in MB."""
    target = world.folder.parent / "upscaler"
    fresh = target.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(work / "models" / "upscaler", fresh)
    forget_folders(fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    size = sum(f.stat().st_size for f in target.rglob("*") if f.is_file()) / 1e6
    return {"megabytes": round(size, 1)}
