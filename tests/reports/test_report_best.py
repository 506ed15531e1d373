"""Which row may be called the best: one that beats each of the others, pair by pair."""

from __future__ import annotations

import numpy as np
import pandas as pd

from profi.reports.differences import clear_best
from profi.reports.names import RowKey
from profi.reports.statistics import Expected, summarise


def scores_of(metric: str = "clip_score", **offsets: np.ndarray | float) -> pd.DataFrame:
    """Per ablation 5 seeds of 30 images' common value, with something added; one per image."""
    common = np.random.default_rng(0).normal(25, 10, (5, 30))
    frames = []
    for ablation, offset in offsets.items():
        frame = pd.DataFrame(
            [
                (seed, f"{image:02d}", image, value)
                for (seed, image), value in np.ndenumerate(common + offset)
            ],
            columns=["seed", "triplet_id", "image_id", "value"],
        )
        frames.append(frame.assign(ablation=ablation, run_id=ablation))
    return pd.concat(frames).assign(model="m", reading="r", category="x", metric=metric)


def best(scores: pd.DataFrame, expected: Expected | None = None) -> dict[str, RowKey]:
    return clear_best(scores, summarise(scores, expected))


def row(ablation: str) -> RowKey:
    return RowKey("m", ablation, "r")


#: Changes an image by as much for the better as for the worse.
TO_AND_FRO = np.where(np.arange(30) % 2 == 0, 3.0, -3.0)


def test_pairs_show_what_the_rows_own_intervals_hide():
    scores = scores_of(base=0.0, painta_only=0.3, profi=0.5)
    summary = summarise(scores).set_index("ablation")
    assert summary.loc["base", "high"] > summary.loc["profi", "mean"]
    assert best(scores) == {"clip_score": row("profi")}


def test_one_rival_that_is_not_clearly_worse_is_enough():
    means = {"base": 0.0, "painta_only": 0.4 + TO_AND_FRO, "profi": 0.5}
    assert best(scores_of(**means)) == {}
    # It need not be the second one.
    assert best(scores_of(**means, rasg_only=0.45)) == {}
    del means["painta_only"]
    assert best(scores_of(**means)) == {"clip_score": row("profi")}


def test_equal_rows_have_no_best():
    assert best(scores_of(base=0.0, profi=0.0)) == {}


def test_the_good_end_is_the_metric_s():
    lower_is_better = scores_of("known_region_lpips", base=0.0, profi=0.5)
    assert best(lower_is_better) == {"known_region_lpips": row("base")}
    both = pd.concat([lower_is_better, scores_of("aesthetic", base=0.0, profi=0.5)])
    assert best(both) == {"known_region_lpips": row("base"), "aesthetic": row("profi")}


def test_images_not_triplets_are_the_evidence():
    """An effect on 30 triplets of five images is one on five."""
    scores = scores_of(base=0.0, profi=0.5 + TO_AND_FRO / 10)
    assert best(scores) == {"clip_score": row("profi")}
    assert best(scores.assign(image_id=scores["image_id"] // 6)) == {}


def test_one_image_of_many_triplets_is_little_evidence():
    """Better on 20 triplets, worse on ten: clear, unless the 20 lie on one image."""
    gain = np.where(np.arange(30) < 20, 2.0, -1.0)
    scores = scores_of(base=0.0, profi=gain)
    assert best(scores) == {"clip_score": row("profi")}
    assert best(scores.assign(image_id=scores["image_id"].clip(lower=19))) == {}


def test_what_is_incomplete_neither_wins_nor_stands_in_the_way():
    scores = scores_of(base=0.0, painta_only=0.5, profi=9.0)
    lacking = scores[(scores["ablation"] != "profi") | (scores["triplet_id"] != "07")]
    assert best(lacking) == {"clip_score": row("painta_only")}
    only = lacking[lacking["ablation"] != "painta_only"]
    assert best(only) == {}
    expected = Expected(frozenset(scores["triplet_id"]), frozenset(range(6)))
    assert best(scores, expected) == {}


def test_nan_are_left_out_of_the_pairs():
    scores = scores_of(base=0.0, profi=0.5)
    scores.loc[(scores["ablation"] == "base") & (scores["triplet_id"] == "03"), "value"] = np.nan
    assert best(scores) == {"clip_score": row("profi")}
    scores.loc[scores["ablation"] == "base", "value"] = np.nan
    assert best(scores) == {}


def test_too_few_images_have_no_best():
    scores = scores_of(base=0.0, profi=0.5)
    few = scores[scores["image_id"] < 6]
    assert best(few) == {"clip_score": row("profi")}
    assert best(few[few["image_id"] < 5]) == {}
