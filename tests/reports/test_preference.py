from __future__ import annotations

import math

import numpy as np
import pytest

from profi.reports import preference_facts, preference_over_base, preference_probability
from profi.types import UserError


def logits(make_scores, **gains):
    """PickScores in which each ablation's picture gains a constant over the base's."""
    scores = make_scores(metrics=("aesthetic",), ablations=("base", "profi", "rasg_only"))
    scores["metric"] = "pick_score"
    base = scores[scores["ablation"] == "base"].set_index(["seed", "triplet_id"])["value"]
    for ablation, gain in gains.items():
        rows = scores["ablation"] == ablation
        keys = list(zip(scores.loc[rows, "seed"], scores.loc[rows, "triplet_id"], strict=True))
        scores.loc[rows, "value"] = base.loc[keys].to_numpy() + gain
    # The order of the rows must not matter.
    return scores.sample(frac=1, random_state=3)


def test_a_softmax_of_two():
    one, two = np.array([20.0, 21.0, 19.0]), np.array([20.0, 20.0, 21.5])
    expected = np.exp(one) / (np.exp(one) + np.exp(two))
    np.testing.assert_allclose(preference_probability(one, two), expected, rtol=1e-12)
    np.testing.assert_allclose(
        preference_probability(one, two) + preference_probability(two, one), 1, rtol=1e-12
    )


def test_far_apart_does_not_overflow_and_nan_stays():
    with np.errstate(all="raise"):
        values = preference_probability(np.array([2000.0, -2000.0]), np.zeros(2))
    assert values.tolist() == [1.0, 0.0]
    assert math.isnan(preference_probability(np.array([math.nan]), np.zeros(1))[0])


def test_pairs_are_of_one_triplet_and_seed(make_scores):
    scores = logits(make_scores, profi=1.0, rasg_only=-0.5)
    table = preference_over_base(scores).set_index("ablation")
    assert set(table.index) == {"profi", "rasg_only"}
    assert table.loc["profi", "probability"] == pytest.approx(1 / (1 + math.exp(-1)))
    assert table.loc["rasg_only", "probability"] == pytest.approx(1 / (1 + math.exp(0.5)))
    assert table.loc["profi", "low"] == pytest.approx(table.loc["profi", "high"])
    assert (table["n_pairs"] == 24 * 5).all()
    assert (table["n_unpaired"] == 0).all()


def test_the_mean_is_of_probabilities_and_the_interval_holds_it(make_scores):
    scores = logits(make_scores)
    line = preference_over_base(scores).set_index("ablation").loc["profi"]
    wide = scores.pivot_table(index=["seed", "triplet_id"], columns="ablation", values="value")
    expected = np.mean(1 / (1 + np.exp(wide["base"] - wide["profi"])))
    assert line["probability"] == pytest.approx(expected)
    assert line["low"] < expected < line["high"]


def test_what_has_no_partner_is_counted(make_scores):
    scores = logits(make_scores, profi=0.0)
    base = scores["ablation"] == "base"
    scores = scores.drop(scores[base & (scores["triplet_id"] == "0003")].index)
    nan = (scores["ablation"] == "profi") & (scores["triplet_id"] == "0004")
    scores.loc[nan, "value"] = math.nan
    line = preference_over_base(scores).set_index("ablation").loc["profi"]
    assert (line["n_pairs"], line["n_unpaired"]) == (22 * 5, 2 * 5)
    assert line["probability"] == pytest.approx(0.5)
    facts = preference_facts(scores)
    assert facts["preferred to base: RASG & PAIntA"].startswith("50.0 % by PickScore")
    assert "10 without a partner" in facts["preferred to base: RASG & PAIntA"]


def test_without_a_base_or_without_logits_there_are_no_facts(make_scores):
    scores = logits(make_scores)
    assert preference_facts(scores[scores["ablation"] != "base"]) == {}
    assert preference_facts(make_scores()) == {}
    with pytest.raises(UserError, match="no scores"):
        preference_over_base(scores.iloc[:0])
