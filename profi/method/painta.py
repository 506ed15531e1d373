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
from profi.settings.reading import Active, Reading
from profi.types import UserError

#: Of the latents: the paper's H/16 and H/32.
DOWN_FACTORS = (2, 4)


@dataclass(frozen=True)
class MaskedRows:
    """Which rows of a level's attention are masked, as indices: only those are computed twice.

    `masked` [B, N] bool; `index` [B, R] int64, R the largest number of masked rows of a sample,
    the masked rows first; `there` [B, R] bool, False where a sample has fewer than R.
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
        """plain [B, ..., N, d] with its masked rows replaced by those of [B, ..., R, d]."""
        ones = (1,) * (plain.ndim - 3)
        index = self.index.view(len(plain), *ones, -1, 1).expand(introverted.shape)
        there = self.there.view(len(plain), *ones, -1, 1)
        return plain.scatter(-2, index, torch.where(there, introverted, plain.gather(-2, index)))

    def to(self, device: torch.device) -> MaskedRows:
        """The same on a device."""
        return MaskedRows(*(x.to(device) for x in (self.masked, self.index, self.there)))

    def twice(self) -> MaskedRows:
        """For a batch in which every sample stands twice, one half after the other."""
        return MaskedRows(*(torch.cat([x, x]) for x in (self.masked, self.index, self.there)))


def introverted_rows(q: Tensor, k: Tensor, v: Tensor, rows: MaskedRows, c: Tensor) -> Tensor:
    """The rows of eq. 5 that `rows.index` lists, [B, heads, R, d], without its hw x hw matrix.

    On a masked row i, c_j (q_i . k_j) = q_i . (c_j k_j): attention with scaled keys, which any
    fused kernel computes. q, k, v are [B, heads, N, d], c [B, N].
    """
    index = rows.index[:, None, :, None].expand(-1, q.shape[1], -1, q.shape[-1])
    return attend(q.gather(2, index), scaled_keys(k, rows.masked, c), v)


def scaled_keys(k: Tensor, masked: Tensor, c: Tensor) -> Tensor:
    """The keys that a masked row sees: c_j k_j where j is known, k_j where it is masked."""
    return k * torch.where(masked, 1.0, c).to(k.dtype)[:, None, :, None]


def prompt_similarity(cross_logits: Tensor, tokens: Tensor) -> Tensor:
    """[B, heads, N, L] cross-attention logits -> [B, N]: the attention paid to the prompt.

    Softmax over all L tokens, mean over heads, sum over ind(tau); float32.
    """
    probs = cross_logits.float().softmax(dim=-1).mean(dim=1)
    return (probs * tokens[:, None, :]).sum(dim=-1)


def normalised(similarity: Tensor) -> Tensor:
    """clip((c - median) / max, 0, 1) per sample, [B, N] -> [B, N].

    The median is the lower one of an even number of pixels; max is that of c itself, before the
    subtraction. A c of zeros stays one of zeros.
    """
    # A stable sort, not `median`: which of several equal pixels gets the gradient is then the
    # same in every run, on a GPU too.
    middle = (similarity.shape[1] - 1) // 2
    median = similarity.sort(dim=1, stable=True).values[:, middle, None]
    maximum = similarity.amax(dim=1, keepdim=True)
    return ((similarity - median) / torch.where(maximum > 0, maximum, 1.0)).clamp(0.0, 1.0)


def smoothed(similarity: Tensor, height: int, width: int) -> Tensor:
    """The 3x3 filter of the released code; [B, N] -> [B, N], N = height * width.

    Separable: along each axis the weights (1/e, 1, 1/e) over their sum. Beyond the edges are
    zeros and the weights stay the same there, so a constant map comes out darker at its edges.
    """
    image = similarity.view(-1, height, width)
    return _smoothed_along(_smoothed_along(image, 1), 2).flatten(1)


def _smoothed_along(x: Tensor, dim: int) -> Tensor:
    """One axis of the separable filter, by slices: no reduced-precision convolution and no
    padding whose backward is not deterministic on a GPU."""
    side = math.exp(-1.0)
    beyond = torch.zeros_like(x.narrow(dim, 0, 1))
    last = x.shape[dim] - 1
    before = torch.cat([beyond, x.narrow(dim, 0, last)], dim)
    after = torch.cat([x.narrow(dim, 1, last), beyond], dim)
    return (x + side * (before + after)) / (1.0 + 2.0 * side)


class PAIntA:
    """The attention control of eq. 5, for one batch.

    In the conditional pass c is computed and used; it is kept for the unconditional pass of the
    same step, which uses it too (so the conditional pass must run first). In a pass of both as a
    pair, the conditional half's c serves both halves.

    Args:
        reading: its choices of PAIntA.
        masks: per down-factor, [B, h, w] bool, True = unknown.
        tokens: ind(tau), [B, L] bool.
        observer: shown what masked rows attend with, at every self-attention site.
        on_similarity: shown c, where it is used.
        down_factors: of the latents: where it works.
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
        # A mask that vanished at this level leaves no row to treat otherwise.
        if not (rows and rows.any and is_active(self.reading.active, call.unet_pass)):
            self._observer(site, q, k, call.unet_pass)
            return plain
        # `project` works row by row: what c's query needs projected serves the known rows too.
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
    """Whether PAIntA works in this step."""
    if active == "first_half":
        return 2 * unet_pass.step_index < unet_pass.num_steps
    return unet_pass.t > 500


def painta_only(reading: Reading) -> Build:
    """The method that has PAIntA alone."""

    def build(batch: MethodBatch) -> MethodParts:
        masks = {factor: batch.level(factor, "self") for factor in DOWN_FACTORS}
        observers = batch.on_self_attention, batch.on_similarity
        return MethodParts(self_attention=PAIntA(reading, masks, batch.words, *observers))

    return build
