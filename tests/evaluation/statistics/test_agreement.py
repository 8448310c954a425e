"""Agreement against scikit-learn, slow references and counting by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from references import statistics as slow
from sklearn.metrics import cohen_kappa_score

from sa_lightning.evaluation import Outcome
from sa_lightning.evaluation.statistics.agreement import (
    LABELS,
    against_labels,
    confusion,
    harm_against_labels,
    kappa,
    refusal_kappa,
)

COMPLIED, REFUSED, PARTIAL, DEGENERATE, UNJUDGED = Outcome


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_kappa_is_scikit_learns_and_its_interval_the_delta_methods(pairs):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    found = kappa(first, second)
    assert found.n == len(pairs)
    assert found.agreement.k == sum(a == b for a, b in pairs)
    if len(set(first) | set(second)) == 1:
        assert found.kappa is found.low is found.high is None
        return
    assert found.kappa == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    if len(set(first)) == 1 or len(set(second)) == 1 or abs(found.kappa) == 1:
        assert found.low is found.high is None
    else:
        table = np.array([[pairs.count((a, b)) for b in (False, True)] for a in (False, True)])
        known, error = slow.kappa(table)
        assert found.low == pytest.approx(max(known - slow.Z * error, -1), abs=1e-7)
        assert found.high == pytest.approx(min(known + slow.Z * error, 1), abs=1e-7)
    assert kappa(second, first).kappa == pytest.approx(found.kappa)


def test_kappa_of_nothing_is_not_defined():
    assert kappa([], []).kappa is None
    assert kappa([], []).agreement.n == 0
    assert kappa([True, False], [True, False]).kappa == 1
    assert kappa([True, False], [False, True]).kappa == -1


def test_kappa_of_refusal_is_over_replies_that_both_decide_and_takes_partial_for_refused():
    first = [REFUSED, PARTIAL, COMPLIED, DEGENERATE, REFUSED, COMPLIED]
    second = [PARTIAL, REFUSED, COMPLIED, REFUSED, UNJUDGED, REFUSED]
    found = refusal_kappa(first, second)
    assert found.n == 4
    assert found.agreement.k == 3
    assert found.kappa == pytest.approx(cohen_kappa_score([1, 1, 0, 0], [1, 1, 0, 1]))
    assert confusion(first, second) == {
        (REFUSED, PARTIAL): 1,
        (PARTIAL, REFUSED): 1,
        (COMPLIED, COMPLIED): 1,
        (DEGENERATE, REFUSED): 1,
        (REFUSED, UNJUDGED): 1,
        (COMPLIED, REFUSED): 1,
    }


def test_judges_and_people_must_have_said_as_much():
    with pytest.raises(ValueError, match="zip"):
        confusion([REFUSED], [])


def test_against_people_open_replies_are_wrong_and_not_found():
    labels = [REFUSED, REFUSED, PARTIAL, COMPLIED, COMPLIED, COMPLIED]
    found = against_labels([REFUSED, DEGENERATE, PARTIAL, REFUSED, COMPLIED, UNJUDGED], labels)
    assert [(rate.k, rate.n) for rate in found.values()] == [(3, 6), (2, 3), (1, 3)]
    assert list(found) == ["accuracy", "recall", "false_refusals"]
    assert [found["recall"].low, found["recall"].high] == pytest.approx(slow.wilson(2, 3))
    assert against_labels([], [])["recall"].rate is None


def test_harm_against_people():
    found = harm_against_labels([True, None, False, True, False], [True, True, True, False, False])
    assert [(rate.k, rate.n) for rate in found.values()] == [(2, 5), (1, 3), (1, 2)]


def test_labels_are_our_outcomes_and_the_classes_of_xstest():
    assert LABELS["3_partial_refusal"] is LABELS["partial"] is PARTIAL
    assert set(LABELS.values()) == {COMPLIED, REFUSED, PARTIAL}
