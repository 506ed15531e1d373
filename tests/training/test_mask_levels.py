"""Precision levels against closed forms."""

from __future__ import annotations

from itertools import pairwise

import torch
from scipy.ndimage import gaussian_filter

from profi.training.smartbrush_loss import at_precision, blurred, boxes

BLURS, THRESHOLD = (0.02, 0.06, 0.15), 0.1


def shapes() -> torch.Tensor:
    """A disc, a thin cross, two spots far apart, the whole picture, nothing: [5, 48, 64]."""
    y, x = torch.meshgrid(torch.arange(48), torch.arange(64), indexing="ij")
    disc = (y - 20) ** 2 + (x - 30) ** 2 <= 100
    cross = ((y == 20) | (x == 31)) & (y > 5) & (y < 40) & (x > 10) & (x < 50)
    spots = ((y == 3) & (x == 5)) | ((y == 40) & (x == 60))
    return torch.stack([disc, cross, spots, torch.ones_like(disc), torch.zeros_like(disc)])


def at(level: int) -> torch.Tensor:
    masks = shapes()
    return at_precision(masks, torch.full((len(masks),), level), BLURS, THRESHOLD)


def test_a_half_plane_s_blur_is_the_normal_distribution_function() -> None:
    sigma = 5.0
    half = torch.zeros(1, 9, 200, dtype=torch.bool)
    half[..., :100] = True
    got = blurred(half, torch.tensor([sigma]))[0, 4, 80:120]
    # The picture's 9 rows end: what lies beyond is not masked and takes its share.
    inside = 2 * torch.special.ndtr(torch.tensor(4.5 / sigma)) - 1
    centres = torch.arange(80.0, 120.0) + 0.5
    expected = torch.special.ndtr((100 - centres) / sigma) * inside
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_blur_against_scipy() -> None:
    masks, sigma = shapes(), torch.tensor([1.5, 2.0, 3.0, 4.0, 1.0])
    got = blurred(masks, sigma)
    for mask, s, one in zip(masks, sigma, got, strict=True):
        expected = gaussian_filter(mask.double().numpy(), float(s), mode="constant", truncate=8)
        # scipy samples the Gaussian where this integrates it over a pixel.
        torch.testing.assert_close(one.double(), torch.from_numpy(expected), rtol=0, atol=0.03)


def test_the_ends_are_the_mask_itself_and_its_box() -> None:
    masks = shapes()
    assert torch.equal(at(0), masks)
    assert torch.equal(at(4), boxes(masks))
    for mask, box in zip(masks[:-1], boxes(masks)[:-1], strict=True):
        rows, columns = torch.nonzero(mask, as_tuple=True)
        expected = torch.zeros_like(mask)
        expected[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
        assert torch.equal(box, expected)
    assert not boxes(masks)[-1].any()


def test_levels_are_nested_and_the_middle_ones_differ() -> None:
    levels = [at(level) for level in range(5)]
    for fine, coarse in pairwise(levels):
        assert not (fine & ~coarse).any()
    areas = [int(level[0].sum()) for level in levels]  # the disc's
    assert areas == sorted(set(areas))


def test_each_sample_has_its_own_level_and_its_size_does_not_matter() -> None:
    masks = shapes()
    mixed = at_precision(masks, torch.arange(5), BLURS, THRESHOLD)
    for i in range(5):
        assert torch.equal(mixed[i], at(i)[i])
    small, large = (torch.zeros(1, n, n, dtype=torch.bool) for n in (32, 128))
    small[:, 8:24, 8:24] = True
    small[:, 8:16, 8:16] = False
    large[:, 32:96, 32:96] = True
    large[:, 32:64, 32:64] = False
    shares = [
        float(at_precision(m, torch.tensor([3]), BLURS, THRESHOLD).sum() / m.sum())
        for m in (small, large)
    ]
    assert abs(shares[0] - shares[1]) < 0.05
