"""Stage `detector`: a small RT-DETR on views of objects and on whole scenes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from transformers import RTDetrForObjectDetection, RTDetrImageProcessorPil

from profi.data.coco import read_coco
from profi.data.masks import triplet_mask
from profi.data.pictures import load_image
from profi.metrics import GenerationAccuracy, Sample, TransformersDetector
from profi.mini import models
from profi.mini.scenes import Scenes, SceneSampler, SpriteSheet
from profi.mini.training.crops import boxes_of, corrupt, recolour, view_resize
from profi.mini.training.stage import make_generator, mixed_precision, train_stage
from profi.mini.world import World
from profi.training.loop import Plan
from profi.types import sample_seed

PLANS = {
    "cpu": Plan(steps=12000, batch=32, rate=1e-3, warmup=150, decay=0.5, weight_decay=1e-4),
    "gpu": Plan(steps=12000, batch=128, rate=6e-4, warmup=300, decay=0.5, weight_decay=1e-4),
}
POOL = 2048
THRESHOLD = 0.3  # of the paper's accuracy
FALSE_LABELS = 0.015


ANYWHERE = 0.25  # of the views


def zoom(scenes: Scenes, g: torch.Generator, world: World) -> tuple[Tensor, Tensor, Tensor]:
    """Random views that contain one object each (mostly), the whole scene, or a part of it.

    A part may be empty, or show objects that are cut off: so the detector learns what a painting
    looks like that shows the background in place of an object.

    Returns images [N, 3, H, W], boxes [N, K, 4] as shares of the view, kinds [N, K] (-1: absent
    or cut to less than a third).
    """
    n = len(scenes.image)
    boxes = boxes_of(scenes.masks)
    seen = (scenes.category >= 0).float()
    pick = torch.multinomial(seen + 1e-6, 1, generator=g)[:, 0]
    box = boxes[torch.arange(n, device=g.device), pick]
    centre = (box[:, :2] + box[:, 2:]) / 2
    extent = box[:, 2:] - box[:, :2]
    # Half the views keep the aspect (padded to a square), half are stretched to one.
    square = torch.rand((n, 1), generator=g, device=g.device) < 0.5
    extent = torch.where(square, extent.amax(1, keepdim=True), extent)
    shift = (torch.rand((n, 2), generator=g, device=g.device) - 0.5) * 0.3 * extent
    extent = extent * (0.9 + 0.8 * torch.rand((n, 1), generator=g, device=g.device))
    whole = (torch.rand((n, 1), generator=g, device=g.device) < 0.25) | (
        seen.sum(1, keepdim=True) == 0
    )
    extent = torch.where(whole, 1.0, extent)
    middle = torch.where(whole, 0.5, centre + shift)
    anywhere = torch.rand((n, 1), generator=g, device=g.device) < ANYWHERE
    drawn = torch.rand((n, 4), generator=g, device=g.device)
    extent = torch.where(anywhere, 0.2 + 0.4 * drawn[:, :2], extent)
    middle = torch.where(anywhere, drawn[:, 2:], middle)
    view = torch.cat([middle - extent / 2, middle + extent / 2], 1)
    images = view_resize(scenes.image, view, world.detector_size)
    origin, reach = view[:, None, :2].repeat(1, 1, 2), extent[:, None].repeat(1, 1, 2)
    inner = ((boxes - origin) / reach).clamp(0, 1)
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    left = (
        (inner[..., 2] - inner[..., 0])
        * (inner[..., 3] - inner[..., 1])
        * extent.prod(1, keepdim=True)
    )
    kinds = torch.where(left > area / 3, scenes.category, -1)
    return images, inner, kinds


def labels_of(boxes: Tensor, kinds: Tensor) -> list[dict[str, Tensor]]:
    """RT-DETR's targets: (cx, cy, w, h) and class of every object that is there."""
    centres = torch.cat(
        [(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1
    )
    return [
        {"boxes": c[k >= 0], "class_labels": k[k >= 0]} for c, k in zip(centres, kinds, strict=True)
    ]


def run(world: World, device: torch.device, work: Path, seed: int, minutes: float) -> dict:
    """Train, measure ceiling and floor on validation crops, save to `work/models/detector`."""
    plan = PLANS[world.size]
    torch.manual_seed(seed)
    model = models.detector(world).to(device)
    sampler = SceneSampler(world, SpriteSheet.load(world, "train", device))

    @lru_cache(maxsize=1)  # the current chunk
    def draw(chunk: int) -> tuple[Tensor, Tensor, Tensor]:
        g = make_generator(device, seed, 41, chunk)
        images, boxes, kinds = zoom(sampler.sample(POOL, g), g, world)
        return recolour(corrupt(images, g, share=0.3), g, share=0.7), boxes, kinds

    def loss_at(step: int) -> dict[str, Tensor]:
        chunk, i = divmod(step * plan.batch, POOL)
        images, boxes, kinds = (t[i : i + plan.batch] for t in draw(chunk))
        with mixed_precision(device):
            return {"set": model(pixel_values=images, labels=labels_of(boxes, kinds)).loss}

    figures: dict = train_stage(model, loss_at, plan, work / "detector", minutes)
    g = make_generator(device, seed, 42)
    views = [zoom(sampler.sample(512, g), g, world) for _ in range(4)]
    figures["logit_shift"] = calibrate(model, views)
    figures["parameters"] = models.parameters(model)
    folder = work / "models" / "detector"
    model.half().save_pretrained(folder)
    side = {"height": world.detector_size, "width": world.detector_size}
    RTDetrImageProcessorPil(size=side, do_normalize=False).save_pretrained(folder)
    return figures | ceiling_and_floor(folder, work / "data")


@torch.no_grad()
def calibrate(
    model: RTDetrForObjectDetection, views: Sequence[tuple[Tensor, Tensor, Tensor]]
) -> float:
    """Lower all class logits by one number, in place, and return it.

    A detector this small is unsure of much. The metric's threshold is the paper's 0.3, so scores
    are moved instead: to where, on views of training scenes, labels of nothing in view pass it
    in FALSE_LABELS of the cases.
    """
    wrong = []
    for images, _, kinds in views:
        best = torch.cat([model(pixel_values=part).logits.amax(1) for part in images.split(128)])
        there = torch.zeros(len(kinds), best.shape[1] + 1, device=best.device)
        there.scatter_(1, kinds % (best.shape[1] + 1), 1)  # -1, nothing, goes to the last column
        wrong.append(best[there[:, :-1] == 0])
    passes = torch.quantile(torch.cat(wrong).float(), 1 - FALSE_LABELS)
    shift = float(passes) - math.log(THRESHOLD / (1 - THRESHOLD))
    for head in model.model.decoder.class_embed:
        head.bias -= shift
    return shift


def ceiling_and_floor(detector: Path, data: Path) -> dict[str, float]:
    """The accuracy metric itself on the unedited validation images, as shares.

    Ceiling: how often the true label is found in a triplet's crop. Floor: how often a label is
    found that no object of the whole scene has (one drawn per triplet, by its id).
    """
    metric = GenerationAccuracy(TransformersDetector.from_pretrained(str(detector)))
    triplets = read_coco(data / "instances_val.json", 1.0).triplets
    names: dict[int, set[str]] = {}
    for t in triplets:
        names.setdefault(t.image_id, set()).add(t.prompt)
    every = sorted(set.union(*names.values()))
    true, absent = [], []
    for t in triplets:
        image, mask = load_image(data / "images", t), triplet_mask(t)
        others = [name for name in every if name not in names[t.image_id]]
        other = others[sample_seed(0, t.triplet_id) % len(others)]
        true.append(Sample(image, mask, t.prompt))
        absent.append(Sample(image, mask, other))
    return {
        "ceiling": sum(metric(true)) / len(true) / 100,
        "floor": sum(metric(absent)) / len(absent) / 100,
    }
