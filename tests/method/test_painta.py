from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy import ndimage
from torch import Tensor

from profi.method.attention import (
    AttentionCall,
    Branch,
    Projected,
    UNetPass,
    attend,
    controlled,
    logits,
)
from profi.method.painta import (
    MaskedRows,
    PAIntA,
    introverted_rows,
    is_active,
    normalised,
    prompt_similarity,
    smoothed,
)
from profi.method.sites import Site
from profi.models.backbone import Backbone
from profi.settings.method import PAPER
from profi.types import UserError


def introverted(q: Tensor, k: Tensor, v: Tensor, masked: Tensor, c: Tensor) -> Tensor:
    rows = MaskedRows.of(masked)
    return rows.put_into(attend(q, k, v), introverted_rows(q, k, v, rows, c))


def random_qkv(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = 2 * torch.randn(3, 2, 4, 16, 8, generator=generator)
    masked = torch.rand(2, 16, generator=generator) < 0.4
    return q, k, v, masked, torch.rand(2, 16, generator=generator)


@pytest.mark.parametrize("seed", range(5))
def test_scaled_keys_equal_the_materialised_eq_5(seed: int) -> None:
    q, k, v, masked, c = random_qkv(seed)
    A = logits(q, k)
    for b in range(2):
        for i in range(16):
            for j in range(16):
                if masked[b, i] and not masked[b, j]:
                    A[b, :, i, j] *= c[b, j]
    oracle = A.softmax(-1) @ v
    torch.testing.assert_close(introverted(q, k, v, masked, c), oracle)


def test_masked_rows_are_listed_first_and_padded() -> None:
    rows = MaskedRows.of(torch.tensor([[0, 1, 0, 1], [1, 1, 1, 0], [0, 0, 0, 0]]).bool())
    listed = [i[t].tolist() for i, t in zip(rows.index, rows.there, strict=True)]
    assert listed == [[1, 3], [0, 1, 2], []]
    assert all(len(set(i.tolist())) == 3 for i in rows.index)


def test_rows_outside_the_mask_are_plain_bit_for_bit() -> None:
    q, k, v, masked, c = random_qkv()
    rows = (~masked)[:, None, :, None].expand_as(q)
    out, plain = introverted(q, k, v, masked, c), attend(q, k, v)
    assert torch.equal(out[rows], plain[rows])
    assert not torch.equal(out, plain)


def test_limits_of_c_and_of_the_mask() -> None:
    q, k, v, masked, c = random_qkv()
    plain = attend(q, k, v)
    torch.testing.assert_close(introverted(q, k, v, masked, torch.ones_like(c)), plain)
    for mask in (torch.zeros_like(masked), torch.ones_like(masked)):
        torch.testing.assert_close(introverted(q, k, v, mask, c), plain)
    # c of a masked pixel is never read.
    other = torch.where(masked, 0.123, c)
    assert torch.equal(introverted(q, k, v, masked, c), introverted(q, k, v, masked, other))


def test_similarity_is_the_attention_that_goes_to_the_prompt() -> None:
    cross = torch.randn(2, 4, 16, 7, generator=torch.Generator().manual_seed(0))
    tokens = torch.zeros(2, 7, dtype=torch.bool)
    tokens[0, 1:4] = tokens[1, 1] = True
    c = prompt_similarity(cross, tokens)
    torch.testing.assert_close(c[0], cross[0].softmax(-1).mean(0)[:, 1:4].sum(-1))
    torch.testing.assert_close(prompt_similarity(cross, ~tokens), 1.0 - c)


@pytest.mark.parametrize("n", [1, 2, 9, 16])
def test_normalisation_as_printed_with_the_lower_median(n: int) -> None:
    c = torch.rand(3, n, generator=torch.Generator().manual_seed(n))
    got = normalised(c)
    assert bool(((got >= 0) & (got <= 1)).all())
    for row, out in zip(c.tolist(), got.tolist(), strict=True):
        median = sorted(row)[(n - 1) // 2]
        expected = [min(max((value - median) / max(row), 0.0), 1.0) for value in row]
        assert out == pytest.approx(expected, abs=1e-6)


def test_normalisation_of_nothing_is_nothing() -> None:
    assert torch.equal(normalised(torch.zeros(2, 4)), torch.zeros(2, 4))


# Along one axis: a pixel keeps e / (e + 2) of itself and gives 1 / (e + 2) to each neighbour.
KEEPS, GIVES = math.e / (math.e + 2), 1 / (math.e + 2)


def smoothed_impulse(height: int, width: int, at: tuple[int, int]) -> Tensor:
    """The response to a one at `at`, [height, width]."""
    c = torch.zeros(1, height, width)
    c[0, *at] = 1.0
    return smoothed(c.flatten(1), height, width).view(height, width)


@pytest.mark.parametrize(
    ("at", "rows", "columns"),
    [
        pytest.param((2, 3), [0, GIVES, KEEPS, GIVES, 0], [0, 0, GIVES, KEEPS, GIVES, 0], id="mid"),
        pytest.param((0, 3), [KEEPS, GIVES, 0, 0, 0], [0, 0, GIVES, KEEPS, GIVES, 0], id="edge"),
        pytest.param((4, 5), [0, 0, 0, GIVES, KEEPS], [0, 0, 0, 0, GIVES, KEEPS], id="corner"),
    ],
)
def test_smoothing_of_an_impulse(
    at: tuple[int, int], rows: list[float], columns: list[float]
) -> None:
    """What an impulse loses beyond an edge is lost: the weights do not grow there."""
    expected = torch.outer(torch.tensor(rows), torch.tensor(columns))
    torch.testing.assert_close(smoothed_impulse(5, 6, at), expected)


def test_smoothing_of_a_side_of_one_pixel() -> None:
    """Its neighbours on both sides are zeros."""
    line = KEEPS * torch.tensor([[GIVES, KEEPS, GIVES, 0.0]])
    torch.testing.assert_close(smoothed_impulse(1, 4, (0, 1)), line)
    torch.testing.assert_close(smoothed_impulse(4, 1, (1, 0)), line.T)
    torch.testing.assert_close(smoothed_impulse(1, 1, (0, 0)), torch.tensor([[KEEPS**2]]))


def test_smoothing_darkens_the_edges_of_a_constant_map() -> None:
    got = smoothed(torch.ones(1, 20), 4, 5).view(4, 5)
    down = torch.tensor([1 - GIVES, 1, 1, 1 - GIVES])
    across = torch.tensor([1 - GIVES, 1, 1, 1, 1 - GIVES])
    torch.testing.assert_close(got, torch.outer(down, across))


def by_scipy(c: Tensor, height: int, width: int) -> Tensor:
    """exp(-d^2) is a Gaussian of standard deviation sqrt(1/2); radius 1 makes the kernel 3x3."""
    image = c.view(height, width).double().numpy()
    peer = ndimage.gaussian_filter(image, sigma=math.sqrt(0.5), mode="constant", radius=1)
    return torch.from_numpy(peer).float().flatten()


def test_smoothing_equals_scipy() -> None:
    c = torch.rand(2, 6 * 5, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([by_scipy(row, 6, 5) for row in c])
    torch.testing.assert_close(smoothed(c, 6, 5), expected)


def test_active_window() -> None:
    def active(name: str, n: int) -> list[int]:
        steps = [UNetPass(Branch.CONDITIONAL, 999 - 20 * i, i, n) for i in range(n)]
        return [s.step_index for s in steps if is_active(name, s)]  # type: ignore[arg-type]

    assert active("first_half", 50) == list(range(25))
    assert active("t_above_500", 50) == list(range(25))
    assert active("first_half", 5) == [0, 1, 2]
    assert active("first_half", 1) == [0]


class Recorder:
    """PAIntA, and what it returned at every self-attention site, projected."""

    def __init__(self, painta: PAIntA) -> None:
        self.painta = painta
        self.seen: dict[int, tuple[Tensor, Tensor, Tensor, Tensor, AttentionCall]] = {}
        self.inputs: dict[int, Tensor] = {}

    def __call__(
        self, site: Site, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall
    ) -> Tensor | Projected:
        output = self.painta(site, q, k, v, call)
        if site.kind == "self":
            done = output.output if isinstance(output, Projected) else call.project(output)
            self.seen[site.down_factor] = (q, k, v, done, call)
        return output


LEVEL_MASKS = {f: torch.zeros(2, 16 // f, 16 // f, dtype=torch.bool) for f in (2, 4)}
for f, level in LEVEL_MASKS.items():
    level[0, : 8 // f] = True
    level[1, :, 4 // f :] = True
TOKENS = torch.zeros(2, 24, dtype=torch.bool)
TOKENS[0, 1:5] = TOKENS[1, 1:9] = True


def run(backbone: Backbone, control: object, unet_pass: UNetPass, text: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 9, 16, 16, generator=generator)
    context = text * torch.randn(2, 24, 32, generator=generator)
    assert callable(control)
    with torch.no_grad(), controlled(backbone.unet, control):
        backbone.unet(
            x, 900, encoder_hidden_states=context, cross_attention_kwargs=unet_pass.kwargs()
        )


@pytest.mark.parametrize("query", ["block_input", "after_self_attention"])
@pytest.mark.parametrize("smoothing", ["none", "zero_padded_3x3"])
def test_in_the_unet_painta_is_eq_5_with_c_from_its_definition(
    backbone: Backbone, query: str, smoothing: str
) -> None:
    settings = replace(PAPER, query=query, smoothing=smoothing)  # type: ignore[arg-type]
    recorder = Recorder(PAIntA(settings, LEVEL_MASKS, TOKENS))
    run(backbone, recorder, UNetPass(Branch.CONDITIONAL, 900, 0, 4))
    for factor, (q, k, v, output, call) in recorder.seen.items():
        plain = attend(q, k, v)
        plain_output = call.project(plain)
        if factor == 1:
            assert torch.equal(output, plain_output)
            continue
        # c, written out by diffusers' own pieces and the definition.
        hidden, attn2 = call.block_input, call.block.attn2
        if query == "after_self_attention":
            hidden = hidden + call.block.attn1.to_out[0](plain.transpose(1, 2).flatten(2))
        probs = attn2.get_attention_scores(
            attn2.head_to_batch_dim(attn2.to_q(call.block.norm2(hidden))),
            attn2.head_to_batch_dim(attn2.to_k(call.context)),
        )
        c = (probs.view(2, attn2.heads, -1, 24).mean(1) * TOKENS[:, None]).sum(-1)
        side = 16 // factor
        if smoothing == "zero_padded_3x3":
            c = torch.stack([by_scipy(row, side, side) for row in c])
        median = c.sort(dim=1).values[:, (side**2 - 1) // 2]
        c = ((c - median[:, None]) / c.max(1, keepdim=True).values).clamp(0, 1)
        masked = LEVEL_MASKS[factor].flatten(1)
        scale = torch.where(masked[:, :, None] & ~masked[:, None, :], c[:, None, :], 1.0)
        oracle = call.project((logits(q, k) * scale[:, None]).softmax(-1) @ v)
        torch.testing.assert_close(output, oracle, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(output, plain_output, rtol=1e-4, atol=1e-5)
        assert torch.equal(output[~masked], plain_output[~masked])


def test_the_unconditional_branch_uses_the_conditional_c(backbone: Backbone) -> None:
    painta = PAIntA(PAPER, LEVEL_MASKS, TOKENS)
    first, second = Recorder(painta), Recorder(painta)
    run(backbone, first, UNetPass(Branch.CONDITIONAL, 900, 0, 4))
    kept = {index: c for index, (_, c) in painta._kept.items()}
    run(backbone, second, UNetPass(Branch.UNCONDITIONAL, 900, 0, 4), text=0.0)
    q, k, v, output, call = second.seen[4]
    last_at_4 = [index for index, c in kept.items() if c.shape[1] == 16][-1]
    masked = LEVEL_MASKS[4].flatten(1)
    expected = call.project(introverted(q, k, v, masked, kept[last_at_4]))
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)


def test_a_pair_is_its_two_branches(backbone: Backbone) -> None:
    """One pass of both branches equals the conditional pass followed by the unconditional one."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 9, 16, 16, generator=generator)
    cond, uncond = torch.randn(2, 2, 24, 32, generator=generator)
    painta = PAIntA(PAPER, LEVEL_MASKS, TOKENS)

    def run_unet(x: Tensor, context: Tensor, branch: Branch) -> Tensor:
        kwargs = UNetPass(branch, 900, 0, 4).kwargs()
        output: Tensor = backbone.unet(
            x, 900, encoder_hidden_states=context, cross_attention_kwargs=kwargs
        ).sample
        return output

    with torch.no_grad(), controlled(backbone.unet, painta):
        pair = run_unet(torch.cat([x, x]), torch.cat([uncond, cond]), Branch.PAIR)
        first = run_unet(x, cond, Branch.CONDITIONAL)
        second = run_unet(x, uncond, Branch.UNCONDITIONAL)
    torch.testing.assert_close(pair, torch.cat([second, first]), rtol=1e-4, atol=1e-5)


def test_a_c_of_another_step_is_never_used(backbone: Backbone) -> None:
    painta = PAIntA(PAPER, LEVEL_MASKS, TOKENS)
    run(backbone, painta, UNetPass(Branch.CONDITIONAL, 900, 0, 4))
    with pytest.raises(RuntimeError, match="must run first"):
        run(backbone, painta, UNetPass(Branch.UNCONDITIONAL, 880, 1, 4))


def test_painta_is_plain_in_the_second_half(backbone: Backbone) -> None:
    recorder = Recorder(PAIntA(PAPER, LEVEL_MASKS, TOKENS))
    run(backbone, recorder, UNetPass(Branch.CONDITIONAL, 100, 2, 4))
    for q, k, v, output, call in recorder.seen.values():
        assert torch.equal(output, call.project(attend(q, k, v)))


def test_a_missing_mask_is_refused() -> None:
    with pytest.raises(UserError, match="down-factors"):
        PAIntA(PAPER, LEVEL_MASKS, TOKENS, down_factors=(2, 8))


def test_gradients_flow_through_c(backbone: Backbone) -> None:
    """The first self-attention of the UNet depends on the text through c alone."""
    mask = torch.zeros(2, 16, 16, dtype=torch.bool)
    mask[:, 4:9] = True
    painta = PAIntA(PAPER, {1: mask}, TOKENS, down_factors=(1,))
    outputs: list[Tensor] = []

    def keep(
        site: Site, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall
    ) -> Tensor | Projected:
        output = painta(site, q, k, v, call)
        outputs.append(output.output if isinstance(output, Projected) else output)
        return output

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 9, 16, 16, generator=generator)
    context = torch.randn(2, 24, 32, generator=generator).requires_grad_()
    unet_pass = UNetPass(Branch.CONDITIONAL, 900, 0, 4)
    with controlled(backbone.unet, keep):
        backbone.unet(
            x, 900, encoder_hidden_states=context, cross_attention_kwargs=unet_pass.kwargs()
        )
    (g,) = torch.autograd.grad(outputs[0].square().sum(), context)
    assert bool(torch.isfinite(g).all())
    assert float(g.abs().sum()) > 0.0
