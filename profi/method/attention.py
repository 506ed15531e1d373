"""Attention controls: from q, k, v at a site to the attention's output.

    with controlled(unet, control):
        eps = unet(x, t, context, cross_attention_kwargs=UNetPass(...).kwargs()).sample

A control is any callable of the `AttentionControl` protocol. This module has no state: the UNet has
the processors inside the context and gets its own back after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol

from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn
from torch.nn import functional

from profi.method.sites import Site, attention_sites
from profi.types import UserError

# Attributes of attention layers that models of the Stable Diffusion family do not have.
FOREIGN_PARTS = ("group_norm", "spatial_norm", "norm_cross", "norm_q", "norm_k", "add_k_proj")


class Branch(Enum):
    """The branch of classifier-free guidance in a run of the UNet.

    PAIR is both branches in one batch of 2B, the unconditional half first.
    """

    CONDITIONAL = "conditional"
    UNCONDITIONAL = "unconditional"
    PAIR = "pair"


@dataclass(frozen=True)
class UNetPass:
    """The properties of one run of the UNet that a control may use.

    It is passed with the call (by diffusers' `cross_attention_kwargs`), so no run sees another's.
    """

    branch: Branch
    t: int
    step_index: int
    num_steps: int

    def kwargs(self) -> dict[str, UNetPass]:
        """The value for the UNet's `cross_attention_kwargs`."""
        return {"unet_pass": self}


@dataclass(frozen=True)
class AttentionCall:
    """The inputs of a control in addition to q, k and v.

    `block_input` is the transformer block's input X [B, N, C], before its first norm. `context` are
    the text embeddings [B, L, D] of the block's cross-attention (None in a UNet without text).
    `unet_pass` is None if the UNet was run without one.
    """

    attention: Attention
    block: BasicTransformerBlock
    block_input: Tensor
    context: Tensor | None
    unet_pass: UNetPass | None

    def conditional_half(self) -> AttentionCall:
        """The conditional (second) half of a PAIR."""
        B = len(self.block_input) // 2
        context = None if self.context is None else self.context[B:]
        return replace(self, block_input=self.block_input[B:], context=context)

    def project(self, output: Tensor) -> Tensor:
        """[B, heads, N, d] -> [B, N, C]: heads joined and `to_out` applied, as the layer does."""
        joined = output.transpose(1, 2).reshape(output.shape[0], output.shape[2], -1)
        projected: Tensor = self.attention.to_out[1](self.attention.to_out[0](joined))
        return projected

    def cross_logits(self, hidden_states: Tensor) -> Tensor:
        """The logits of the block's cross-attention for the input `hidden_states` [B, N, C].

        They are scaled, [B, heads, N, L], float32, before the softmax. The query is to_q of norm2;
        the keys are those of the context.
        """
        if self.context is None:
            raise RuntimeError("the transformer block was run without text embeddings")
        attention = self.block.attn2
        q = split_heads(attention, attention.to_q(self.block.norm2(hidden_states)))
        k = split_heads(attention, attention.to_k(self.context))
        return logits(q, k)


@dataclass(frozen=True)
class Projected:
    """An output [B, N, C] to which `AttentionCall.project` was already applied."""

    output: Tensor


class AttentionControl(Protocol):
    """Decides what an attention site returns."""

    def __call__(
        self, site: Site, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall
    ) -> Tensor | Projected:
        """The output [B, heads, N, d] from q [B, heads, N, d] and k, v [B, heads, K, d].

        A control that has computed the projection anyway may return the projected output.
        """
        ...


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Plain attention, softmax(q k^T / sqrt(d)) v, by the same operation as in diffusers."""
    return functional.scaled_dot_product_attention(
        q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False
    )


def logits(q: Tensor, k: Tensor) -> Tensor:
    """q k^T / sqrt(d), [B, heads, N, K], in float32 for every dtype of q and k."""
    return (q.float() @ k.float().transpose(-1, -2)) * q.shape[-1] ** -0.5


def split_heads(attention: Attention, x: Tensor) -> Tensor:
    """[B, N, heads * d] -> [B, heads, N, d]."""
    return x.view(x.shape[0], -1, attention.heads, x.shape[-1] // attention.heads).transpose(1, 2)


@dataclass(frozen=True)
class Plain:
    """The identity control: the output equals the unpatched UNet's bit for bit."""

    def __call__(self, site: Site, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall) -> Tensor:
        """Plain attention."""
        return attend(q, k, v)


@contextmanager
def controlled(unet: UNet2DConditionModel, control: AttentionControl) -> Iterator[None]:
    """Use `control` at every attention site of `unet` inside the context.

    On exit, also by an exception, the previous processors are restored and the hooks removed. In
    nested contexts the innermost control is used. Raises UserError if the UNet's attention does
    more than softmax(q k^T / sqrt(d)) v (with an IP-adapter, for example), which would be lost.
    """
    taps: dict[str, _BlockTap] = {}
    with ExitStack() as stack:
        for site in attention_sites(unet):
            if site.block_name not in taps:
                block = unet.get_submodule(site.block_name)
                taps[site.block_name] = stack.enter_context(_tapped(block))
            attention = unet.get_submodule(site.name)
            _check_is_plain(site, attention)
            stack.callback(attention.set_processor, attention.processor)
            attention.set_processor(_SiteProcessor(site, control, taps[site.block_name]))
        yield


def _check_is_plain(site: Site, attention: Attention) -> None:
    processor = attention.processor
    if not isinstance(processor, AttnProcessor2_0 | AttnProcessor | _SiteProcessor):
        raise UserError(
            f"the UNet's {site.name} has the attention processor {type(processor).__name__}, "
            "which the method would replace; take it off first: "
            "unet.set_attn_processor(AttnProcessor2_0())"
        )
    parts = [name for name in FOREIGN_PARTS if getattr(attention, name, None) is not None]
    if parts:
        raise UserError(
            f"the UNet's {site.name} has {', '.join(parts)}, which the method does not know; "
            "use a UNet of the Stable Diffusion family"
        )


class _BlockTap:
    """Holds a transformer block's inputs only while the block runs."""

    def __init__(self, block: BasicTransformerBlock) -> None:
        self.block = block
        self.inputs: tuple[Tensor, Tensor | None] | None = None

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden_states = args[0] if args else kwargs["hidden_states"]
        context = args[2] if len(args) > 2 else kwargs.get("encoder_hidden_states")
        self.inputs = (hidden_states, context)

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        # Otherwise the tap would keep the graph of a whole step in memory.
        self.inputs = None


@contextmanager
def _tapped(block: nn.Module) -> Iterator[_BlockTap]:
    tap = _BlockTap(block)
    before = block.register_forward_pre_hook(tap.enter, with_kwargs=True)
    after = block.register_forward_hook(tap.leave, always_call=True)
    try:
        yield tap
    finally:
        before.remove()
        after.remove()


class _SiteProcessor:
    """A diffusers attention processor that calls a control.

    The operations and their order are those of diffusers' AttnProcessor2_0, so the identity control
    gives exactly the same numbers.
    """

    def __init__(self, site: Site, control: AttentionControl, tap: _BlockTap) -> None:
        self.site = site
        self.control = control
        self.tap = tap

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        unet_pass: UNetPass | None = None,
    ) -> Tensor:
        if attention_mask is not None:
            raise NotImplementedError("controlled attention takes no attention mask")
        residual = hidden_states
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q = split_heads(attn, attn.to_q(hidden_states))
        k = split_heads(attn, attn.to_k(context))
        v = split_heads(attn, attn.to_v(context))

        if self.tap.inputs is None:
            raise RuntimeError(f"{self.site.name} was run outside of its transformer block")
        call = AttentionCall(attn, self.tap.block, *self.tap.inputs, unet_pass)
        output = self.control(self.site, q, k, v, call)

        if isinstance(output, Projected):
            hidden_states = output.output
        else:
            hidden_states = call.project(output.to(q.dtype))
        if attn.residual_connection:
            hidden_states = hidden_states + residual
        return hidden_states / attn.rescale_output_factor
