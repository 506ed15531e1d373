"""Tiny random models of the structures of SD 1, SD 2 and SDXL, saved by diffusers' pipelines."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)
from tiny_pipelines import CROSS, PLAIN, TOKEN_LIMIT, make_pipeline
from torch import Tensor

from profi.inpainter import start_noise
from profi.method.attention import AttentionCall, Branch, UNetPass, attend, controlled
from profi.method.inpainting import StableInpainting
from profi.method.methods import compose
from profi.method.sites import Site, attention_sites
from profi.models.backbone import Backbone, backbone_identity, load_backbone
from profi.settings.method import PAPER, RELEASED, Sampling
from profi.types import UserError

HEIGHT, WIDTH = 32, 64
STEPS = 2
TOLERANCE = 1e-4  # of pixels in [0, 1], float32
STRUCTURES = ("sd1", "sd2", "sdxl")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("structures")
    pipelines = {structure: make_pipeline(structure) for structure in STRUCTURES}
    pipelines["sdxl, no zeros"] = make_pipeline("sdxl", force_zeros_for_empty_prompt=False)
    for name, pipeline in pipelines.items():
        pipeline.save_pretrained(root / name)
    return {name: root / name for name in pipelines}


@pytest.fixture(scope="module")
def backbones(folders: dict[str, Path]) -> dict[str, Backbone]:
    return {structure: load_backbone(folder) for structure, folder in folders.items()}


def inputs() -> tuple[Tensor, Tensor, list[str], list[int]]:
    """Prompts of one word, of some, and of as many as there is room for; a mask in three parts."""
    images = torch.rand(4, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(7))
    masks = torch.zeros(4, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, 10:28, 16:48] = True
    masks[1, :12, 44:] = masks[1, 20:, :30] = masks[1, 10:22, 34:42] = True
    masks[2, 2:30, 2:30] = True
    masks[3] = True
    longest = " ".join("abcdefghijklmnopqrstuvwx")
    return images, masks, ["cat", "an old red clock", longest, "two dogs, one cat"], [1, 2, 3, 4]


def paint(backbone: Backbone, ablation: str, only: slice = slice(None), **sampling: Any) -> Tensor:
    method, steps = compose(ablation, RELEASED), Sampling(num_inference_steps=STEPS, **sampling)
    images, masks, prompts, seeds = inputs()
    return StableInpainting(backbone, method, steps)(
        images[only], masks[only], prompts[only], seeds[only]
    )


@pytest.mark.parametrize(
    ("name", "negative"),
    [
        ("sd1", ""),
        ("sd2", ""),
        ("sd2", "blurry"),
        ("sdxl", ""),
        ("sdxl", "blurry"),
        ("sdxl, no zeros", ""),
    ],
)
def test_base_equals_diffusers_pipeline(
    name: str, negative: str, folders: dict[str, Path], backbones: dict[str, Backbone]
) -> None:
    images, masks, prompts, seeds = inputs()
    # Whole cells: diffusers takes the first pixel of each.
    masks = masks[:, ::4, ::4].repeat_interleave(4, 1).repeat_interleave(4, 2)
    sampling = Sampling(num_inference_steps=STEPS, negative_prompt=negative)
    paint_base = StableInpainting(backbones[name], compose("base", PAPER), sampling)
    ours = paint_base(images, masks, prompts, seeds)

    xl = name.startswith("sdxl")
    pipeline = StableDiffusionXLInpaintPipeline if xl else StableDiffusionInpaintPipeline
    pipe = pipeline.from_pretrained(folders[name], **({"add_watermarker": False} if xl else {}))
    pipe.scheduler = DDIMScheduler.from_config(
        pipe.scheduler.config,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        clip_sample=False,
    )
    pipe.set_progress_bar_config(disable=True)
    masked = (2 * images - 1) * ~masks[:, None]
    with torch.no_grad():
        latents = pipe.vae.encode(masked).latent_dist.mean * pipe.vae.config.scaling_factor
    theirs = pipe(
        prompt=prompts,
        negative_prompt=[negative] * 4 if negative else None,
        image=2 * images - 1,
        mask_image=masks[:, None].float(),
        masked_image_latents=latents,
        height=HEIGHT,
        width=WIDTH,
        latents=start_noise(seeds, (4, HEIGHT // 4, WIDTH // 4)),
        num_inference_steps=STEPS,
        guidance_scale=7.5,
        strength=1.0,
        eta=0.0,
        output_type="pt",
    ).images
    torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE)


def test_the_empty_prompt_of_sdxl_is_zeros_or_encoded(backbones: dict[str, Backbone]) -> None:
    """The choice is read from the folder, seen in the picture and part of a run's identity."""
    both = [backbones["sdxl"], backbones["sdxl, no zeros"]]
    zeros, encoded = (paint(backbone, "base", slice(1)) for backbone in both)
    assert float((zeros - encoded).abs().max()) > 10 * TOLERANCE
    zeros, encoded = (paint(backbone, "base", slice(1), negative_prompt="x") for backbone in both)
    assert torch.equal(zeros, encoded)
    identities = [backbone_identity(backbone)["backbone"] for backbone in both]
    assert identities[0].pop("configs") != identities[1].pop("configs")
    assert identities[0] == identities[1]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_sites_are_found_by_structure(structure: str, backbones: dict[str, Backbone]) -> None:
    backbone = backbones[structure]
    unet, sites = backbone.unet, attention_sites(backbone.unet)
    seen: list[Site] = []

    def watch(site: Site, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall) -> Tensor:
        seen.append(site)
        assert q.shape[2] == (8 // site.down_factor) * (16 // site.down_factor)
        assert (k.shape[2] == TOKEN_LIMIT) == (site.kind == "cross")
        return attend(q, k, v)

    unet_pass = UNetPass(Branch.CONDITIONAL, t=500, step_index=0, num_steps=2)
    text = backbone.condition(["cat"], (HEIGHT, WIDTH))
    with torch.no_grad(), controlled(unet, watch):
        unet(
            torch.zeros(1, 9, 8, 16),
            500,
            **text.kwargs(),
            cross_attention_kwargs=unet_pass.kwargs(),
        )
    assert seen == list(sites)
    factors = {2, 4} if structure == "sdxl" else {1, 2, 4, 8}
    for kind in ("self", "cross"):
        assert {site.down_factor for site in sites if site.kind == kind} == factors


@pytest.mark.parametrize(
    ("settings", "parameters", "head_dims", "counts"),
    [
        (
            {"cross_attention_dim": 768, "attention_head_dim": 8},
            859_520_964,
            {40, 80, 160},
            {1: 5, 2: 5, 4: 5, 8: 1},
        ),
        (
            {
                "cross_attention_dim": 1024,
                "attention_head_dim": (5, 10, 20, 20),
                "use_linear_projection": True,
            },
            865_910_724,
            {64},
            {1: 5, 2: 5, 4: 5, 8: 1},
        ),
        (
            {
                "cross_attention_dim": 2048,
                "attention_head_dim": (5, 10, 20),
                "use_linear_projection": True,
                "block_out_channels": (320, 640, 1280),
                "down_block_types": (PLAIN[0], CROSS[0], CROSS[0]),
                "up_block_types": (CROSS[1], CROSS[1], PLAIN[1]),
                "transformer_layers_per_block": (1, 2, 10),
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 2816,
            },
            2_567_463_684,
            {64},
            {2: 10, 4: 60},
        ),
    ],
    ids=STRUCTURES,
)
def test_sites_at_the_published_sizes(
    settings: dict[str, Any], parameters: int, head_dims: set[int], counts: dict[int, int]
) -> None:
    """Transformer blocks per down-factor, counted by hand in the configs.

    `parameters`: of the published text-to-image UNet; conv_in has 5 more channels here.
    """
    with torch.device("meta"):
        unet = UNet2DConditionModel(in_channels=9, **settings)
    assert sum(parameter.numel() for parameter in unet.parameters()) == parameters + 5 * 320 * 9
    sites = attention_sites(unet)
    for kind in ("self", "cross"):
        assert Counter(site.down_factor for site in sites if site.kind == kind) == counts
    layers = [unet.get_submodule(site.name) for site in sites]
    assert {layer.to_q.out_features // layer.heads for layer in layers} == head_dims


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_module_works_on_a_mixed_batch(
    structure: str, backbones: dict[str, Backbone]
) -> None:
    pictures = {
        row: paint(backbones[structure], row)
        for row in ("base", "painta_only", "rasg_only", "profi")
    }
    for i, (row, picture) in enumerate(pictures.items()):
        assert picture.shape == (4, 3, HEIGHT, WIDTH)
        for other in list(pictures)[:i]:
            # A full mask, the last sample's, leaves PAIntA nothing to do.
            change = (picture - pictures[other])[:3].abs().flatten(1).amax(1)
            assert float(change.min()) > 10 * TOLERANCE, (row, other)
    ones = [paint(backbones[structure], "profi", slice(i, i + 1)) for i in range(4)]
    torch.testing.assert_close(torch.cat(ones), pictures["profi"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_two_batches_stacked_are_the_two_in_one_run(
    structure: str, backbones: dict[str, Backbone]
) -> None:
    backbone = backbones[structure]
    size = (HEIGHT, WIDTH)
    cond = backbone.condition(["cat", "a dog"], size)
    uncond = backbone.unconditional("", size, 2)
    x = torch.randn(2, 9, 8, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        apart = [backbone.unet(x, 500, **text.kwargs()).sample for text in (uncond, cond)]
        stacked = uncond.stacked(cond).kwargs()
        together = backbone.unet(torch.cat([x, x]), 500, **stacked).sample
    torch.testing.assert_close(together, torch.cat(apart))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_words_with_a_suffix_and_at_the_limit(
    structure: str, backbones: dict[str, Backbone]
) -> None:
    text = backbones[structure].text
    words = text.words(["red cat", "a", "a b c d e f g h i j"], "full, hd")
    # One token a letter; SOT, the prompt's, the suffix's (a comma, "full", a comma, "hd"), EOT.
    expected = [[*range(1, 1 + n), n + 9] for n in (6, 1, 10)]
    assert [row.nonzero().flatten().tolist() for row in words] == expected
    longest = "a" * (TOKEN_LIMIT - 2)
    assert text.words([longest])[0].tolist() == [False] + [True] * (TOKEN_LIMIT - 1)
    for read in (text.words, lambda prompts: text(prompts, (HEIGHT, WIDTH))):
        with pytest.raises(UserError, match=r"has 27 tokens .* takes 26"):
            read([longest + "a"])


def test_a_prompt_that_two_tokenizers_cut_differently(backbones: dict[str, Backbone]) -> None:
    """The second one's "!" is its padding, a token by itself."""
    assert backbones["sdxl"].text.words(["cat!"]).sum() == 5
    for structure in ("sd1", "sd2"):
        backbones[structure].text.words(["cat!!"])
    with pytest.raises(UserError, match="'cat!!' into different numbers of tokens"):
        backbones["sdxl"].text.words(["cat", "cat!!"])
