from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from profi.reports.differences import CLUSTERED, EXACT, NO_TEST, mcnemar, paired_difference

HIT, MISS = 100.0, -100.0


def changes(gained: int, lost: int, same: int = 0) -> np.ndarray:
    return np.array([HIT] * gained + [MISS] * lost + [0.0] * same)


@pytest.mark.parametrize(("gained", "lost"), [(9, 2), (3, 3), (0, 5), (40, 61), (1, 0)])
def test_mcnemar_exact_in_closed_form(gained, lost):
    n, k = gained + lost, min(gained, lost)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    values = changes(gained, lost, same=30)
    result = mcnemar(values, np.arange(values.size))
    assert result == (gained, lost, pytest.approx(min(1.0, 2 * tail)), EXACT)


def test_pairs_of_one_image_are_one_observation():
    """Six images change by +2, two by -1: (12 - 2)^2 / (6 * 4 + 2), chi-squared with one degree."""
    values = np.array([HIT, HIT] * 6 + [MISS, 0.0] * 2)
    result = mcnemar(values, np.repeat(np.arange(8), 2))
    # A chi-squared variable of one degree is a squared normal one.
    p_value = math.erfc(math.sqrt(100 / 26) / math.sqrt(2))
    assert result == (12, 2, pytest.approx(p_value), CLUSTERED)
    assert p_value > 3 * mcnemar(values, np.arange(16)).p_value


def test_images_of_unequally_many_pairs_by_hand():
    """Five images change by +3, +1, -2, 0 and 0 pairs: (3 + 1 - 2)^2 / (9 + 1 + 4)."""
    changed = [[HIT, HIT, HIT, 0.0], [HIT], [MISS, MISS], [HIT, MISS, 0.0], [0.0]]
    values = np.concatenate([np.array(pairs) for pairs in changed])
    images = np.repeat(list("badec"), [len(pairs) for pairs in changed])
    p_value = math.erfc(math.sqrt(4 / 14) / math.sqrt(2))
    assert mcnemar(values, images) == (5, 3, pytest.approx(p_value), CLUSTERED)
    order = [5, 0, 10, 3, 7, 1, 9, 2, 8, 4, 6]
    assert mcnemar(values[order], images[order]).p_value == pytest.approx(p_value)
    # As if they were eight observations: 5 to 3.
    assert mcnemar(values, np.arange(11)).p_value == pytest.approx(186 / 256)


def test_clusters_with_one_change_each_are_mcnemar_s_chi_squared():
    values = np.stack([changes(30, 14, 20), np.zeros(64)], axis=1).ravel()
    result = mcnemar(values, np.repeat(np.arange(64), 2))
    assert result.p_value == pytest.approx(stats.chi2.sf((30 - 14) ** 2 / 44, 1))


def test_repeating_every_pair_tenfold_adds_no_evidence():
    values = changes(30, 14, 20)
    tenfold = mcnemar(np.repeat(values, 10), np.repeat(np.arange(64), 10))
    assert tenfold.n_gained == 300
    assert tenfold.p_value == pytest.approx(stats.chi2.sf((30 - 14) ** 2 / 44, 1))


def test_dependent_pairs_are_rejected_as_seldom_as_promised():
    """No effect, ten pairs per image that mostly agree: one in twenty, give or take."""
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(60), 10)
    rejected = naive = 0
    for _ in range(400):
        shared = np.repeat(rng.choice([HIT, 0.0, MISS], 60), 10)
        own = rng.choice([HIT, 0.0, MISS], 600)
        values = np.where(rng.random(600) < 0.7, shared, own)
        rejected += mcnemar(values, clusters).p_value < 0.05
        naive += mcnemar(values, np.arange(600)).p_value < 0.05
    # Three standard deviations of a binomial with p = 0.05 are 0.033.
    assert rejected / 400 == pytest.approx(0.05, abs=0.033)
    assert naive / 400 > 0.3


def test_images_of_unequally_many_pairs_are_rejected_as_seldom_as_promised():
    """No effect; one image in five has nine pairs, which mostly agree."""
    rng = np.random.default_rng(1)
    rejected = naive = 0
    for _ in range(400):
        sizes = rng.choice([1, 2, 9], 120, p=[0.5, 0.3, 0.2])
        images = np.repeat(np.arange(120), sizes)
        shared = rng.choice([HIT, 0.0, MISS], 120)[images]
        own = rng.choice([HIT, 0.0, MISS], images.size)
        values = np.where(rng.random(images.size) < 0.7, shared, own)
        rejected += mcnemar(values, images).p_value < 0.05
        naive += mcnemar(values, np.arange(images.size)).p_value < 0.05
    assert rejected / 400 == pytest.approx(0.05, abs=0.033)
    assert naive / 400 > 0.2


