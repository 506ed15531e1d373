from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from row_laws import check_row
from tiny_pipelines import make_pipeline

from profi.baselines.baseline import ddim_scheduler
from profi.baselines.sdxl_inpainting import SDXLInpainting
from profi.models.backbone import Backbone, load_backbone
from profi.settings.method import Sampling
from profi.types import UserError

STEPS = Sampling(num_inference_steps=4)
BATCH_TOLERANCE = 2e-5  # of pixels in [0, 1], float32


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = tmp_path_factory.mktemp("sdxl")
    make_pipeline("sdxl").save_pretrained(folder)
    return load_backbone(folder)


def test_the_laws_of_a_row(xl, batch) -> None:  # type: ignore[no-untyped-def]
    # Strength 0.9999 leaves one of 4 steps out.
    check_row(SDXLInpainting(xl, STEPS), batch, 3, BATCH_TOLERANCE)


@pytest.mark.parametrize("strength", [0.9999, 1.0])
def test_it_is_diffusers_pipeline_given_prompts(xl, batch, strength: float) -> None:  # type: ignore[no-untyped-def]
    pipe = make_pipeline("sdxl")
    pipe.unet.load_state_dict(xl.unet.state_dict())
    pipe.scheduler = ddim_scheduler(xl.schedule)
    pipe.set_progress_bar_config(disable=True)
    ours = SDXLInpainting(xl, replace(STEPS, positive_prompt="shiny"), strength)(*batch.args())
    for i, (image, mask, prompt, seed) in enumerate(zip(*batch.args(), strict=True)):
        theirs = pipe(
            f"{prompt}, shiny",
            image=image[None],
            mask_image=mask[None, None].float(),
            height=64,
            width=64,
            strength=strength,
            num_inference_steps=4,
            guidance_scale=7.5,
            generator=torch.Generator().manual_seed(seed),
            output_type="pt",
        ).images[0]
        torch.testing.assert_close(ours[i], theirs, rtol=0, atol=BATCH_TOLERANCE)


def test_strength_counts_and_blended_gives_the_known_pixels_back(xl, batch) -> None:  # type: ignore[no-untyped-def]
    row = SDXLInpainting(xl, STEPS)
    from_noise = replace(row, strength=1.0)
    assert from_noise.identity != row.identity
    painted = row(*batch.args())
    assert not torch.allclose(painted, from_noise(*batch.args()), atol=50 * BATCH_TOLERANCE)
    kept = replace(row, sampling=replace(STEPS, output="blended"))(*batch.args())
    known = ~batch.masks[:, None].expand_as(painted)
    assert torch.equal(kept[known], batch.images[known])
    assert torch.equal(kept[~known], painted[~known])


def test_what_it_cannot_be_is_said(xl, backbone) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match="one text encoder"):
        SDXLInpainting(backbone, STEPS)
    with pytest.raises(UserError, match="leaves none of 1 steps"):
        SDXLInpainting(xl, Sampling(num_inference_steps=1))
    with pytest.raises(UserError, match=r"strength=0\.0"):
        SDXLInpainting(xl, STEPS, 0.0)


def test_missing_weights_are_told_in_one_line(tmp_path: Path) -> None:
    make_pipeline("sdxl").save_pretrained(tmp_path)
    (tmp_path / "text_encoder_2" / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"text_encoder_2/ cannot be loaded") as caught:
        load_backbone(tmp_path)
    assert "\n" not in str(caught.value)
