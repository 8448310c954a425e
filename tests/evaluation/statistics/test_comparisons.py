"""Arms on the same prompts: tests and intervals against printed examples, slow references and laws."""

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references import statistics as slow
from scipy.optimize import minimize_scalar
from support.judged import answered, judged

from sa_lightning.errors import DataError
from sa_lightning.evaluation import Sample, Score, paired, paired_difference, paired_scores
from sa_lightning.evaluation.statistics.comparisons import holm, mcnemar, sign_flip


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_symmetric_and_counts_all_ways_in_which_coins_fall(a_only, b_only):
    p = mcnemar(a_only, b_only)
    assert p == mcnemar(b_only, a_only)
    assert 0 < p <= 1 or a_only + b_only > 200
    assert p == pytest.approx(slow.mcnemar(a_only, b_only), rel=1e-9, abs=1e-300)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 20))
def test_flipping_single_prompts_is_mcnemar(a_only, b_only, same):
    assert sign_flip([1] * b_only + [-1] * a_only + [0] * same) == pytest.approx(mcnemar(a_only, b_only))


@settings(max_examples=40)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_flipping_families_is_what_all_signs_say(changes):
    assert sign_flip(changes) == pytest.approx(slow.sign_flip(changes))


def test_paired_interval_is_the_printed_one():
    # Airway hyper-responsiveness before and after treatment (Bentur et al. 2009) in Fagerland et al. 2014.
    assert paired_difference(1, 7, 21) == pytest.approx((-6 / 21, -0.517, -0.026), abs=6e-4)


@pytest.mark.parametrize(("a_only", "b_only", "n"), [(12, 2, 50), (0, 5, 40), (1, 7, 21), (30, 30, 200)])
def test_the_score_test_just_rejects_the_ends_of_the_paired_interval(a_only, b_only, n):
    def likelihood(q, delta):  # of cells b_only = q, a_only = q + delta, the rest
        cells = np.array([q + delta, q, 1 - 2 * q - delta])
        counts = np.array([a_only, b_only, n - a_only - b_only])
        return -float(np.sum(np.where(counts > 0, counts * np.log(np.clip(cells, 1e-300, None)), 0)))

    for delta in paired_difference(a_only, b_only, n)[1:]:
        span = (max(0, -delta), (1 - delta) / 2)
        q = minimize_scalar(likelihood, bounds=span, args=(delta,), method="bounded", options={"xatol": 1e-10}).x
        z = (a_only - b_only - n * delta) / np.sqrt(n * (2 * q + delta - delta**2))
        assert abs(z) == pytest.approx(1.959964, abs=1e-3)


@given(
    st.integers(1, 200).flatmap(
        lambda n: st.integers(0, n).flatmap(lambda a: st.tuples(st.just(a), st.integers(0, n - a), st.just(n)))
    )
)
def test_paired_difference_is_antisymmetric_and_within_its_interval(counts):
    a_only, b_only, n = counts
    difference, low, high = paired_difference(a_only, b_only, n)
    assert -1 <= low <= difference <= high <= 1
    assert low < high
    assert paired_difference(b_only, a_only, n) == pytest.approx((-difference, -high, -low), abs=1e-9)


def test_paired_interval_without_any_difference_still_has_a_width():
    z2 = 1.959963984540054**2
    assert paired_difference(0, 0, 100) == pytest.approx((0, -z2 / (100 + z2), z2 / (100 + z2)), abs=1e-9)
    assert paired_difference(0, 0, 0) == (None, None, None)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 1000).map(lambda x: x / 1000), min_size=1, max_size=9))
def test_holm_is_the_closed_test(p_values):
    assert holm(p_values) == pytest.approx(slow.holm(p_values))


def test_holm_of_nothing_is_nothing():
    assert holm([]) == []


