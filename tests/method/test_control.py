from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from profi.method.attention import AttentionCall, Branch, Plain, UNetPass, attend, controlled
from profi.method.attention_objective import ByKind, CrossAttentionCapture
from profi.method.sites import Site, attention_sites, sites_at
from profi.models.backbone import Backbone
from profi.types import UserError

CONDITIONAL = UNetPass(Branch.CONDITIONAL, t=500, step_index=0, num_steps=2)
UNCONDITIONAL = UNetPass(Branch.UNCONDITIONAL, t=500, step_index=0, num_steps=2)


def inputs(batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 9, 16, 16, generator=generator)
    return x, torch.randn(batch, 24, 32, generator=generator)


def run(unet: UNet2DConditionModel, x: Tensor, context: Tensor, unet_pass: UNetPass) -> Tensor:
    return unet(
        x, 500, encoder_hidden_states=context, cross_attention_kwargs=unet_pass.kwargs()
    ).sample


def plain_run(unet: UNet2DConditionModel) -> Tensor:
    x, context = inputs()
    return unet(x, 500, encoder_hidden_states=context).sample


def state_of(unet: UNet2DConditionModel) -> dict[str, object]:
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in unet.modules())
    return {**unet.attn_processors, "hooks": hooks}


def test_sites_are_in_the_order_of_execution_with_their_true_sizes(backbone: Backbone) -> None:
    sites = attention_sites(backbone.unet)
    seen: list[tuple[Site, int]] = []

    def watch(site: Site, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall) -> Tensor:
        seen.append((site, q.shape[2]))
        assert (site.kind == "cross") == (k.shape[2] == 24)
        return attend(q, k, v)

    with controlled(backbone.unet, watch):
        run(backbone.unet, *inputs(), CONDITIONAL)
    assert [site for site, _ in seen] == list(sites)
    assert all(pixels == (16 // site.down_factor) ** 2 for site, pixels in seen)
    assert {site.down_factor for site in sites} == {1, 2, 4}


def test_sites_without_the_first_level(new_unet: Callable[..., UNet2DConditionModel]) -> None:
    unet = UNet2DConditionModel(
        in_channels=9,
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=32,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )
    sites = attention_sites(unet)
    assert {site.down_factor for site in sites} == {2, 4}
    assert len(sites_at(sites, "cross", 4)) == 4
    with pytest.raises(UserError, match=r"down-factor 1 .* choose among 2, 4"):
        sites_at(sites, "self", 1)


def test_identity_is_bit_equal_and_the_unet_is_restored(backbone: Backbone) -> None:
    unet = backbone.unet
    before, expected = state_of(unet), plain_run(unet)
    with controlled(unet, Plain()):
        assert torch.equal(run(unet, *inputs(), CONDITIONAL), expected)
        assert torch.equal(run(unet, *inputs(), UNCONDITIONAL), expected)
    assert state_of(unet) == before
    assert torch.equal(plain_run(unet), expected)


def test_the_unet_is_restored_after_an_exception(backbone: Backbone) -> None:
    before = state_of(backbone.unet)

    def fail(site: Site, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), controlled(backbone.unet, fail):
        run(backbone.unet, *inputs(), CONDITIONAL)
    assert state_of(backbone.unet) == before


class Adapter:
    """A processor of someone else's, which does more than plain attention."""

    def __call__(self, attn, hidden_states, **kwargs):  # type: ignore[no-untyped-def]
        return 2.0 * hidden_states


def test_attention_that_does_more_than_attend_is_refused_and_left_alone(
    new_unet: Callable[..., UNet2DConditionModel],
) -> None:
    unet = new_unet(1)
    last = attention_sites(unet)[-1]
    theirs = Adapter()
    unet.get_submodule(last.name).set_processor(theirs)
    before = state_of(unet)
    with (
        pytest.raises(UserError, match=rf"{last.name} has the attention processor Adapter"),
        controlled(unet, Plain()),
    ):
        pass
    assert state_of(unet) == before
    unet.set_attn_processor(AttnProcessor2_0())
    unet.fuse_qkv_projections()
    with pytest.raises(UserError, match="Fused"), controlled(unet, Plain()):
        pass


def zero(site: Site, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall) -> Tensor:
    return torch.zeros_like(q)


def test_nested_contexts_and_other_unets(
    backbone: Backbone, new_unet: Callable[..., UNet2DConditionModel]
) -> None:
    unet, other = backbone.unet, new_unet(1)
    expected, expected_other = plain_run(unet), plain_run(other)
    with controlled(unet, Plain()):
        with controlled(unet, zero):
            assert not torch.equal(run(unet, *inputs(), CONDITIONAL), expected)
            assert torch.equal(plain_run(other), expected_other)
        assert torch.equal(run(unet, *inputs(), CONDITIONAL), expected)


def test_a_control_sees_the_block_input_and_the_context(backbone: Backbone) -> None:
    """From X alone one can recompute q: norm1, then to_q."""
    _, context = inputs()
    checked: list[str] = []

    def check(site: Site, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall) -> Tensor:
        if site.kind == "self":
            q_again = call.attention.to_q(call.block.norm1(call.block_input))
            torch.testing.assert_close(q_again, q.transpose(1, 2).flatten(2))
            assert call.context is not None
            assert torch.equal(call.context, context)
            assert call.unet_pass == CONDITIONAL
            checked.append(site.name)
        return attend(q, k, v)

    with controlled(backbone.unet, check):
        run(backbone.unet, *inputs(), CONDITIONAL)
    assert len(checked) == len(attention_sites(backbone.unet)) // 2


def test_capture_reads_the_logits_of_diffusers_own_attention(backbone: Backbone) -> None:
    unet = backbone.unet
    required = sites_at(attention_sites(unet), "cross", 4)
    expected: list[Tensor] = []
    handles = []
    for site in required:
        attention = unet.get_submodule(site.name)

        def hook(module, args, kwargs, attention=attention):  # type: ignore[no-untyped-def]
            q = attention.head_to_batch_dim(attention.to_q(args[0]))
            k = attention.head_to_batch_dim(attention.to_k(kwargs["encoder_hidden_states"]))
            probs = attention.get_attention_scores(q, k)
            expected.append(probs.view(2, attention.heads, *probs.shape[1:]))

        handles.append(attention.register_forward_pre_hook(hook, with_kwargs=True))
    capture = CrossAttentionCapture(attention_sites(unet), 4)
    try:
        with torch.no_grad(), controlled(unet, capture):
            output = run(unet, *inputs(), CONDITIONAL)
            run(unet, *inputs(), UNCONDITIONAL)
    finally:
        for handle in handles:
            handle.remove()
    logits = capture.take()
    assert torch.equal(output, plain_run(unet))
    assert len(logits) == len(required) == 4
    for captured, probs in zip(logits, expected, strict=False):
        torch.testing.assert_close(captured.softmax(-1), probs)
    with pytest.raises(RuntimeError, match="no complete conditional pass"):
        capture.take()


def test_the_cut_leaves_the_gradient_as_it_is(backbone: Backbone) -> None:
    """The graph ends at the last captured site, and the logits' gradient and the output stay."""
    unet = backbone.unet
    x, context = inputs()

    class Keep(CrossAttentionCapture):
        """The same capture, its cut undone at once."""

        def __call__(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            output = super().__call__(*args, **kwargs)
            torch.set_grad_enabled(True)
            return output

    results = []
    for capture in (
        CrossAttentionCapture(attention_sites(unet), 4),
        Keep(attention_sites(unet), 4),
    ):
        leaf = x.clone().requires_grad_()
        with torch.enable_grad(), controlled(unet, ByKind(Plain(), capture)):
            output = run(unet, leaf, context, CONDITIONAL)
        assert torch.is_grad_enabled()
        loss = sum(logits.square().mean() for logits in capture.take())
        results.append((output, torch.autograd.grad(loss, leaf)[0]))
    (cut, g_cut), (whole, g_whole) = results
    assert not cut.requires_grad
    assert whole.requires_grad
    assert torch.equal(cut, whole)
    assert torch.equal(g_cut, g_whole)
    assert g_cut.abs().sum() > 0