def test_the_table_s_p_value_takes_the_pairs_of_an_image_together(make_scores):
    """Two triplets per image and five seeds: ten pairs are one observation."""
    scores = make_scores(ablations=("base", "profi"), metrics=("accuracy",))
    (line,) = paired_difference(scores).to_dict("records")
    wide = scores.pivot(index=["image_id", "triplet_id", "seed"], columns="ablation")["value"]
    per_image = np.sign(wide["profi"] - wide["base"]).groupby("image_id").sum()
    statistic = per_image.sum() ** 2 / (per_image**2).sum()
    assert line["p_value"] == pytest.approx(math.erfc(math.sqrt(statistic / 2)))
    assert line["test"] == CLUSTERED


def test_mcnemar_without_a_change_or_a_pair():
    assert mcnemar(np.zeros(4), np.arange(4)) == (0, 0, 1.0, EXACT)
    assert mcnemar(np.array([HIT, MISS]), np.zeros(2)) == (1, 1, 1.0, CLUSTERED)
    nothing = mcnemar(np.array([math.nan]), np.zeros(1))
    assert nothing.test == NO_TEST
    assert math.isnan(nothing.p_value)
    with_nan = mcnemar(np.append(changes(9, 2), math.nan), np.arange(12))
    assert with_nan == mcnemar(changes(9, 2), np.arange(11))


def test_the_interval_of_a_difference_against_scipy(make_scores):
    """One pair per image: the ordinary bootstrap of the paired differences."""
    scores = make_scores(n_triplets=80, seeds=(0,), ablations=("base", "profi"))
    scores["image_id"] = scores["triplet_id"]
    table = scores[scores["metric"] == "clip_score"].pivot(
        index="triplet_id", columns="ablation", values="value"
    )
    gains = (table["profi"] - table["base"]).to_numpy()
    oracle = stats.bootstrap(
        (gains,), np.mean, n_resamples=6000, method="percentile", random_state=0
    ).confidence_interval
    line = paired_difference(scores, n_resamples=6000).set_index("metric").loc["clip_score"]
    assert line["difference"] == pytest.approx(gains.mean())
    tolerance = 0.05 * (oracle.high - oracle.low)
    assert (line["low"], line["high"]) == pytest.approx(oracle, abs=tolerance)


def test_accuracy_alone_is_tested(make_scores):
    scores = make_scores(seeds=(0,), ablations=("base", "profi"))
    scores["image_id"] = scores["triplet_id"]
    lines = paired_difference(scores).set_index("metric")
    table = scores[scores["metric"] == "accuracy"].pivot(
        index="triplet_id", columns="ablation", values="value"
    )
    gained = int((table["profi"] > table["base"]).sum())
    lost = int((table["profi"] < table["base"]).sum())
    accuracy = lines.loc["accuracy"]
    assert (accuracy["n_gained"], accuracy["n_lost"], accuracy["test"]) == (gained, lost, EXACT)
    assert accuracy["p_value"] == stats.binomtest(gained, gained + lost).pvalue
    assert accuracy["difference"] == pytest.approx(100 * (gained - lost) / len(table))
    assert set(lines.drop("accuracy")["test"]) == {NO_TEST}


def test_paired_difference_is_the_mean_difference_and_tighter(scores):
    noise = scores[scores["ablation"] == "base"].set_index(["seed", "triplet_id", "metric"])
    profi = scores[scores["ablation"] == "profi"].copy()
    keys = list(zip(profi["seed"], profi["triplet_id"], profi["metric"], strict=True))
    profi["value"] = noise.loc[keys, "value"].to_numpy() + 3.0
    both = pd.concat([scores[scores["ablation"] == "base"], profi.sample(frac=1, random_state=0)])
    result = paired_difference(both)
    assert len(result) == 3
    # A constant shift is certain however noisy the scores are.
    for column in ("difference", "low", "high"):
        assert result[column].to_numpy() == pytest.approx([3.0] * 3)
    assert set(result["n_pairs"]) == {120}
    assert set(result["n_unpaired"]) == {0}


def test_unpaired_are_counted_not_averaged(scores):
    nan = (scores["ablation"] == "profi") & (scores["triplet_id"] == "0001") & (scores["seed"] == 2)
    scores.loc[nan, "value"] = 1e9
    scores.loc[nan, "value"] = np.nan
    gone = (scores["ablation"] == "base") & (scores["triplet_id"] == "0002")
    result = paired_difference(scores[~gone])
    profi = result[result["ablation"] == "profi"]
    assert set(profi["n_unpaired"]) == {6}
    assert set(profi["n_pairs"]) == {114}


def test_the_only_base_serves_every_reading_and_no_base_gives_nan(scores):
    released = scores[scores["ablation"] == "profi"].assign(reading="released")
    result = paired_difference(pd.concat([scores, released]))
    profi = result[result["ablation"] == "profi"].set_index(["reading", "metric"])
    for metric in ("accuracy", "clip_score"):
        assert profi.loc["released", metric].difference == profi.loc["paper", metric].difference
    without = paired_difference(scores[scores["ablation"] != "base"])
    assert without["difference"].isna().all()
    assert (without["n_pairs"] == 0).all()
