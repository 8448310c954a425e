"""Gates and maps of SCANS's relatives: their laws, on planted states."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from sa_lightning.errors import DataError, SettingError
from sa_lightning.steering.directions.null_space import null_space_map, null_space_projector
from sa_lightning.steering.gates.combined import JoinedGate
from sa_lightning.steering.gates.condition import ConditionGate
from sa_lightning.steering.gates.gate import Reading
from sa_lightning.steering.gates.linear import fit_linear_gate, threshold_at_recall, threshold_between
from sa_lightning.steering.intervention import Step

CPU = torch.device("cpu")


def planted(count, side, seed):
    """States of two layers: noise everywhere, and a difference of 2 · side along the first entry of layer 1."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(count, 2, 8, generator=generator)
    states[:, 1, 0] += 3 * side
    states[:, 1] *= 50  # a long layer must not outweigh the other by its length
    return states


def test_a_linear_gate_scores_the_classes_at_plus_and_minus_one_and_orders_held_out_prompts():
    harmful, others = planted(60, 1, 0), planted(80, -1, 1)
    gate = fit_linear_gate(harmful, others, (3, 5))
    scores = [gate(Reading((3, 5), side)) for side in (harmful, others)]
    assert [float(s.mean()) for s in scores] == pytest.approx([1, -1], abs=1e-4)
    unseen = [gate(Reading((5, 3), side.flip(1))) for side in (planted(50, 1, 2), planted(50, -1, 3))]
    assert float((unseen[0][:, None] > unseen[1][None]).float().mean()) > 0.99
    weight = gate.weight * torch.tensor([[1.0], [50.0]])
    assert float(weight[1, 0].abs()) > 3 * float(weight[0].abs().max())


def test_a_gate_needs_two_classes_that_differ():
    good = planted(5, 1, 0)
    for harmful, others, fact in (
        (good[:1], good, "two prompts at least"),
        (good, good.clone(), "same mean state"),
        (good * math.nan, good, "not finite"),
    ):
        with pytest.raises(DataError, match=fact):
            fit_linear_gate(harmful, others, (0, 1))


@given(st.lists(st.floats(-5, 5, width=32), min_size=20, max_size=60), st.sampled_from([0.5, 0.8, 0.9, 0.95, 1.0]))
def test_a_threshold_is_the_largest_that_enough_prompts_reach(scores: list[float], recall: float):
    values = torch.tensor(scores)
    found = threshold_at_recall(values, recall)
    assert found in values
    assert int((values >= found).sum()) >= recall * len(scores) - 1e-6
    higher = values[values > found]
    assert not len(higher) or int((values >= float(higher.min())).sum()) < recall * len(scores)


@given(
    st.lists(st.floats(-5, 5, width=32), min_size=20, max_size=40),
    st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=40),
    st.sampled_from([0.5, 0.9, 1.0]),
)
def test_a_lower_threshold_finds_more_and_no_more_of_the_others(found: list[float], others: list[float], recall: float):
    one, two = torch.tensor(found).double(), torch.tensor(others).double()
    strict, at = threshold_at_recall(one, recall), threshold_between(one, two, recall)
    assert at <= strict
    assert int((two >= at).sum()) == int((two >= strict).sum())
    assert int((one >= at).sum()) >= int((one >= strict).sum())
    below = two[two < strict]
    if len(below):  # nothing to be found is left between the threshold and the last of the others
        assert int((one >= at).sum()) == int((one > below.max()).sum())


def test_a_recall_that_so_few_prompts_cannot_show_is_refused():
    with pytest.raises(SettingError, match="at least 100 held-out"):
        threshold_at_recall(torch.arange(50.0), 0.99)
    with pytest.raises(SettingError, match=r"write 0\.98"):
        threshold_at_recall(torch.arange(50.0), 98)
    with pytest.raises(DataError, match="0 scores"):
        threshold_at_recall(torch.zeros(0), 0.9)


