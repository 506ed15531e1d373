"""PAIntA, Prompt-Aware Introverted Attention (paper, sec. 3.3, eq. 5).

legend    masked            M [B, N]    True = unknown, to be inpainted
          similarity, c     c [B, N]    how much a known pixel agrees with the prompt, in [0, 1]
          tokens            ind(tau)    [B, L], the prompt's words and its first EOT
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from profi.method.attention import AttentionCall, Branch, Projected, UNetPass, attend
from profi.method.methods import Build, MethodBatch, MethodParts
from profi.method.similarity_maps import SelfAttentionObserver, SimilarityObserver, unobserved
from profi.method.sites import Site
from profi.settings.method import Active, Reading
from profi.types import UserError

#: The down-factors of the latents where PAIntA works: the paper's H/16 and H/32.
DOWN_FACTORS = (2, 4)


@dataclass(frozen=True)
class MaskedRows:
    """The masked rows of a level's attention as indices; only these are computed twice.

    `masked` [B, N] bool. `index` [B, R] int64, masked rows first; R is the largest number of masked
    rows of a sample. `there` [B, R] bool is False where a sample has fewer than R masked rows.
    """

    masked: Tensor
    index: Tensor
    there: Tensor

    @classmethod
    def of(cls, masked: Tensor) -> MaskedRows:
        """From [B, N] bool."""
        count = masked.sum(dim=1)
        R = int(count.max())
        index = (~masked).int().argsort(dim=1, stable=True)[:, :R]
        return cls(masked, index, torch.arange(R, device=masked.device) < count[:, None])

    @property
    def any(self) -> bool:
        """Whether any row of any sample is masked."""
        return self.index.shape[1] > 0

    def put_into(self, plain: Tensor, introverted: Tensor) -> Tensor:
        """plain [B, ..., N, d] with the masked rows replaced by introverted [B, ..., R, d]."""
        ones = (1,) * (plain.ndim - 3)
        index = self.index.view(len(plain), *ones, -1, 1).expand(introverted.shape)
        there = self.there.view(len(plain), *ones, -1, 1)
        return plain.scatter(-2, index, torch.where(there, introverted, plain.gather(-2, index)))

    def to(self, device: torch.device) -> MaskedRows:
        """The same on a device."""
        return MaskedRows(*(x.to(device) for x in (self.masked, self.index, self.there)))

    def twice(self) -> MaskedRows:
        """The same for a batch of 2B: the samples, and then the samples again."""
        return MaskedRows(*(torch.cat([x, x]) for x in (self.masked, self.index, self.there)))


def introverted_rows(q: Tensor, k: Tensor, v: Tensor, rows: MaskedRows, c: Tensor) -> Tensor:
    """The rows `rows.index` of eq. 5, [B, heads, R, d], without the hw x hw matrix.

    In a masked row i, c_j (q_i . k_j) = q_i . (c_j k_j). So it is attention with scaled keys, which
    fused kernels can compute. q, k, v are [B, heads, N, d], c [B, N].
    """
    index = rows.index[:, None, :, None].expand(-1, q.shape[1], -1, q.shape[-1])
    return attend(q.gather(2, index), scaled_keys(k, rows.masked, c), v)


def scaled_keys(k: Tensor, masked: Tensor, c: Tensor) -> Tensor:
    """The keys for masked rows: c_j k_j where j is known, k_j where it is masked."""
    return k * torch.where(masked, 1.0, c).to(k.dtype)[:, None, :, None]


def prompt_similarity(cross_logits: Tensor, tokens: Tensor) -> Tensor:
    """[B, heads, N, L] cross-attention logits -> [B, N]: the attention to the prompt.

    Softmax over all L tokens, mean over heads, sum over ind(tau); float32.
    """
    probs = cross_logits.float().softmax(dim=-1).mean(dim=1)
    return (probs * tokens[:, None, :]).sum(dim=-1)


def normalised(similarity: Tensor) -> Tensor:
    """clip((c - median) / max, 0, 1) per sample, [B, N] -> [B, N].

    For an even number of pixels the median is the lower of the two middle values. The maximum is
    taken before the subtraction. If c is zero everywhere, the result is zero.
    """
    # A stable sort, not `median`: the gradient then goes to the same of several equal pixels in
    # every run, also on a GPU.
    middle = (similarity.shape[1] - 1) // 2
    median = similarity.sort(dim=1, stable=True).values[:, middle, None]
    maximum = similarity.amax(dim=1, keepdim=True)
    return ((similarity - median) / torch.where(maximum > 0, maximum, 1.0)).clamp(0.0, 1.0)


def smoothed(similarity: Tensor, height: int, width: int) -> Tensor:
    """The 3x3 filter of the released code; [B, N] -> [B, N], N = height * width.

    Separable: along each axis the weights are (1/e, 1, 1/e) over their sum. Values beyond the edges
    are zeros and the weights do not change there, so a constant map gets smaller at its edges.
    """
    image = similarity.view(-1, height, width)
    return _smoothed_along(_smoothed_along(image, 1), 2).flatten(1)


def _smoothed_along(x: Tensor, dim: int) -> Tensor:
    """One axis of the separable filter.

    It uses slices: a convolution may have reduced precision, and the backward pass of padding is
    not deterministic on a GPU.
    """
    side = math.exp(-1.0)
    beyond = torch.zeros_like(x.narrow(dim, 0, 1))
    last = x.shape[dim] - 1
    before = torch.cat([beyond, x.narrow(dim, 0, last)], dim)
    after = torch.cat([x.narrow(dim, 1, last), beyond], dim)
    return (x + side * (before + after)) / (1.0 + 2.0 * side)


class PAIntA:
    """The attention control of eq. 5, for one batch.

    The conditional pass computes and uses c, and keeps it for the unconditional pass of the same
    step (so the conditional pass must run first). In a pass of the pair, both halves use the
    conditional half's c.

    Args:
        reading: gives the choices of PAIntA.
        masks: per down-factor, [B, h, w] bool, True = unknown.
        tokens: ind(tau), [B, L] bool.
        observer: called with the queries and keys of masked rows, at every self-attention site.
        on_similarity: called with c where it is used.
        down_factors: the down-factors of the latents where PAIntA works.
    """

    def __init__(
        self,
        reading: Reading,
        masks: Mapping[int, Tensor],
        tokens: Tensor,
        observer: SelfAttentionObserver = unobserved,
        on_similarity: SimilarityObserver | None = None,
        down_factors: Sequence[int] = DOWN_FACTORS,
    ) -> None:
        missing = sorted(set(down_factors) - set(masks))
        if missing:
            raise UserError(f"PAIntA: no mask for down-factors {missing}; give one for each")
        self.reading = reading
        self.masks = masks
        self.tokens = tokens
        self._rows = {f: MaskedRows.of(masks[f].flatten(1)) for f in down_factors}
        self._observer = observer
        self._on_similarity = on_similarity
        self._kept: dict[int, tuple[int, Tensor]] = {}

    def __call__(
        self, site: Site, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall
    ) -> Tensor | Projected:
        """Eq. 5 at the chosen self-attention sites of active steps, else plain attention."""
        plain = attend(q, k, v)
        if site.kind != "self":
            return plain
        if call.unet_pass is None:
            raise RuntimeError("PAIntA needs to know the UNet's pass: give it as UNetPass.kwargs()")
        rows = self._rows.get(site.down_factor)
        # If the mask vanished at this level, there are no masked rows.
        if not (rows and rows.any and is_active(self.reading.active, call.unet_pass)):
            self._observer(site, q, k, call.unet_pass)
            return plain
        # `project` works row by row, so the projection for c's query also serves the known rows.
        projected = call.project(plain)
        c = self._similarity(site, projected, call, call.unet_pass)
        if self._on_similarity is not None:
            self._on_similarity(site, c, call.unet_pass)
        rows = rows.to(q.device)
        if call.unet_pass.branch is Branch.PAIR:
            c, rows = torch.cat([c, c]), rows.twice()
        self._observer(site, q, scaled_keys(k, rows.masked, c), call.unet_pass)
        masked_rows = call.project(introverted_rows(q, k, v, rows, c))
        return Projected(rows.put_into(projected, masked_rows))

    def _similarity(
        self, site: Site, projected: Tensor, call: AttentionCall, unet_pass: UNetPass
    ) -> Tensor:
        """c [B, N] of this site in this step; `projected` [B, N, C] is vanilla self-attention's."""
        if unet_pass.branch is Branch.UNCONDITIONAL:
            step_index, c = self._kept.pop(site.index, (None, projected))
            if step_index != unet_pass.step_index:
                raise RuntimeError("PAIntA: the conditional pass of a step must run first")
            return c
        if unet_pass.branch is Branch.PAIR:
            call, projected = call.conditional_half(), projected[len(projected) // 2 :]
        X = call.block_input
        query = X if self.reading.query == "block_input" else X + projected
        c = prompt_similarity(call.cross_logits(query), self.tokens)
        if self.reading.smoothing == "zero_padded_3x3":
            height, width = self.masks[site.down_factor].shape[-2:]
            c = smoothed(c, height, width)
        c = normalised(c)
        if self.reading.c_gradient == "stops":
            c = c.detach()
        if unet_pass.branch is Branch.CONDITIONAL:
            self._kept[site.index] = (unet_pass.step_index, c.detach())
        return c


def is_active(active: Active, unet_pass: UNetPass) -> bool:
    """Whether PAIntA is active in this step."""
    if active == "first_half":
        return 2 * unet_pass.step_index < unet_pass.num_steps
    return unet_pass.t > 500


def painta_only(reading: Reading) -> Build:
    """The method with only PAIntA."""

    def build(batch: MethodBatch) -> MethodParts:
        masks = {factor: batch.level(factor, "self") for factor in DOWN_FACTORS}
        observers = batch.on_self_attention, batch.on_similarity
        return MethodParts(self_attention=PAIntA(reading, masks, batch.words, *observers))

    return build
