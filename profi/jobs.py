"""Pictures to be painted: what a caller hands over, checked, fitted, grouped and finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from profi.fitting import Fitted, bytes_of, fit, fit_picture, unfit
from profi.inputs import image_tensor, mask_tensor, pil_image
from profi.settings.evaluation import Evaluation
from profi.types import UserError


@dataclass(frozen=True)
class Job:
    """One picture to be painted.

    `image` [3, H, W] in [0, 1] and `mask` [H, W] bool are as given, `fitted` is them at the
    model's size, as `evaluation` has it.
    """

    image: Tensor
    mask: Tensor
    prompt: str
    seed: int
    evaluation: Evaluation
    fitted: Fitted

    def finished(self, painted: Tensor, blended: bool) -> Image.Image:
        """The picture (RGB) in the given image's size, of [3, h, w] as painted, with its padding.

        It becomes bytes as it was painted, and is then resized, so that at the painted size it is
        what a run stores. Where `blended`, the given pixels (at 8 bits) are put back outside the
        mask: in the given size and as bytes, so that I_c = I (sec. 3) holds there to the last bit.
        """
        pixels = bytes_of(unfit(painted, self.fitted), self.evaluation.bytes)
        if pixels.shape != self.image.shape:
            size = (self.image.shape[1], self.image.shape[2])
            resized = fit_picture(pixels / 255.0, size, self.evaluation.picture)
            pixels = bytes_of(resized, "rounded")
        if blended:
            pixels = torch.where(self.mask, pixels, bytes_of(self.image, "rounded"))
        return pil_image(pixels)


def jobs_of(
    image: Any,
    mask: Any,
    prompt: Any,
    seed: Any,
    long_side: int,
    multiple: int,
    evaluation: Evaluation,
) -> tuple[list[Job], bool]:
    """The jobs of a call, and whether it is for a single picture (nothing given is a list).

    They are fitted to `long_side` and a `multiple` as `evaluation` has it (`fit`).
    Raises UserError, saying which one, for lists of different lengths, an image or a mask of the
    wrong kind (`image_tensor`, `mask_tensor`) or size, an empty mask, a seed out of range.
    """
    given = {"image": image, "mask": mask, "prompt": prompt, "seed": seed}
    lengths = {name: len(v) for name, v in given.items() if isinstance(v, list | tuple | range)}
    if not lengths:
        return [_job(given, "", long_side, multiple, evaluation)], True
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        told = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise UserError(f"the lists have no common length ({told}); give one of each per picture")
    jobs = []
    for i in range(next(iter(lengths.values()))):
        ith = {name: v[i] if name in lengths else v for name, v in given.items()}
        jobs.append(_job(ith, f" {i}", long_side, multiple, evaluation))
    return jobs, False


def batches(jobs: Sequence[Job], batch_size: int) -> list[list[int]]:
    """The indices of jobs of one padded size, at most `batch_size` at a time."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, job in enumerate(jobs):
        groups.setdefault(tuple(job.fitted.mask.shape), []).append(i)
    return [
        group[start : start + batch_size]
        for group in groups.values()
        for start in range(0, len(group), batch_size)
    ]


def _job(
    given: dict[str, Any], number: str, long_side: int, multiple: int, evaluation: Evaluation
) -> Job:
    """One checked job; `number` tells it from the others of a list in what is said of it."""
    prompt, seed = given["prompt"], given["seed"]
    if not isinstance(prompt, str):
        raise UserError(f"prompt{number} is of type {type(prompt).__name__}; give a text")
    if not isinstance(seed, Integral) or not 0 <= int(seed) < 2**63:
        raise UserError(f"seed{number} is {seed!r}; choose a whole number from 0 to 2^63 - 1")
    image = image_tensor(given["image"], f"image{number}")
    mask = mask_tensor(given["mask"], f"mask{number}")
    if mask.shape != image.shape[1:]:
        (H, W), (mask_H, mask_W) = image.shape[1:], mask.shape
        raise UserError(
            f"mask{number} is {mask_W}x{mask_H} and image{number} is {W}x{H}; "
            "give a mask of the image's size"
        )
    if not mask.any():
        raise UserError(f"mask{number} is empty: nothing to paint; make white what is to change")
    fitted = fit(image, mask, long_side, multiple, evaluation)
    return Job(image, mask, prompt, int(seed), evaluation, fitted)
