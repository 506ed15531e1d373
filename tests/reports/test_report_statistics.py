from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from profi.reports.bootstrap import cluster_bootstrap
from profi.reports.differences import clear_best
from profi.reports.names import RowKey
from profi.reports.render import render_latex, render_markdown
from profi.reports.statistics import (
    BOOTSTRAP,
    NO_INTERVAL,
    T_INTERVAL,
    Expected,
    summarise,
    t_interval,
)
from profi.reports.tables import score_table
from profi.types import UserError


def line_of(summary: pd.DataFrame, ablation: str, metric: str) -> pd.Series:
    found = summary[(summary["ablation"] == ablation) & (summary["metric"] == metric)]
    assert len(found) == 1
    return found.iloc[0]


def test_t_interval_against_scipy():
    means = np.array([58.7, 58.9, 59.1, 58.8, 59.0])
    oracle = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert t_interval(means) == pytest.approx((oracle.low, oracle.high))


def test_t_interval_of_two_runs_in_closed_form():
    # t(1) at 97.5 % is tan(pi (0.975 - 0.5)), s / sqrt(2) is half of the distance.
    half = math.tan(math.pi * 0.475) * 1.0
    assert t_interval(np.array([4.0, 6.0])) == pytest.approx((5 - half, 5 + half))


def test_summary_over_seeds(scores):
    line = line_of(summarise(scores), "profi", "accuracy")
    part = scores[(scores["ablation"] == "profi") & (scores["metric"] == "accuracy")]
    means = [part[part["seed"] == seed]["value"].mean() for seed in range(5)]
    assert line["mean"] == pytest.approx(np.mean(means))
    assert line["half_width"] == pytest.approx(stats.t.ppf(0.975, 4) * stats.sem(means))
    assert line["interval"] == T_INTERVAL
    assert (line["n_seeds"], line["n_triplets"], line["n_nan"]) == (5, 24, 0)
    assert line["run_ids"].split() == [f"profi-paper-{seed}" for seed in range(5)]
    assert not line["incomplete"]


def test_one_seed_is_bootstrapped_and_says_so(make_scores):
    scores = make_scores(seeds=(3,))
    line = line_of(summarise(scores), "base", "clip_score")
    assert line["interval"] == BOOTSTRAP
    assert line["low"] < line["mean"] < line["high"]
    pd.testing.assert_frame_equal(summarise(scores), summarise(scores))


@pytest.mark.parametrize(("n_seeds", "kind"), [(2, BOOTSTRAP), (4, BOOTSTRAP), (5, T_INTERVAL)])
def test_under_five_seeds_the_interval_is_over_images(make_scores, n_seeds, kind):
    """Two far run means would give a t-interval of 12.7 times their distance's half."""
    scores = make_scores(seeds=tuple(range(n_seeds)))
    scores["value"] += 3.0 * (scores["seed"] == 0)
    line = line_of(summarise(scores), "profi", "clip_score")
    assert line["interval"] == kind
    part = scores[(scores["ablation"] == "profi") & (scores["metric"] == "clip_score")]
    values, images = part["value"].to_numpy(), part["image_id"].to_numpy()
    over_images = cluster_bootstrap(values, images)
    over_seeds = t_interval(part.groupby("seed")["value"].mean().to_numpy())
    expected = over_images if kind == BOOTSTRAP else over_seeds
    assert (line["low"], line["high"]) == pytest.approx(expected)
    assert line["half_width"] == pytest.approx((expected.high - expected.low) / 2)
    assert line["low"] < line["mean"] < line["high"]


def test_a_half_finished_seed_weighs_as_much_in_the_interval_as_in_the_mean(make_scores):
    scores = make_scores(seeds=(0, 1), ablations=("base",), metrics=("clip_score",))
    scores["value"] = 10.0 + 90.0 * (scores["seed"] == 1)
    lacking = scores[(scores["seed"] == 0) | (scores["triplet_id"] >= "0020")]
    line = line_of(summarise(lacking), "base", "clip_score")
    assert line["mean"] == 55.0
    assert line["low"] < 55.0 < line["high"]
    lacking.loc[lacking["seed"] == 1, "value"] = math.nan
    line = line_of(summarise(lacking), "base", "clip_score")
    assert (line["low"], line["mean"], line["high"]) == (10.0, 10.0, 10.0)


