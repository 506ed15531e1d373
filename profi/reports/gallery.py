"""Which triplets the report shows, and what is shown of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd

from profi.reports.names import RowKey, base_of, ordered_rows
from profi.reports.statistics import row_keys, validate
from profi.types import UserError

GAIN, LOSS, RANDOM = "largest gain", "largest loss", "random"
#: Gains are by accuracy, ties by CLIP score: accuracy moves in steps of 100 and CLIP scores by less
#: than 200, so that this sum orders by accuracy first.
RANKING: Mapping[str, float] = MappingProxyType({"accuracy": 1000.0, "clip_score": 1.0})


@dataclass(frozen=True)
class GalleryChoice:
    """A triplet to show, painted with `seed`; `reason` says why this one."""

    triplet_id: str
    seed: int
    reason: str


@dataclass(frozen=True)
class GalleryItem:
    """What the report shows of a triplet; pictures are PNG, JPEG or WebP bytes of the size to show.

    Attributes:
        triplet_id: the triplet.
        prompt: the caption.
        masked: the input with its mask outlined, see `figures.outlined`; empty where the image is
            not at hand.
        outputs: a row's label (`names.row_labels`) to the painted image's bytes.
        scores: a row's label to its values per metric; accuracy colours the frame.
        reason: why it was chosen.
        failures: what failed of it, a line each.
    """

    triplet_id: str
    prompt: str
    masked: bytes
    outputs: Mapping[str, bytes]
    scores: Mapping[str, Mapping[str, float]]
    reason: str = ""
    failures: tuple[str, ...] = ()


def choose_gallery(
    scores: pd.DataFrame,
    k: int,
    *,
    base: str = "base",
    method: str = "profi",
    seed: int = 0,
) -> list[GalleryChoice]:
    """Up to `k` triplets: a third where `method` gains most on `base`, a third where it loses most.

    The rest is drawn at random, so that a reader sees what is typical. Gains are by accuracy,
    ties by CLIP score, of the smallest seed that both have in the first model and reading; only
    true gains and losses are called so. Without a method or a base all are random.

    Args:
        scores: the long table.
        k: how many.
        base: ablation compared with.
        method: ablation compared.
        seed: of the random third.

    Raises:
        UserError: see `statistics.validate`; or `k` is negative.
    """
    validate(scores)
    if k < 0:
        raise UserError(f"a gallery of {k} triplets: set its size to 0 or more")
    rows = ordered_rows(row_keys(scores))
    ours = next((row for row in rows if row.ablation == method), None)
    shown = scores if ours is None else scores[scores["model"] == ours.model]
    gains, run_seed = _gains(shown, ours, None if ours is None else base_of(ours, rows, base))
    chosen: list[GalleryChoice] = []
    third = k // 3
    better, worse = gains[gains > 0], gains[gains < 0].iloc[::-1]
    for reason, ranked in ((GAIN, better), (LOSS, worse)):
        chosen += [GalleryChoice(str(name), run_seed, reason) for name in ranked.index[:third]]
    taken = {choice.triplet_id for choice in chosen}
    rest = sorted(set(shown.loc[shown["seed"] == run_seed, "triplet_id"].astype(str)) - taken)
    drawn = np.random.default_rng(seed).permutation(len(rest))[: k - len(chosen)]
    return chosen + [GalleryChoice(rest[index], run_seed, RANDOM) for index in drawn]


def _gains(
    scores: pd.DataFrame, method: RowKey | None, base: RowKey | None
) -> tuple[pd.Series, int]:
    """Gain per triplet by RANKING, best first, and the seed that it is of."""
    nothing = pd.Series(dtype=float), int(scores["seed"].min())
    if method is None or base is None:
        return nothing
    ours, theirs = (
        scores[(scores["ablation"] == row.ablation) & (scores["reading"] == row.reading)]
        for row in (method, base)
    )
    seeds = sorted(set(ours["seed"]) & set(theirs["seed"]))
    if not seeds:
        return nothing
    difference = _weighted(ours, seeds[0]) - _weighted(theirs, seeds[0])
    ranked = difference.dropna().sort_index().sort_values(ascending=False, kind="stable")
    return ranked, int(seeds[0])


def _weighted(scores: pd.DataFrame, seed: int) -> pd.Series:
    part = scores[(scores["seed"] == seed) & scores["metric"].isin(list(RANKING))]
    # As floats: an empty selection would otherwise stay one of text, which cannot be multiplied.
    values = part["value"] * part["metric"].map(dict(RANKING)).astype("float64")
    # A triplet with a NaN is not ranked: skipna would rank it by half of its scores.
    return values.groupby(part["triplet_id"]).agg(lambda cells: cells.sum(skipna=False))
