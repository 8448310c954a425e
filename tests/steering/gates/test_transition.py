"""Refusal directions and transitions by hand, and what is refused."""

import pytest
import torch

from sa_lightning.errors import DataError
from sa_lightning.steering.directions.unpaired import refusal_directions, without
from sa_lightning.steering.gates.transition import transition_reference, transition_scores


def states(*rows):
    return torch.tensor(rows, dtype=torch.float32)[:, None]


def test_the_direction_leads_from_harmless_to_harmful_means_and_has_unit_length():
    harmful, harmless = states([3.0, 4.0], [5.0, 6.0]), states([1.0, 1.0])
    assert refusal_directions(harmful, harmless).tolist() == [[0.6, 0.8]]
    assert refusal_directions(harmful, harmless, unit=False).tolist() == [[3.0, 4.0]]
    assert torch.equal(refusal_directions(harmful.flip(0), harmless), refusal_directions(harmful, harmless))


def test_scores_are_mean_cosines_and_a_layer_without_a_transition_counts_as_zero():
    end = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[0.0, 0.0], [0.0, -3.0]]])
    appended = torch.zeros(2, 2, 2)
    reference = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    assert transition_scores(end, appended, reference).tolist() == [1.0, -0.5]
    assert torch.equal(transition_reference(end[:1], appended[:1]), end[0].double())


def test_what_is_left_without_another_direction_is_orthogonal_to_it():
    w, r = torch.tensor([[3.0, 4.0], [1.0, 1.0]]), torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    assert torch.allclose(without(w, r), torch.tensor([[1.0, 0.0], [0.5**0.5, 0.5**0.5]]).double())
    assert torch.allclose(without(w, r, share=0.0), torch.nn.functional.normalize(w.double(), dim=-1))
    half = without(w, r, share=0.5)[0]
    assert torch.allclose(half, torch.tensor([3.0, 2.0]).double() / 13**0.5)
    with pytest.raises(DataError, match="At layers \\[1\\]"):
        without(w, torch.tensor([[1.0, 0.0], [2.0, 2.0]]))


def test_anchors_that_tell_nothing_are_refused():
    good = states([1.0, 2.0])
    for harmful, harmless, fact in (
        (good[:0], good, "no harmful anchors"),
        (good, good[:0], "no harmless anchors"),
        (good, good.clone(), "same mean state at layers \\[0\\]"),
        (good * float("nan"), good, "not finite"),
    ):
        with pytest.raises(DataError, match=fact):
            refusal_directions(harmful, harmless)
    with pytest.raises(DataError, match="not finite"):
        transition_reference(good, good * float("inf"))
