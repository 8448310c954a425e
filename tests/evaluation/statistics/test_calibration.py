"""Probabilities from scores, against what defines them and by hand."""

from itertools import pairwise

import numpy as np
import pytest

from sa_lightning.evaluation.statistics.calibration import (
    cross_fitted,
    equal_mass,
    expected_calibration_error,
    logistic_fit,
    probability,
)


def overlapping(n=200, shift=1.5, seed=0):
    draw = np.random.default_rng(seed)
    labels = np.arange(n) < n // 2
    return draw.normal(size=n) + shift * labels, labels


@pytest.mark.parametrize("few", [60, 100])
def test_the_curve_is_the_most_likely_one_for_platts_targets(few):
    scores, labels = overlapping()
    scores, labels = scores[100 - few :], labels[100 - few :]
    slope, intercept = logistic_fit(scores, labels)
    # Where the likelihood is largest, what is predicted too much adds up to 0, and so it does times the scores.
    above = 1 / (1 + np.exp(-(slope * scores + intercept))) - np.where(labels, (few + 1) / (few + 2), 1 / 102)
    assert above.sum() == pytest.approx(0, abs=1e-5)
    assert above @ scores == pytest.approx(0, abs=1e-5)


def test_scores_that_separate_the_labels_have_a_finite_slope_and_equal_ones_none():
    labels = np.array([True] * 5 + [False] * 5)
    slope, intercept = logistic_fit(np.where(labels, 1.0, -1.0) * 1e3, labels)
    assert 0 < slope < 1
    assert probability(np.array([slope * 1e3 + intercept]))[0] == pytest.approx(6 / 7, abs=1e-5)
    slope, intercept = logistic_fit(np.full(10, 7.0), labels)
    assert slope == 0
    assert probability(np.array([intercept]))[0] == pytest.approx(0.5, abs=1e-6)


def test_a_probability_does_not_depend_on_its_own_label():
    scores, labels = overlapping(40)
    before = cross_fitted(scores, labels)
    moved = scores.copy()
    moved[0] = 50.0
    after = cross_fitted(moved, labels)
    same_fold = [i for i in range(40) if i % 5 == 0]
    assert np.allclose(before[same_fold[1:]], after[same_fold[1:]])
    assert not np.isclose(before[1], after[1])
    with pytest.raises(ValueError, match="read at others"):
        cross_fitted(scores[:21], labels[:21])


def test_bins_are_of_equal_mass_whatever_the_order_and_keep_equal_values_together():
    values = np.random.default_rng(1).permutation(np.linspace(0, 1, 40))
    bins = equal_mass(values)
    assert [len(part) for part in bins] == [4] * 10
    assert all(values[a].max() < values[b].min() for a, b in pairwise(bins))
    tied = np.array([0.2] * 7 + [0.9] * 3)
    assert [sorted(tied[part]) for part in equal_mass(tied)] == [[0.2] * 7, [0.9] * 3]
    assert equal_mass([]) == []
    assert len(equal_mass([0.1, 0.2, 0.3])) == 3


def test_the_calibration_error_is_that_computed_by_hand():
    # 20 prompts, 10 bins of two: in nine bins one of two is seen at 0.5; in the last none at 0.95 and 0.97.
    probabilities = [0.5 + i * 1e-9 for i in range(18)] + [0.95, 0.97]
    labels = [i % 2 == 0 for i in range(18)] + [False, False]
    assert expected_calibration_error(probabilities, labels) == pytest.approx(2 / 20 * 0.96, abs=1e-7)
    # Two bins of two: |1/2 − 0.2| and |2/2 − 0.7|, each half of the prompts.
    assert expected_calibration_error([0.1, 0.3, 0.6, 0.8], [False, True, True, True], 2) == pytest.approx(0.3)
    assert expected_calibration_error([0.0, 1.0], [False, True]) == 0.0


def test_the_calibration_error_of_a_true_curve_is_small_and_of_a_wrong_one_large():
    draw = np.random.default_rng(0)
    p = draw.uniform(size=20_000)
    labels = draw.uniform(size=len(p)) < p
    assert expected_calibration_error(p.tolist(), labels.tolist()) < 0.02
    assert expected_calibration_error((p**3).tolist(), labels.tolist()) > 0.2


@pytest.mark.parametrize(("p", "labels"), [([], []), ([1.5], [True]), ([0.5], [True, False])])
def test_what_are_no_probabilities_is_refused(p, labels):
    with pytest.raises(ValueError, match="to lie in"):
        expected_calibration_error(p, labels)
