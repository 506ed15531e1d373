"""The attention sites of a UNet, found by its structure, not by names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import nn

from profi.types import UserError

Kind = Literal["self", "cross"]


@dataclass(frozen=True)
class Site:
    """One attention layer of a UNet.

    `name` is the layer's path in the UNet, and `block_name` that of its transformer block.
    `down_factor` is the size of the latents over the layer's size (1, 2, 4, ...; 2 and 4 are the
    paper's H/16 and H/32). `index` is the place in the order of execution, over both kinds.
    """

    name: str
    block_name: str
    kind: Kind
    down_factor: int
    index: int


def attention_sites(unet: UNet2DConditionModel) -> tuple[Site, ...]:
    """All attention sites of the UNet in the order of execution.

    Raises UserError if the UNet has attention outside the two layers of its transformer blocks: the
    method would not see it.
    """
    sites: list[Site] = []
    for block_name, block, factor in _transformer_blocks(unet):
        for layer in ("attn1", "attn2"):
            attention = getattr(block, layer)
            if attention is None:
                continue
            reads_text = (
                block.only_cross_attention if layer == "attn1" else attention.is_cross_attention
            )
            kind: Kind = "cross" if reads_text else "self"
            sites.append(Site(f"{block_name}.{layer}", block_name, kind, factor, len(sites)))
    known = {site.name for site in sites}
    for name, module in unet.named_modules():
        if isinstance(module, Attention) and name not in known:
            raise UserError(
                f"the UNet's {name} attends outside of the plain transformer blocks that the "
                "method knows; use a UNet of the Stable Diffusion family"
            )
    return tuple(sites)


def sites_at(sites: Iterable[Site], kind: Kind, down_factor: int) -> tuple[Site, ...]:
    """The sites of one kind and size; raises UserError when there is none."""
    sites = tuple(sites)
    found = tuple(s for s in sites if s.kind == kind and s.down_factor == down_factor)
    if not found:
        factors = sorted({s.down_factor for s in sites if s.kind == kind})
        raise UserError(
            f"the UNet has no {kind}-attention at down-factor {down_factor} of the latents; "
            f"choose among {', '.join(map(str, factors)) or 'none: it has no such attention'}"
        )
    return found


def _transformer_blocks(
    unet: UNet2DConditionModel,
) -> Iterator[tuple[str, BasicTransformerBlock, int]]:
    """(path, block, down-factor) in the order of execution.

    In down and up blocks the attention comes before the down- or upsampler, so the factor changes
    after the block.
    """
    factor = 1
    for i, stage in enumerate(unet.down_blocks):
        yield from _within(f"down_blocks.{i}", stage, factor)
        factor *= 2 ** len(_samplers(stage, "downsamplers"))
    if unet.mid_block is not None:
        yield from _within("mid_block", unet.mid_block, factor)
    for i, stage in enumerate(unet.up_blocks):
        yield from _within(f"up_blocks.{i}", stage, factor)
        factor //= 2 ** len(_samplers(stage, "upsamplers"))


def _samplers(stage: nn.Module, name: str) -> Sequence[nn.Module]:
    samplers = getattr(stage, name, None)
    return () if samplers is None else tuple(samplers)


def _within(
    path: str, stage: nn.Module, factor: int
) -> Iterator[tuple[str, BasicTransformerBlock, int]]:
    for name, module in stage.named_modules(prefix=path):
        if isinstance(module, BasicTransformerBlock):
            yield name, module, factor
