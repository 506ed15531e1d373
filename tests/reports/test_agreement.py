from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from profi.reports import agreement, agreement_facts


def test_a_known_table():
    """Cohen's textbook case: 20 both yes, 15 both no, 5 and 10 apart; kappa 0.4."""
    one = np.repeat([100.0, 100.0, 0.0, 0.0], [20, 5, 10, 15])
    two = np.repeat([100.0, 0.0, 100.0, 0.0], [20, 5, 10, 15])
    found = agreement(one, two)
    assert found.n == 50
    assert found.share == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)
    assert agreement(two, one) == found


def test_the_ends_of_the_scale():
    values = np.array([100.0, 0.0, 0.0, 100.0])
    assert agreement(values, values).kappa == 1.0
    assert agreement(values, 100 - values)[1:] == (0.0, -1.0)
    rng = np.random.default_rng(0)
    one, two = (100.0 * (rng.random(200_000) < share) for share in (0.3, 0.8))
    assert agreement(one, two).kappa == pytest.approx(0, abs=0.01)


def test_what_is_not_judged_twice_is_left_out():
    one, two = np.array([100.0, math.nan, 0.0, 0.0]), np.array([100.0, 0.0, math.nan, 100.0])
    assert agreement(one, two)[:2] == (2, 0.5)
    nothing = agreement(one[1:2], two[1:2])
    assert nothing.n == 0
    assert math.isnan(nothing.share)
    always = agreement(np.zeros(3), np.zeros(3))
    assert always.share == 1.0
    assert math.isnan(always.kappa)


def test_two_accuracies_of_a_table_are_joined_by_picture(make_scores):
    scores = make_scores()
    assert agreement_facts(scores) == {}
    accuracy = scores[scores["metric"] == "accuracy"].reset_index(drop=True)
    other = accuracy.assign(metric="accuracy_transformers")
    other.loc[::10, "value"] = 100 - other.loc[::10, "value"]
    shuffled = other.sample(frac=1, random_state=1)
    facts = agreement_facts(pd.concat([accuracy, shuffled], ignore_index=True))
    ((name, text),) = facts.items()
    assert name == "agreement: Accuracy, % and Accuracy by transformers, %"
    assert text.startswith("90.0 % of 480 pictures, kappa 0.")
