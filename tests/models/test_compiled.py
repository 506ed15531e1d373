from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import FeedForward
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor
from torch._inductor.utils import fresh_inductor_cache

import profi
from profi.method.attention_objective import AttentionObjective
from profi.method.ddim import sigma_schedule
from profi.method.inpainting import StableInpainting
from profi.method.methods import Method, MethodBatch, MethodParts, compose
from profi.method.painta import PAIntA
from profi.method.rasg import RASG
from profi.models.backbone import Backbone
from profi.models.compiled import CompiledBlocks
from profi.settings.method import PAPER, Sampling
from profi.types import MachineError, UserError

TOLERANCE = 1e-4  # of pixels in [0, 1], float32
DYNAMO_LIMIT = 8  # compilations per code object, torch's default

needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="needs a C++ compiler (g++)"
)


def small(backbone: Backbone, levels: int, dtype: torch.dtype = torch.float32) -> Backbone:
    """Of one level, or two of which the lower one has attention."""
    down, up = ["CrossAttnDownBlock2D"], ["CrossAttnUpBlock2D"]
    if levels == 2:
        down, up = ["DownBlock2D", *down], [*up, "UpBlock2D"]
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=9,
        block_out_channels=(8,) * levels,
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=32,
        attention_head_dim=4,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
    )
    parts = backbone.vae, backbone.text, backbone.schedule
    return Backbone.from_parts(unet.to(dtype), *parts)


def method(ablation: str, down_factor: int) -> Method:
    """Its modules at the one level with attention."""
    if ablation == "base":
        return compose("base", PAPER)

    def both(batch: MethodBatch) -> MethodParts:
        mask = batch.level(down_factor, "self")
        objective = AttentionObjective(PAPER, mask.flatten(1), batch.words)
        return MethodParts(
            self_attention=PAIntA(
                PAPER, {down_factor: mask}, batch.words, down_factors=(down_factor,)
            ),
            step_noise=RASG(objective),
            sigmas=sigma_schedule(batch.schedule, batch.timesteps, PAPER.sigma, PAPER.eta),
            reads=down_factor,
        )

    return compose(both, PAPER)


def paint(backbone: Backbone, ablation: str, down_factor: int, batch: int = 1) -> Tensor:
    images = torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(batch, 32, 32, dtype=torch.bool)
    masks[:, :16, 8:] = True
    # Of two steps the first is guided, in two passes, and the last is one pass of a pair.
    sampling = Sampling(num_inference_steps=2)
    inpainter = StableInpainting(backbone, method(ablation, down_factor), sampling)
    return inpainter(images, masks, ["cat"] * batch, list(range(batch)))


@needs_compiler
@pytest.mark.parametrize(
    ("row", "compilations"),
    [
        # Two residual structures and the feed-forward, for a pair.
        ("base", 3),
        # And for each branch alone, the conditional one with gradients. Minutes.
        pytest.param("profi", 9, marks=pytest.mark.slow),
    ],
)
def test_compiled_kernels_paint_what_eager_ones_do(
    backbone: Backbone, row: str, compilations: int
) -> None:
    model = small(backbone, levels=1)
    eager = paint(model, row, 1)
    with CompiledBlocks(model.unet) as blocks:
        torch.testing.assert_close(paint(model, row, 1), eager, rtol=0, atol=TOLERANCE)
        assert len(blocks) == compilations


@pytest.fixture(scope="module")
def two_levels(backbone: Backbone) -> Iterator[tuple[Backbone, CompiledBlocks]]:
    """Traced and differentiated as for a real compiler, then run by PyTorch's own kernels."""
    model = small(backbone, levels=2)
    blocks = CompiledBlocks(model.unet, backend="aot_eager")
    yield model, blocks
    blocks.remove()