def test_pairs_count_prompts_that_succeed_in_one_arm_alone():
    arms = {
        "original": judged(["complied", "complied", "complied", "refused"]) + answered([True, False]),
        "edited": judged(["refused", "degenerate", "complied", "complied"]) + answered([True, True]),
    }
    rows = {row.metric: row for row in paired(arms)}
    row = rows["attack_success"]
    assert astuple(row)[:7] == ("original", "edited", "attack_success", 4, 2, 1, 1.0)
    assert row.difference == -0.25
    assert (row.low, row.high) == paired_difference(1, 2, 4)[1:]
    assert (row.clusters, row.p_clustered, row.p_holm, row.tests) == (4, 1, 1, 3)
    assert set(rows) == {"attack_success", "degenerate", "utility"}
    assert rows["utility"].b_only == 1


def arms_with_families(same_family):
    """Of 24 prompts in pairs, ten change for the better in b."""

    def arm(outcomes):
        return [
            Sample("t", "harmful", str(i), "q", "r", outcome, cluster=str(i // 2) if same_family else "")
            for i, outcome in enumerate(outcomes)
        ]  # fmt: skip

    from sa_lightning.evaluation import Outcome

    return {
        "a": arm([Outcome.COMPLIED] * 24),
        "b": arm([Outcome.REFUSED] * 10 + [Outcome.COMPLIED] * 14),
    }


def test_families_weaken_the_evidence_and_widen_the_bootstrap():
    alone, together = (paired(arms_with_families(same))[0] for same in (False, True))
    assert [alone.p, together.p, alone.p_clustered] == pytest.approx([2 / 2**10] * 3)
    assert together.p_clustered == pytest.approx(2 / 2**5)
    assert (alone.clusters, together.clusters) == (24, 12)
    # What is corrected for the number of tests is the test that knows families.
    assert [row.p_holm for row in (alone, together)] == pytest.approx(
        [row.tests * row.p_clustered for row in (alone, together)]
    )
    width = {row.clusters: row.bootstrap_high - row.bootstrap_low for row in (alone, together)}
    assert width[12] > 1.2 * width[24]


def test_the_bootstrap_of_a_difference_is_the_slow_one():
    row = paired(arms_with_families(True))[0]
    units = [(-2, 2)] * 5 + [(0, 2)] * 7
    expected = slow.bootstrap(units, lambda drawn: sum(d for d, _ in drawn) / sum(n for _, n in drawn))
    assert (row.bootstrap_low, row.bootstrap_high) == pytest.approx(expected, abs=0.03)


def test_the_same_seed_gives_the_same_rows():
    arms = arms_with_families(True)
    assert paired(arms, seed=4) == paired(arms, seed=4)


def test_p_values_of_all_rows_are_adjusted_together():
    arms = {str(arm): judged(["complied"] * (20 - 6 * arm) + ["refused"] * 6 * arm) for arm in range(4)}
    rows = paired(arms)
    assert len([row for row in rows if row.metric == "attack_success"]) == 6
    assert [row.p_holm for row in rows] == pytest.approx(slow.holm([row.p for row in rows]))
    assert {row.tests for row in rows} == {len(rows)}
    assert any(row.p < 0.05 < row.p_holm for row in rows)


def test_arms_asked_different_prompts_are_refused():
    with pytest.raises(DataError, match="not asked the same prompts"):
        paired({"a": judged(["complied"]), "b": judged(["complied", "complied"])})


def test_an_arm_with_two_replies_to_a_prompt_is_refused():
    with pytest.raises(DataError, match="arm b has 2 replies to 1 prompts"):
        paired({"a": judged(["complied"]), "b": judged(["complied"]) * 2})


def test_arms_are_compared_by_the_scores_of_the_same_documents():
    def arm(totals):
        return [
            Sample("text", "utility", str(i), "q", "", score=Score(total, 2.0, "nats"))
            for i, total in enumerate(totals)
        ]

    (row,) = paired_scores({"a": arm([2, 4, 6]) + judged(["refused"]), "b": arm([3, 5, 7]) + judged(["refused"])})
    assert astuple(row) == ("a", "b", "text", "nats", 3, 0.5, pytest.approx(0.5), pytest.approx(0.5))
