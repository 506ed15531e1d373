"""GLIDE's two models, from OpenAI's package `glide_text2im`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from profi.download import sha256_of
from profi.types import UserError
from profi.weights import UNREADABLE

PACKAGE = "glide_text2im"
INSTALL = "pip install git+https://github.com/openai/glide-text2im"
ModelFn = Callable[..., Tensor]


class Diffusion(Protocol):
    """The part of the package's `SpacedDiffusion` that is used here."""

    num_timesteps: int

    def p_mean_variance(
        self,
        model: ModelFn,
        x: Tensor,
        t: Tensor,
        clip_denoised: bool,
        denoised_fn: Callable[[Tensor], Tensor],
        model_kwargs: Mapping[str, Tensor],
    ) -> Mapping[str, Tensor]:
        """`mean` and `log_variance` of p(x_{t-1} | x_t), [B, 3, H, W]; t counts from 0."""
        ...


@dataclass(frozen=True)
class Stage:
    """One of the two models with its (spaced) diffusion.

    `model(x, t, tokens=, mask=, inpaint_image=, inpaint_mask=)` gives [B, 6, H, W]: eps and the
    interpolation of the variance. The upsampler also takes `low_res=`. `model.tokenizer` has
    `encode` and `padded_tokens_and_mask`. `steps` is the package's spacing (the number of steps
    alone would not fix it); `sha256` is the hash of the weights.
    """

    model: Any
    diffusion: Diffusion
    text_ctx: int
    steps: str
    sha256: str

    def tokens(self, prompts: Sequence[str], device: torch.device) -> dict[str, Tensor]:
        """The model's keyword arguments for B texts; UserError for a text that is too long."""
        rows, masks = [], []
        for prompt in prompts:
            found = self.model.tokenizer.encode(prompt) if prompt else []
            if len(found) > self.text_ctx:
                raise UserError(
                    f"the prompt {prompt!r} has {len(found)} tokens and GLIDE reads "
                    f"{self.text_ctx}; shorten it"
                )
            row, mask = self.model.tokenizer.padded_tokens_and_mask(found, self.text_ctx)
            rows.append(row)
            masks.append(mask)
        return {
            "tokens": torch.tensor(rows, device=device),
            "mask": torch.tensor(masks, dtype=torch.bool, device=device),
        }


def load_stage(
    path: Path,
    key: str,
    upsampler: bool,
    steps: str,
    device: str | torch.device,
    half: bool,
    structure: Mapping[str, Any] | None = None,
) -> Stage:
    """One of the released models.

    Args:
        path: its `.pt` file.
        key: the config key of `path`.
        upsampler: whether it is the upsampler.
        steps: the package's `timestep_respacing`.
        device: where it runs.
        half: float16 instead of float32.
        structure: the package's options that differ from those of the released models.

    Raises:
        UserError: the package is not installed, the file is not of this model, or float16 on a CPU.
    """
    if half and torch.device(device).type == "cpu":
        # The package's example uses it only on a GPU, and float16 is far slower on a CPU.
        raise UserError("model.dtype=float16: GLIDE on a CPU runs in float32")
    try:
        creation = importlib.import_module(f"{PACKAGE}.model_creation")
    except ImportError as error:
        raise UserError(
            f"inpainter=glide needs OpenAI's package ({error}); install it: {INSTALL}"
        ) from error
    name = "model_and_diffusion_defaults" + ("_upsampler" if upsampler else "")
    options = {
        **getattr(creation, name)(),
        "inpaint": True,
        "use_fp16": half,
        "timestep_respacing": steps,
        **(structure or {}),
    }
    model, diffusion = creation.create_model_and_diffusion(**options)
    if half:
        model.convert_to_fp16()
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{key}={path} is no file of this GLIDE model ({type(error).__name__}: {reason})"
        ) from error
    model.to(device).eval().requires_grad_(False)
    return Stage(model, diffusion, int(options["text_ctx"]), steps, sha256_of(path))
