"""GLIDE's adapter against OpenAI's package, with small random networks of the released kinds."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from row_laws import check_row
from torch import Tensor, nn

from profi.baselines.glide import GLIDE
from profi.baselines.glide_stage import INSTALL, PACKAGE, load_stage
from profi.inpainter import noise_of
from profi.types import UserError

CPU = torch.device("cpu")
INSTALLED = importlib.util.find_spec(PACKAGE) is not None
needs_package = pytest.mark.skipif(
    not INSTALLED, reason=f"OpenAI's package is not installed: {INSTALL}"
)


@pytest.mark.skipif(INSTALLED, reason="OpenAI's package is installed")
def test_without_the_package_its_installation_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_stage(tmp_path / "x.pt", "model.glide.base.path", False, "100", "cpu", False)
    assert INSTALL in str(caught.value)
    assert "\n" not in str(caught.value)


# Small networks of the released kinds.
TINY = {
    "num_channels": 32,
    "num_head_channels": 32,
    "num_res_blocks": 1,
    "xf_width": 32,
    "xf_layers": 1,
    "xf_heads": 2,
}


def save_released(path: Path, upsampler: bool, steps: str) -> Any:
    """A random model and its diffusion, its weights in `path` as OpenAI's files are."""
    creation = importlib.import_module(f"{PACKAGE}.model_creation")
    name = "model_and_diffusion_defaults" + ("_upsampler" if upsampler else "")
    options = {**getattr(creation, name)(), "inpaint": True, "use_fp16": False, **TINY}
    torch.manual_seed(8)
    model, diffusion = creation.create_model_and_diffusion(
        **{**options, "timestep_respacing": steps}
    )
    # What a new model has of zeros would hide the rest of it, its text too.
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0.0, math.prod(parameter.shape[1:]) ** -0.5)
    torch.save(model.state_dict(), path)
    return model.eval(), diffusion


@needs_package
def test_released_models_are_loaded_and_paint(tmp_path: Path, large: Any) -> None:
    stages = []
    for upsampler, steps in ((False, "4"), (True, "3")):
        path = tmp_path / f"{upsampler}.pt"
        save_released(path, upsampler, steps)
        stages.append(load_stage(path, "key", upsampler, steps, "cpu", False, TINY))
    # Rounding the small picture to 8 bits makes a level of a float difference, here or there.
    check_row(GLIDE(*stages, device=CPU), large, 7, 0.05)
    with pytest.raises(UserError, match="key="):
        load_stage(tmp_path / "False.pt", "key", True, "3", "cpu", False, TINY)


@needs_package
@torch.no_grad()
def test_released_row_paints_what_the_package_s_own_loop_paints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: Any
) -> None:
    """Both models in turn, as in the package's example, on the same noise."""
    steps = {False: "4", True: "3"}
    made = {up: save_released(tmp_path / f"{up}.pt", up, steps[up]) for up in steps}
    stages = [
        load_stage(tmp_path / f"{up}.pt", "key", up, steps[up], "cpu", False, TINY) for up in steps
    ]
    batch = large.only(0)
    ours = GLIDE(*stages, device=CPU)(*batch.args())

    image = 2 * batch.images - 1
    keep = (~batch.masks[:, None, ::4, ::4]).float()
    tokenizer = made[False][0].tokenizer
    encoded = [tokenizer.encode(batch.prompts[0]), []]
    padded = [tokenizer.padded_tokens_and_mask(text, 128) for text in encoded]
    tokens = torch.tensor([row for row, _ in padded])
    mask = torch.tensor([mask for _, mask in padded])
    draw = noise_of(batch.seeds)

    def package_loop(up: bool, model: Any, known: Tensor, keep: Tensor, **given: Tensor) -> Tensor:
        """Its `p_sample_loop`, which asks for noise at the last step too and drops it."""
        rows = 1 if up else 2
        shape = (rows, *known.shape[1:])
        start = draw(shape[1:]) * (0.997 if up else 1.0)
        noise = [draw(shape[1:]) for _ in range(int(steps[up]) - 1)]
        left = iter([*noise, torch.full_like(start, 1e3)])
        monkeypatch.setattr(torch, "randn_like", lambda x: next(left).expand_as(x))
        keep = keep.expand(rows, -1, -1, -1)
        return made[up][1].p_sample_loop(
            model,
            shape,
            noise=start.expand(shape),
            device=CPU,
            clip_denoised=True,
            model_kwargs={"inpaint_image": known * keep, "inpaint_mask": keep, **given},
            denoised_fn=lambda x0: torch.where(keep.bool(), known.expand_as(x0), x0),
        )[:1]

    def pair(x: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        """The example keeps both branches in the batch, each with the guided eps."""
        cond, uncond = made[False][0](x[:1].expand_as(x), t, **given)
        eps = uncond[:3] + 5.0 * (cond[:3] - uncond[:3])
        return torch.stack([torch.cat([eps, rest[3:]]) for rest in (cond, uncond)])

    small = nn.functional.interpolate(image, size=(64, 64), mode="bicubic", antialias=True)
    small = package_loop(False, pair, small.clamp(-1, 1), keep, tokens=tokens, mask=mask)
    theirs = package_loop(
        True,
        made[True][0],
        image,
        keep.repeat_interleave(4, 2).repeat_interleave(4, 3),
        tokens=tokens[:1],
        mask=mask[:1],
        low_res=((small + 1) * 127.5).round() / 127.5 - 1,
    )
    torch.testing.assert_close(ours, theirs / 2 + 0.5, rtol=0, atol=1e-4)