def test_every_pass_is_compiled_once(two_levels: tuple[Backbone, CompiledBlocks]) -> None:
    """Graphs are cut within the UNet and the passes differ in batch and gradients."""
    model, blocks = two_levels
    eager = {row: paint(model, row, down_factor=2, batch=2) for row in ("base", "profi")}
    counts = []
    with blocks:
        for _ in range(2):
            for row, expected in eager.items():
                torch.testing.assert_close(
                    paint(model, row, 2, batch=2), expected, rtol=0, atol=TOLERANCE
                )
                counts.append(len(blocks))
    assert float((eager["base"] - eager["profi"]).abs().max()) > 10 * TOLERANCE
    base, both, *again = counts
    # Inputs by level and channels: 8 and 16 (with the skip) in both, and the feed-forward.
    assert base == 5
    assert both > base + DYNAMO_LIMIT
    assert again == [both, both]
    torch.testing.assert_close(paint(model, "profi", 2, batch=2), eager["profi"], rtol=0, atol=0)
    assert len(blocks) == both


def test_the_unet_is_the_same_and_is_restored(
    two_levels: tuple[Backbone, CompiledBlocks],
) -> None:
    model, blocks = two_levels
    before = {name: id(module) for name, module in model.unet.named_modules()}
    weights = list(model.unet.state_dict())
    changed = [m for m in model.unet.modules() if isinstance(m, ResnetBlock2D | FeedForward)]
    another = CompiledBlocks(model.unet, backend="aot_eager")
    with blocks:
        assert all("forward" in vars(module) for module in changed)
        assert {name: id(module) for name, module in model.unet.named_modules()} == before
        assert list(model.unet.state_dict()) == weights
        with pytest.raises(UserError, match="already; compile them once"):
            another.install()
    with pytest.raises(ZeroDivisionError), blocks:
        raise ZeroDivisionError
    assert not any("forward" in vars(module) for module in model.unet.modules())


def test_a_float16_gradient_may_be_taken_twice(backbone: Backbone) -> None:
    model = small(backbone, levels=1, dtype=torch.float16)
    eager = paint(model, "profi", 1)
    with CompiledBlocks(model.unet, backend="aot_eager"):
        compiled = paint(model, "profi", 1)
    assert float((compiled - eager).abs().mean()) < 1e-2


def test_without_a_compiler_it_says_so_in_one_line() -> None:
    with (
        torch._inductor.config.patch({"cpp.cxx": ("/no/such/compiler",)}),
        pytest.raises(
            UserError, match=r"no C\+\+ compiler is found here; install .* leave"
        ) as caught,
    ):
        profi.load("mini", device="cpu", compile=True)
    assert "\n" not in str(caught.value)


def test_a_broken_compiler_is_told_in_one_line(backbone: Backbone, tmp_path: Path) -> None:
    broken = tmp_path / "g++"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "g++ 12" && exit\nexit 1\n')
    broken.chmod(0o755)
    model = small(backbone, levels=1)
    with (
        fresh_inductor_cache(),
        torch._inductor.config.patch({"cpp.cxx": (str(broken),), "compile_threads": 1}),
        CompiledBlocks(model.unet),
        pytest.raises(UserError, match=r"torch\.compile failed .* leave compile off") as caught,
    ):
        paint(model, "base", 1)
    assert "\n" not in str(caught.value)
    assert not any("forward" in vars(module) for module in model.unet.modules())


def test_a_block_that_may_not_be_compiled_again_is_told_in_one_line(backbone: Backbone) -> None:
    """PyTorch's limit, reached by a setting that every compilation is special to."""
    model = small(backbone, levels=1)
    with CompiledBlocks(model.unet, backend="aot_eager"):
        paint(model, "base", 1)
        torch.use_deterministic_algorithms(True)
        try:
            with (
                torch._dynamo.config.patch(recompile_limit=1),
                pytest.raises(MachineError, match=r"compiled again too often.*off") as caught,
            ):
                paint(model, "base", 1)
        finally:
            torch.use_deterministic_algorithms(False)
    assert "\n" not in str(caught.value)


@needs_compiler
def test_a_painter_is_loaded_with_compiled_blocks() -> None:
    painters = [profi.load("mini", device="cpu", compile=c, channels_last=c) for c in (True, False)]
    for painter, compiled in zip(painters, (True, False), strict=True):
        unet = painter.backbone.unet
        assert any("forward" in vars(module) for module in unet.modules()) == compiled
        # Of a kernel of 3 by 3, which of the two formats it is shows.
        weight = unet.conv_in.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == compiled
