import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references.steering import authors_direction, paper_direction

from sa_lightning.errors import DataError
from sa_lightning.steering import DIRECTIONS, PairStates, fit_directions, random_directions


def states(seed=0, pairs=12, layers=3, width=8, planted=None, size=2.0):
    generator = torch.Generator().manual_seed(seed)
    safe = torch.randn(pairs, layers, width, generator=generator)
    unsafe = torch.randn(pairs, layers, width, generator=generator)
    return (safe + size * planted if planted is not None else safe), unsafe


@given(seed=st.integers(0, 1000), pairs=st.integers(2, 9), width=st.integers(2, 9))
@settings(max_examples=40, deadline=None)
def test_principal_direction_is_the_top_eigenvector_of_the_uncentred_second_moment(seed, pairs, width):
    safe, unsafe = states(seed, pairs, 2, width)
    fitted = fit_directions(safe, unsafe, "principal")
    for layer in range(2):
        reference = paper_direction(safe[:, layer], unsafe[:, layer])
        moment = (safe - unsafe)[:, layer].double().T @ (safe - unsafe)[:, layer].double()
        values = torch.linalg.eigvalsh(moment)
        if values[-1] - values[-2] > 1e-3 * values[-1]:
            assert torch.allclose(fitted[layer].double(), reference, atol=1e-4)


@pytest.mark.parametrize("method", DIRECTIONS)
def test_every_method_finds_a_planted_direction_with_its_sign(method):
    planted = torch.nn.functional.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(7)), dim=-1)
    safe, unsafe = states(1, 60, 3, 16, planted=planted, size=12.0)
    fitted = fit_directions(safe, unsafe, method)
    assert ((fitted * planted).sum(-1) > 0.95).all()
    swapped = fit_directions(unsafe, safe, method)
    assert torch.allclose(swapped, -fitted, atol=1e-5)


def test_principal_differs_from_the_mean_where_the_spread_is_sideways():
    sideways = torch.tensor([[0.0, 9.0]])
    safe = torch.stack([torch.tensor([[1.0, 0.0]]) + sign * sideways for sign in (1, -1, 1, -1)])
    unsafe = torch.zeros_like(safe)
    assert fit_directions(safe, unsafe, "mean")[0, 0] == pytest.approx(1.0)
    assert abs(fit_directions(safe, unsafe, "principal")[0, 1]) > 0.99


def test_reference_code_reading_equals_the_notebook_formula():
    safe, unsafe = states(3, 9, 3, 8)
    expected = torch.nn.functional.normalize(authors_direction(safe, unsafe), dim=-1)
    assert torch.allclose(fit_directions(safe, unsafe, "mean_plus_principal").double(), expected, atol=1e-5)


def test_concatenated_direction_weighs_layers_together():
    safe, unsafe = states(4, 9, 3, 8)
    fitted = fit_directions(safe, unsafe, "principal_concatenated")
    reference = paper_direction(safe.flatten(1), unsafe.flatten(1)).view(3, 8)
    assert torch.allclose(fitted.double(), torch.nn.functional.normalize(reference, dim=-1), atol=1e-4)


@pytest.mark.parametrize("method", DIRECTIONS)
def test_equal_sides_have_no_direction(method):
    safe, _ = states()
    with pytest.raises(DataError, match="no direction leads from one to the other"):
        fit_directions(safe, safe.clone(), method)


def test_states_that_are_not_finite_are_refused_with_their_layer():
    safe, unsafe = states()
    safe[0, 1, 0] = float("nan")
    with pytest.raises(DataError, match=r"not finite at layers \[1\]"):
        fit_directions(safe, unsafe)


def test_random_directions_are_unit_and_depend_on_the_seed_alone():
    first, again, other = (random_directions((3, 8), seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.allclose(first.norm(dim=-1), torch.ones(3))


def test_separation_is_one_for_planted_pairs_and_half_for_ties():
    planted = torch.ones(3, 8) / 8**0.5
    safe, unsafe = states(5, 20, planted=planted, size=30.0)
    assert PairStates(safe, unsafe).statistics(planted)["separation"] == [1.0, 1.0, 1.0]
    assert PairStates(safe, safe).statistics(planted)["separation"] == [0.5, 0.5, 0.5]