def test_a_map_moves_harmful_states_to_the_target_and_benign_ones_hardly():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(16, 16, generator=generator, dtype=torch.float64))[0]
    benign = torch.randn(200, 9, generator=generator, dtype=torch.float64) @ basis[:, :9].T
    harmful = benign[:40] + (3 + torch.randn(40, 1, generator=generator, dtype=torch.float64)) * basis[:, 12]
    target = torch.randn(16, generator=generator, dtype=torch.float64)
    projector = null_space_projector(benign, 7 / 16)
    assert torch.allclose(projector @ projector, projector, atol=1e-10)
    assert float((benign @ projector).norm(dim=-1).max()) < 1e-9
    mapping = null_space_map(harmful, target, projector, ridge=1e-6)
    step = Step("add_mapped", mapping, 1.0, CPU)
    moved = step(benign.float()) - benign.float()
    assert float(moved.norm(dim=-1).max()) < 1e-4 * float(target.norm())
    pushed = (step(harmful.float()) - harmful.float()).double()
    assert float((pushed.mean(0) - target).norm()) < 0.2 * float(target.norm())
    assert float(normalize(pushed, dim=-1) @ normalize(target, dim=0) @ torch.ones(40, dtype=torch.float64)) > 39.9
    still = Step("add_mapped", mapping, 0.0, CPU)(harmful.float())
    assert torch.equal(still, harmful.float())
    assert float(null_space_map(harmful, target, projector, ridge=1e6).norm()) < 0.1 * float(mapping.norm())


def test_maps_are_the_papers_formula_with_states_as_columns():
    generator = torch.Generator().manual_seed(1)
    benign, harmful = (torch.randn(n, 6, generator=generator, dtype=torch.float64) for n in (30, 7))
    target = torch.randn(6, generator=generator, dtype=torch.float64)
    p, columns, a = null_space_projector(benign, 0.5), harmful.T, 10.0
    wanted = target[:, None].expand(-1, 7) @ columns.T @ p.T
    inverse = torch.linalg.pinv(p @ columns @ columns.T @ p.T + a * p @ p.T)
    assert torch.allclose(null_space_map(harmful, target, p, a), wanted @ inverse @ p, atol=1e-8)


def test_maps_of_nothing_are_refused():
    good = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    with pytest.raises(SettingError, match=r"lies in \(0, 1\)"):
        null_space_projector(good, 1.0)
    with pytest.raises(DataError, match="benign"):
        null_space_projector(good[:0], 0.5)
    with pytest.raises(SettingError, match="at least 0"):
        null_space_map(good, good[0], torch.eye(6), ridge=-1)
    with pytest.raises(DataError, match="harmful"):
        null_space_map(good * math.nan, good[0], torch.eye(6))


def test_a_condition_is_the_cosine_with_the_squashed_projection():
    h, c = torch.tensor([[3.0, 4.0], [-1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    found = ConditionGate((4,), c)(Reading((4,), torch.zeros(3, 1, 2), mean=h[:, None]))
    expected = [4 / 5, 2 / 5**0.5, 0.0]  # along one axis the tanh keeps the direction
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_conditions_join_by_and_and_or():
    mean = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, -1.0], [0.0, 0.0]])[:, None]
    reading = Reading((2,), torch.zeros(5, 1, 2), mean=mean)
    gates = tuple(ConditionGate((2,), torch.tensor([axis])) for axis in ([1.0, 0.0], [0.0, 1.0]))
    both, one = (JoinedGate((2,), gates, (0.5, 0.5), every) for every in (True, False))
    assert (both(reading) >= 0).tolist() == [False, False, True, True, False]  # the similarity has no sign
    assert (one(reading) >= 0).tolist() == [True, True, True, True, False]
    for row in range(5):
        apart = [float(gate(reading)[row]) - 0.5 for gate in gates]
        assert float(both(reading)[row]) == pytest.approx(min(apart))
        assert float(one(reading)[row]) == pytest.approx(max(apart))
    assert both.reads == {"mean"}
    assert {gate.condition.device.type for gate in both.to(torch.device("meta")).gates} == {"meta"}
