from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from profi.method.attention import AttentionCall, Branch, UNetPass, attend, controlled, logits
from profi.method.inpainting import StableInpainting
from profi.method.level_masks import mask_pyramid
from profi.method.methods import compose
from profi.method.similarity_maps import Observed, SimilarityMaps
from profi.method.sites import Site
from profi.models.backbone import Backbone
from profi.settings.method import PAPER, Sampling
from profi.types import UserError

SAMPLING = Sampling(num_inference_steps=4)


def levels(masks: Tensor) -> dict[int, Tensor]:
    return mask_pyramid(masks, 4, (2, 4), "nearest").levels


@pytest.mark.parametrize("scores", ["logits", "probs"])
def test_maps_are_eq_12_of_the_materialised_matrices(backbone: Backbone, batch, scores) -> None:  # type: ignore[no-untyped-def]
    """Every matrix of every layer and step, kept and averaged afterwards."""
    masks = levels(batch.masks[:2])
    maps = SimilarityMaps(masks, scores)
    matrices: dict[int, list[Tensor]] = {2: [], 4: []}
    observed = Observed(maps)

    def keep(site: Site, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall) -> Tensor:
        if site.kind == "self" and site.down_factor in matrices:
            A = logits(q, k)
            matrices[site.down_factor].append((A if scores == "logits" else A.softmax(-1)).mean(1))
        output = observed(site, q, k, v, call)
        assert torch.equal(output, attend(q, k, v))
        return output

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad(), controlled(backbone.unet, keep):
        for i in range(3):
            backbone.unet(
                torch.randn(2, 9, 16, 16, generator=generator),
                900 - 100 * i,
                encoder_hidden_states=torch.randn(2, 24, 32, generator=generator),
                cross_attention_kwargs=UNetPass(Branch.CONDITIONAL, 900, i, 3).kwargs(),
            )
    got = maps.maps()
    for factor, kept in matrices.items():
        for b in range(2):
            rows = masks[factor][b].flatten()
            expected = torch.stack([A[b][rows].mean(0) for A in kept]).mean(0)
            torch.testing.assert_close(got[factor][b].flatten(), expected, rtol=1e-4, atol=1e-5)
        if scores == "probs":
            torch.testing.assert_close(got[factor].sum((1, 2)), torch.ones(2))


def test_painta_turns_masked_rows_to_the_hole(backbone: Backbone, batch) -> None:  # type: ignore[no-untyped-def]
    """Fig. 3: the same picture, with and without PAIntA; watching changes no pixel."""
    one = batch.only(0)
    found = {}
    for row in ("base", "painta_only"):
        paint = StableInpainting(backbone, compose(row, PAPER), SAMPLING)
        maps = SimilarityMaps(levels(one.masks))
        assert torch.equal(paint(*one.args(), observer=maps), paint(*one.args()))
        found[row] = maps.maps()
    for factor, mask in levels(one.masks).items():
        known = ~mask[0]
        a, introverted = found["base"][factor][0], found["painta_only"][factor][0]
        # c <= 1 shrinks every known logit towards 0; what is in the hole keeps its own.
        assert float(introverted[known].abs().mean()) < 0.9 * float(a[known].abs().mean())
        assert a.shape == mask.shape[1:]


def test_guided_passes_and_pairs_give_the_same_maps(backbone: Backbone, batch) -> None:  # type: ignore[no-untyped-def]
    """RASG with eta ~ 0 samples as base does, by other passes of the UNet."""
    one = batch.only(1)
    found = []
    for row in ("base", "rasg_only"):
        paint = StableInpainting(backbone, compose(row, replace(PAPER, eta=1e-7)), SAMPLING)
        maps = SimilarityMaps(levels(one.masks), "probs")
        paint(*one.args(), observer=maps)
        found.append(maps.maps())
    for factor in (2, 4):
        torch.testing.assert_close(found[0][factor], found[1][factor], rtol=1e-3, atol=1e-5)


def test_bad_use_is_one_line() -> None:
    mask = {2: torch.ones(1, 2, 2, dtype=torch.bool)}
    with pytest.raises(UserError, match=r"no self-attention was seen at down-factors \[2\]"):
        SimilarityMaps(mask).maps()
    with pytest.raises(UserError, match="logits or probs"):
        SimilarityMaps(mask, "cosine")  # type: ignore[arg-type]
