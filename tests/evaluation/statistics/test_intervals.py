"""Intervals of rates, families, means of rates and scores: against slow references and laws."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references import statistics as slow

from sa_lightning.errors import DataError
from sa_lightning.evaluation import Sample, Score, rate
from sa_lightning.evaluation.statistics.intervals import (
    Clustered,
    Mean,
    Rate,
    clustered,
    family_sums,
    macro,
    middle_95,
    resampled,
    wilson,
)
from sa_lightning.evaluation.statistics.scores import score, score_difference


@pytest.mark.parametrize(("k", "n"), [(0, 10), (1, 10), (5, 10), (10, 10), (81, 263), (15, 148), (0, 1), (399, 400)])
def test_intervals_solve_wilsons_equation(k, n):
    found = rate(k, n)
    assert [found.low, found.high] == pytest.approx(slow.wilson(k, n), abs=1e-12)
    assert found.rate == k / n


def test_interval_is_newcombes_printed_example():
    assert (round(rate(81, 263).low, 4), round(rate(81, 263).high, 4)) == (0.2553, 0.3662)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_rate_lies_within_its_interval_within_zero_and_one(counts):
    found = rate(*counts)
    assert 0 <= found.low <= found.rate <= found.high <= 1
    assert found.low < found.high


def test_a_rate_of_nothing_is_null_and_not_zero():
    assert rate(0, 0) == Rate(None, 0, 0, None, None)
    assert all(map(math.isnan, rate(0, 0).percent))


@pytest.mark.parametrize(("k", "n"), [(2, 1), (-1, 3)])
def test_impossible_counts_are_refused(k, n):
    with pytest.raises(ValueError, match="must lie in"):
        rate(k, n)


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.booleans())
def test_prompts_on_their_own_have_the_plain_interval(hits, named):
    families = [str(i) if named else "" for i in range(len(hits))]
    found, plain = clustered(hits, families), rate(sum(hits), len(hits))
    assert (found.low, found.high) == (plain.low, plain.high)
    assert (found.clusters, found.design_effect) == (len(hits), 1)


@pytest.mark.parametrize("seed", range(8))
def test_families_widen_the_interval_as_the_robust_regression_of_statsmodels_says(seed):
    draw = np.random.default_rng(seed)
    families = [str(family) for family in range(12) for _ in range(draw.integers(1, 6))]
    tendency = {family: draw.beta(0.6, 0.6) for family in set(families)}
    hits = [bool(draw.random() < tendency[family]) for family in families]
    found = clustered(hits, families)
    assert (found.low, found.high) == pytest.approx(slow.clustered_interval(hits, families), abs=1e-9)
    assert found.high - found.low > rate(sum(hits), len(hits)).high - rate(sum(hits), len(hits)).low


def test_ten_copies_of_a_prompt_are_about_one_prompt():
    hits = [bool(family % 3) for family in range(30) for _ in range(10)]
    found = clustered(hits, [str(family) for family in range(30) for _ in range(10)])
    assert found.design_effect == pytest.approx(10, rel=0.05)
    plain = rate(20, 30)
    assert found.low == pytest.approx(plain.low, abs=0.02)
    assert found.high == pytest.approx(plain.high, abs=0.02)


@pytest.mark.parametrize("hit", [True, False])
def test_without_any_difference_families_count_as_entirely_alike(hit):
    found = clustered([hit] * 12, [str(i // 4) for i in range(12)])
    assert found.design_effect == 4
    assert found.high if hit else not found.low
    assert found.high - found.low > 0.4


def test_one_family_is_one_prompt_and_nothing_is_nothing():
    found = clustered([True, False, True], ["a"] * 3)
    assert (found.low, found.high) == wilson(2 / 3, 1)
    assert clustered([], []) == Clustered(None, None, 0, None)


def test_the_mean_of_categories_gives_each_the_same_weight():
    found = macro({"large": rate(10, 100), "small": rate(3, 4), "none": rate(0, 0)})
    assert found.rate == pytest.approx((0.1 + 0.75) / 2)
    large, small = rate(10, 100), rate(3, 4)
    assert found.low == pytest.approx(0.425 - math.hypot(0.1 - large.low, 0.75 - small.low) / 2)
    assert found.high == pytest.approx(0.425 + math.hypot(large.high - 0.1, small.high - 0.75) / 2)
    assert (found.categories, found.left_out) == (2, ["none"])


@given(st.lists(st.integers(1, 30).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1, max_size=9))
def test_a_mean_of_rates_lies_within_its_interval_within_zero_and_one(counts):
    found = macro({str(i): rate(*each) for i, each in enumerate(counts)})
    assert 0 <= found.low <= found.rate <= found.high <= 1
    assert found.low < found.high
    one = macro({"one": rate(*counts[0])})
    assert one.percent == pytest.approx(rate(*counts[0]).percent)


def test_the_mean_of_nothing_is_null():
    found = macro({"a": rate(0, 0)})
    assert found == Mean(None, None, None, 0, ["a"])


def test_the_interval_of_a_mean_holds_the_truth_about_as_often_as_it_says():
    draw, truth, sizes = np.random.default_rng(0), np.array([0.02, 0.3, 0.5, 0.9]), [20, 60, 15, 40]
    inside = 0
    for _ in range(1500):
        found = macro(
            {str(i): rate(int(draw.binomial(n, p)), n) for i, (n, p) in enumerate(zip(sizes, truth, strict=True))}
        )
        inside += found.low <= truth.mean() <= found.high
    assert 0.935 < inside / 1500 < 0.98


def test_families_are_added_up_and_the_rest_stands_alone():
    units = family_sums([[1, 1], [2, 1], [4, 1], [8, 1]], ["a", "", "a", ""])
    assert sorted(units) == [[2, 1], [5, 2], [8, 1]]


def test_resampling_draws_what_drawing_one_by_one_draws():
    units = [[1.0, 1.0]] * 6 + [[0.0, 1.0]] * 9 + [[3.0, 4.0]] * 3
    drawn = resampled(units, seed=1, resamples=20000)
    assert drawn.shape == (20000, 2)
    found = middle_95(drawn[:, 0] / drawn[:, 1])
    expected = slow.bootstrap(units, lambda drawn: sum(u[0] for u in drawn) / sum(u[1] for u in drawn))
    assert found == pytest.approx(expected, abs=0.02)
    assert drawn.mean(axis=0) == pytest.approx(np.sum(units, axis=0), rel=0.02)


def test_the_same_seed_draws_the_same_whatever_the_order():
    units = [[float(i % 3), 1.0] for i in range(20)]
    assert np.array_equal(resampled(units, 3), resampled(units[::-1], 3))
    assert not np.array_equal(resampled(units, 3), resampled(units, 4))


def documents(scores, unit="word_perplexity", clusters=None):
    return [
        Sample("text", "utility", str(i), "q", "", score=Score(*pair, unit), cluster=clusters[i] if clusters else "")
        for i, pair in enumerate(scores)
    ]


def test_a_perplexity_is_over_words_and_not_a_mean_of_perplexities():
    found = score(documents([(10.0, 5.0), (60.0, 20.0)]))
    assert found.value == pytest.approx(math.exp(70 / 25))
    assert (found.unit, found.n) == ("word_perplexity", 2)
    assert (found.low, found.high) == pytest.approx((math.exp(2), math.exp(3)))


def test_a_score_that_is_no_perplexity_is_a_mean():
    assert score(documents([(0.25, 1.0), (0.75, 1.0)], "probability")).value == 0.5
    assert score(documents([(8.0, 4.0), (8.0, 12.0)], "bits_per_byte")).value == 1


def test_a_score_has_the_interval_of_the_slow_bootstrap():
    draw = np.random.default_rng(0)
    pairs = [(float(w * x), float(w)) for w, x in zip(draw.integers(5, 50, 30), draw.normal(3, 0.4, 30), strict=True)]
    found = score(documents(pairs))
    low, high = slow.bootstrap(pairs, lambda drawn: math.exp(sum(t for t, _ in drawn) / sum(w for _, w in drawn)))
    assert (found.low, found.high) == pytest.approx((low, high), rel=0.02)
    assert found == score(documents(pairs))
    assert found != score(documents(pairs), seed=1)


def test_documents_of_a_family_are_drawn_together():
    pairs = [(float(i % 2), 1.0) for i in range(40)]
    alone = score(documents(pairs, "probability"))
    together = score(documents(pairs, "probability", [str(i % 4) for i in range(40)]))
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_one_document_shows_no_spread_and_what_is_not_finite_is_null():
    assert score(documents([(2.0, 1.0)])).low is None
    endless = score(documents([(5000.0, 1.0), (4000.0, 1.0)]))
    assert (endless.value, endless.high) == (None, None)
    assert score(documents([(math.nan, 1.0), (1.0, 1.0)])).value is None


def test_units_do_not_mix_and_nothing_has_no_score():
    with pytest.raises(DataError, match="bits_per_byte and word_perplexity"):
        score(documents([(1.0, 1.0)]) + documents([(1.0, 1.0)], "bits_per_byte"))
    with pytest.raises(DataError, match="no weight"):
        score(documents([(0.0, 0.0)]))


@settings(max_examples=20)
@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9)), min_size=2, max_size=12))
def test_a_difference_of_scores_turns_round_with_the_arms(pairs):
    a, b = documents([(x, 2.0) for x, _ in pairs], "nats"), documents([(y, 2.0) for _, y in pairs], "nats")
    there, back = score_difference(a, b), score_difference(b, a)
    assert there.difference == pytest.approx(-back.difference)
    assert there.difference == pytest.approx(score(b).value - score(a).value)
    assert there.low <= there.high
    same = score_difference(a, a)
    assert (same.difference, same.low, same.high) == (0, 0, 0)
