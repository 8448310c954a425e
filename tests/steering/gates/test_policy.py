"""What is done at which score: bands, dead zones, ramps, and gates that look before others."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sa_lightning.errors import SettingError
from sa_lightning.steering import AlwaysGate, Band, ExemptingGate, GateSettings, LinearGate, Policy, Reading

NUMBER = st.floats(-10, 10, width=32)


@given(st.lists(NUMBER, min_size=1, max_size=20), NUMBER, st.floats(0.1, 5), NUMBER, NUMBER)
def test_a_ramp_is_adasteers_clamped_line(
    scores: list[float], threshold: float, width: float, others: float, found: float
):
    """Clip(slope · score + offset) between two bounds (arXiv 2504.09466), with the slope that the span gives."""
    policy = GateSettings("linear", ramp=width, negative_factor=others, positive_factor=found).policy(threshold)
    weights = policy.weights(torch.tensor(scores)).double()
    slope = (found - others) / width
    for score, weight in zip(scores, weights.tolist(), strict=True):
        line = others + slope * (score - (threshold - width))
        assert weight == pytest.approx(
            min(max(line, min(others, found)), max(others, found)), abs=1e-3 * (1 + abs(slope))
        )


def test_a_dead_zone_lies_below_the_threshold_and_nothing_is_done_in_it():
    policy = GateSettings("linear", dead_zone=0.5).policy(1.0)
    scores = torch.tensor([0.4, 0.5, 0.75, 1.0, math.nan, -math.inf])
    assert policy.weights(scores).tolist() == [-1.0, 0.0, 0.0, 1.0, 0.0, -1.0]


def test_a_ramp_without_end_is_refused():
    with pytest.raises(SettingError, match="no end"):
        Policy((Band(-math.inf, 0.0, 0.0, 1.0),))


def test_who_reaches_the_first_threshold_is_not_for_the_second_gate():
    states = torch.tensor([[[2.0, 3.0]], [[0.0, 3.0]], [[1.0, -1.0]], [[0.9, -1.0]]])
    first, second = LinearGate((4,), torch.tensor([[1.0, 0.0]]), 0.0), LinearGate((4,), torch.tensor([[0.0, 1.0]]), 0.0)
    gate = ExemptingGate((4,), second, first, 1.0)
    scores = gate(Reading((4,), states))
    assert scores.isnan().tolist() == [True, False, True, False]
    assert scores[1::2].tolist() == [3.0, -1.0]
    policy = Policy.threshold(0.0, below=-1.0, above=1.0)
    assert policy.weights(scores).tolist() == [0.0, 1.0, 0.0, -1.0]  # who is spared is left as it is
    assert not gate.reads
    assert AlwaysGate()(Reading((4,), states)).tolist() == [0.0] * 4
