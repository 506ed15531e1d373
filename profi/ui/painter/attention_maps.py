"""Where a method looked while it painted: maps over the picture, as in the paper's figure 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from scipy.ndimage import binary_erosion
from torch import Tensor

from profi.inputs import Job, jobs_of
from profi.method.attention import UNetPass
from profi.method.similarity_maps import SimilarityMaps
from profi.method.sites import Site
from profi.method.trace import Trace, TracedStep
from profi.painter import Painter
from profi.settings.evaluation import evaluation_of
from profi.ui.painter.settings import Settings

#: The paper's levels H/16 and H/32, as down-factors of the latents.
LEVELS = (2, 4)
#: Long side of a map in pixels, at most: it is a picture to look at, not one to keep.
SHOWN_SIDE = 512
STRENGTH = 0.6


@dataclass(frozen=True)
class AttentionMap:
    """One map over the picture: its title, what its colours mean, and a PNG."""

    title: str
    note: str
    png: bytes


@dataclass
class SimilarityOfTrace:
    """An observer of self-attention for eq. 12, with the masks of a trace, once it has begun."""

    trace: Trace
    maps: SimilarityMaps | None = None

    def __call__(self, site: Site, q: Tensor, k: Tensor, unet_pass: UNetPass) -> None:
        """Add one layer of one step."""
        if self.maps is None:
            masks = self.trace.masks
            self.maps = SimilarityMaps({level: masks[level] for level in LEVELS if level in masks})
        self.maps(site, q, k, unet_pass)


def attention_maps(
    painter: Painter,
    picture: Image.Image,
    mask: Tensor,
    settings: Settings,
    ablation: str,
    seed: int,
    cancel: Callable[[], bool],
) -> list[AttentionMap]:
    """Paint once more, which changes no pixel, and record; means over the steps.

    Attention to the prompt and PAIntA's c (eq. 5) are on the colour map JET from 0 to their
    largest value, eq. 12's similarity to the masked part from its smallest to its largest.
    """
    trace = Trace()
    observer = SimilarityOfTrace(trace)
    options = {**settings.choices, "ablation": ablation, "seed": seed, "cancel": cancel}
    painter(picture, mask, settings.prompt, trace=trace, observer=observer, **options)
    (job,), _ = jobs_of(
        picture,
        mask,
        settings.prompt,
        seed,
        painter.long_side,
        painter.pad_multiple,
        evaluation_of(settings.evaluation),
        settings.crop,
    )
    found = []
    for level, values in _mean([step.attention for step in trace.steps]).items():
        title = f"Attention to the prompt, {_level(level)}"
        found.append(_shown(title, "share of the cross-attention", values, 0.0, job))
    for level, values in _mean([step.c for step in _with_c(trace.steps)]).items():
        title = f"PAIntA's c (eq. 5), {_level(level)}"
        found.append(_shown(title, "agreement with the prompt", values, 0.0, job))
    maps = observer.maps.maps() if observer.maps is not None else {}
    for level, values in sorted(maps.items()):
        title = f"Self-attention of the mask (eq. 12), {_level(level)}"
        found.append(_shown(title, "mean logit", values[0], float(values.min()), job))
    return found


def _level(factor: int) -> str:
    return f"H/{8 * factor}"


def _with_c(steps: Sequence[TracedStep]) -> list[TracedStep]:
    return [step for step in steps if step.c]


def _mean(maps: Sequence[Mapping[int, Tensor]]) -> dict[int, Tensor]:
    """Per level the mean [h, w] over the steps, of the first picture."""
    levels = [level for level in LEVELS if maps and level in maps[0]]
    return {level: torch.stack([one[level][0] for one in maps]).mean(dim=0) for level in levels}


def _shown(title: str, note: str, values: Tensor, least: float, job: Job) -> AttentionMap:
    """A map [h, w] of the fitted picture, bicubic, in its place over the picture.

    The mask's edge is white.
    """
    most = float(values.max())
    unit = ((values - least) / max(most - least, 1e-12)).clamp(0.0, 1.0).numpy()
    padded = (job.fitted.mask.shape[1], job.fitted.mask.shape[0])
    smooth = Image.fromarray(unit.astype(np.float32)).resize(padded, Image.Resampling.BICUBIC)
    smooth = smooth.crop((0, 0, job.fitted.width, job.fitted.height))
    box = job.box
    smooth = smooth.resize((box.right - box.left, box.bottom - box.top), Image.Resampling.BICUBIC)
    jet = colormaps["jet"](np.clip(np.asarray(smooth), 0.0, 1.0))[..., :3]
    pixels = job.image.permute(1, 2, 0).numpy().copy()
    part = (slice(box.top, box.bottom), slice(box.left, box.right))
    grey = pixels[part].mean(axis=-1, keepdims=True)
    pixels[part] = (1 - STRENGTH) * grey + STRENGTH * jet
    hole = job.mask.numpy()
    pixels[hole & ~binary_erosion(hole, iterations=max(1, min(hole.shape) // 256))] = 1.0
    image = Image.fromarray((255 * pixels.clip(0, 1)).round().astype(np.uint8))
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BICUBIC)
    file = BytesIO()
    image.save(file, format="PNG")
    return AttentionMap(title, f"{note}, {least:.3g} (blue) to {most:.3g} (red)", file.getvalue())
