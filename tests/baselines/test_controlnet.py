from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetInpaintPipeline
from row_laws import check_row

from profi.baselines.baseline import ddim_scheduler
from profi.baselines.controlnet import (
    ControlNetInpainting,
    LoadedControlNet,
    known_part,
    load_controlnet,
)
from profi.models.backbone import Backbone
from profi.models.unet_role import TEXT_TO_IMAGE
from profi.settings.method import Sampling
from profi.types import UserError

STEPS = Sampling(num_inference_steps=4)
BATCH_TOLERANCE = 2e-5  # of pixels in [0, 1], float32


@pytest.fixture(scope="module")
def text_to_image(new_backbone: Callable[..., Backbone]) -> Backbone:
    return new_backbone(3, "epsilon", TEXT_TO_IMAGE)


def random_controlnet(backbone: Backbone, halvings: int = 2) -> ControlNetModel:
    """An untrained one adds nothing: its last convolutions are zero. These are not."""
    torch.manual_seed(4)
    model = ControlNetModel.from_unet(
        backbone.unet, conditioning_embedding_out_channels=(8,) * (halvings + 1)
    )
    for part in (model.controlnet_down_blocks, model.controlnet_mid_block):
        for parameter in part.parameters():
            parameter.data.normal_(0.0, 0.1)
    model.controlnet_cond_embedding.conv_out.weight.data.normal_(0.0, 0.1)
    return model


@pytest.fixture(scope="module")
def row(text_to_image: Backbone, tmp_path_factory: pytest.TempPathFactory) -> ControlNetInpainting:
    folder = tmp_path_factory.mktemp("controlnet")
    random_controlnet(text_to_image).save_pretrained(folder)
    return ControlNetInpainting(text_to_image, load_controlnet(folder), STEPS)


def test_the_laws_of_a_row(row, batch) -> None:  # type: ignore[no-untyped-def]
    check_row(row, batch, 4, BATCH_TOLERANCE)


def test_it_is_diffusers_pipeline_given_prompts(row, batch) -> None:  # type: ignore[no-untyped-def]
    """What a user of the pipeline gets: prompts, one sample at a time, PIL's conventions aside."""
    text = row.backbone.text.first
    pipe = StableDiffusionControlNetInpaintPipeline(
        vae=row.backbone.vae,
        text_encoder=text.encoder,
        tokenizer=text.tokenizer,
        unet=row.backbone.unet,
        controlnet=row.controlnet.model,
        scheduler=ddim_scheduler(row.backbone.schedule),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    sampling = replace(STEPS, positive_prompt="shiny", negative_prompt="blurry", guidance_scale=5.0)
    ours = replace(row, sampling=sampling, scale=0.5)(*batch.args())
    for i, (image, mask, prompt, seed) in enumerate(zip(*batch.args(), strict=True)):
        condition = image.clone()
        condition[:, mask] = -1.0
        theirs = pipe(
            f"{prompt}, shiny",
            image[None],
            mask[None, None].float(),
            condition[None],
            num_inference_steps=4,
            guidance_scale=5.0,
            negative_prompt="blurry",
            controlnet_conditioning_scale=0.5,
            generator=torch.Generator().manual_seed(seed),
            output_type="pt",
        ).images[0]
        torch.testing.assert_close(ours[i], theirs, rtol=0, atol=BATCH_TOLERANCE)


def test_the_controlnet_reads_the_known_part_and_its_scale_counts(row, batch) -> None:  # type: ignore[no-untyped-def]
    condition = known_part(batch.images, batch.masks)
    hole = batch.masks[:, None].expand_as(condition)
    assert bool((condition[hole] == -1.0).all())
    assert torch.equal(condition[~hole], batch.images[~hole])
    painted = row(*batch.args())
    without = replace(row, scale=0.0)(*batch.args())
    # Above rounding in each, the fully masked one too: its condition is -1 everywhere.
    assert bool(((painted - without).abs().flatten(1).amax(1) > 50 * BATCH_TOLERANCE).all())


def test_blended_gives_the_known_pixels_back(row, batch) -> None:  # type: ignore[no-untyped-def]
    painted = replace(row, sampling=replace(STEPS, output="blended"))(*batch.args())
    known = ~batch.masks[:, None].expand_as(painted)
    assert torch.equal(painted[known], batch.images[known])


def test_every_setting_is_in_the_identity(row) -> None:  # type: ignore[no-untyped-def]
    other = LoadedControlNet(row.controlnet.model, {"controlnet/x.safetensors": "1"})
    assert list(row.controlnet.weights) == ["controlnet/diffusion_pytorch_model.safetensors"]
    for changed in (
        replace(row, scale=0.5),
        replace(row, controlnet=other),
        replace(row, sampling=replace(STEPS, guidance_scale=5.0)),
    ):
        assert changed.identity != row.identity


def test_a_controlnet_of_another_model_is_refused(text_to_image, new_backbone) -> None:  # type: ignore[no-untyped-def]
    reads_less = LoadedControlNet(random_controlnet(text_to_image, halvings=1), {})
    with pytest.raises(UserError, match=r"2 times the latents' size and the VAE's are 4"):
        ControlNetInpainting(text_to_image, reads_less)
    inpainting = LoadedControlNet(random_controlnet(new_backbone(0)), {})
    with pytest.raises(UserError, match=r"in_channels=9 and the UNet 4.*model\.controlnet\.path"):
        ControlNetInpainting(text_to_image, inpainting)


def test_missing_and_damaged_files_are_told_in_one_line(text_to_image, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=r"nobody/nothing.*model\.controlnet\.path") as caught:
        load_controlnet("nobody/nothing")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"model\.controlnet\.path"):
        load_controlnet(tmp_path)
    random_controlnet(text_to_image).save_pretrained(tmp_path)
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"model\.controlnet\.path") as caught:
        load_controlnet(tmp_path)
    assert "\n" not in str(caught.value)