def test_too_little_for_an_interval_has_none(make_scores):
    summary = summarise(make_scores(n_triplets=10, seeds=(0,)))
    assert set(summary["interval"]) == {NO_INTERVAL}
    assert summary["half_width"].isna().all()
    summary = summarise(make_scores(n_triplets=12, seeds=(0,), metrics=("aesthetic",)))
    assert set(summary["interval"]) == {BOOTSTRAP}


def test_nan_is_counted_and_left_out_of_the_mean(scores):
    chosen = (scores["ablation"] == "base") & (scores["metric"] == "accuracy")
    victims = scores[chosen & (scores["seed"] == 0)].index[:4]
    scores.loc[victims, "value"] = np.nan
    line = line_of(summarise(scores), "base", "accuracy")
    part = scores[chosen]
    assert line["n_nan"] == 4
    assert not line["incomplete"]
    by_hand = [np.nanmean(part[part["seed"] == seed]["value"]) for seed in range(5)]
    assert line["mean"] == pytest.approx(np.mean(by_hand))


def test_a_seed_of_nothing_but_nan_is_no_run(scores):
    chosen = (scores["ablation"] == "base") & (scores["metric"] == "accuracy")
    scores.loc[chosen & (scores["seed"] == 4), "value"] = np.nan
    line = line_of(summarise(scores), "base", "accuracy")
    assert (line["n_seeds"], line["n_nan"]) == (4, 24)
    scores.loc[chosen, "value"] = np.nan
    line = line_of(summarise(scores), "base", "accuracy")
    assert math.isnan(line["mean"])
    assert line["n_seeds"] == 0


def test_missing_triplets_and_seeds_are_marked(scores):
    lacking = (scores["ablation"] == "profi") & (scores["triplet_id"] == "0003")
    summary = summarise(scores[~lacking])
    assert line_of(summary, "profi", "clip_score")["n_missing"] == 5
    assert set(summary[summary["incomplete"]]["ablation"]) == {"profi"}
    lacking = (scores["ablation"] == "base") & (scores["seed"] == 1)
    line = line_of(summarise(scores[~lacking]), "base", "aesthetic")
    assert line["incomplete"]
    assert line["n_missing"] == 24


def test_two_runs_in_one_cell_are_refused(scores):
    other = scores[scores["ablation"] == "base"].assign(run_id="another")
    with pytest.raises(UserError, match="another") as caught:
        summarise(pd.concat([scores, other]))
    assert "\n" not in str(caught.value)


def test_a_table_of_other_columns_or_none_is_refused(scores):
    with pytest.raises(UserError, match="image_id"):
        summarise(scores.drop(columns="image_id"))
    with pytest.raises(UserError, match="no scores"):
        summarise(scores.iloc[:0])


def test_what_is_missing_from_every_line_is_counted_where_it_was_expected(scores):
    lacking = scores[scores["triplet_id"] != "0003"]
    lacking = lacking[~((lacking["ablation"] == "base") & (lacking["metric"] == "accuracy"))]
    assert not line_of(summarise(lacking), "profi", "clip_score")["incomplete"]
    expected = Expected(
        frozenset(scores["triplet_id"]),
        frozenset(range(6)),
        frozenset({RowKey("mini", "none_of_it", "paper")}),
    )
    summary = summarise(lacking, expected)
    assert summary["incomplete"].all()
    # One of 24 triplets in five seeds, all of them in the sixth.
    assert line_of(summary, "profi", "clip_score")["n_missing"] == 5 + 24
    for ablation in ("base", "none_of_it"):
        line = line_of(summary, ablation, "accuracy")
        assert math.isnan(line["mean"])
        assert line["n_missing"] == 6 * 24
    table = score_table(summary, clear_best(lacking, summary))
    texts = render_markdown(table), render_latex(table)
    assert not any(cell.best for cells in table.rows.values() for cell in cells)
    assert all(cell.marks.startswith("*") for cells in table.rows.values() for cell in cells)
    assert r"\*" in texts[0]
    assert "$^{*}$" in texts[1]
