import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references.steering import authors_direction, fisher_direction, paper_direction
from scipy.optimize import brentq
from torch.nn import functional as F

from sa_lightning.errors import DataError, SettingError
from sa_lightning.steering import (
    DIRECTIONS,
    PairMoments,
    PairStates,
    fit_directions,
    fit_directions_from_sums,
    fit_pairs,
    random_directions,
)
from sa_lightning.steering.directions.principal import SMALL, top_eigenvector
from sa_lightning.steering.directions.probe import logistic

ALONG_THE_MEAN = [name for name in DIRECTIONS if name != "principal_centred"]


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


@pytest.mark.parametrize("method", ALONG_THE_MEAN)
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
    with pytest.raises(DataError, match=r"not finite at layers \[9\]"):
        fit_pairs(PairStates(safe, unsafe), "mean", [4, 9, 11])


def test_random_directions_are_unit_and_depend_on_the_seed_alone():
    first, again, other = (random_directions((3, 8), seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.allclose(first.norm(dim=-1), torch.ones(3))


@pytest.mark.parametrize("pairs", [9, 40])
def test_the_centred_direction_is_what_varies_most_across_pairs(pairs):
    safe, unsafe = states(11, pairs, 2, 16)
    planted = torch.nn.functional.normalize(torch.randn(2, 16, generator=torch.Generator().manual_seed(8)), dim=-1)
    factor = torch.randn(pairs, 1, 1, generator=torch.Generator().manual_seed(9))
    safe = 0.1 * safe + (2 + 5 * factor) * planted + 50 * torch.eye(16)[3]  # far off in a direction that does not vary
    fitted = fit_directions(safe, 0.1 * unsafe, "principal_centred")
    assert ((fitted * planted).sum(-1).abs() > 0.98).all()
    difference = (safe - 0.1 * unsafe).double()
    for layer in range(2):
        centred = difference[:, layer] - difference[:, layer].mean(0)
        component = torch.linalg.svd(centred, full_matrices=False).Vh[0]
        assert torch.allclose(fitted[layer].double().abs(), component.abs(), atol=1e-5)
        assert fitted[layer].double() @ difference[:, layer].mean(0) > 0


@pytest.mark.parametrize("size", [0.0, 1e-6])
def test_where_differences_do_not_vary_the_centred_direction_is_the_difference(size):
    safe, unsafe = (side[:1].expand(7, -1, -1) for side in states(16, 1, 2, 8))
    jitter = size * torch.randn(7, 2, 8, generator=torch.Generator().manual_seed(4))
    fitted = fit_directions(safe + jitter, unsafe, "principal_centred")
    assert torch.allclose(fitted, fit_directions(safe, unsafe, "mean"), atol=1e-4)
    sums = fit_directions_from_sums(PairMoments.of(safe + jitter, unsafe, True), "principal_centred")
    assert torch.allclose(sums, fitted, atol=1e-4)


@given(seed=st.integers(0, 1000), pairs=st.integers(3, 12), width=st.integers(2, 20))
@settings(max_examples=30, deadline=None)
def test_the_whitened_difference_is_fishers_with_ledoit_and_wolfs_covariance(seed, pairs, width):
    safe, unsafe = states(seed, pairs, 1, width)
    reference = torch.nn.functional.normalize(fisher_direction(safe[:, 0], unsafe[:, 0]), dim=-1)
    assert torch.allclose(fit_directions(safe, unsafe, "whitened")[0].double(), reference, atol=1e-5)


@pytest.mark.parametrize("pairs", [6, 50])
def test_the_probes_weights_are_where_penalty_and_mistakes_are_in_balance(pairs):
    safe, unsafe = states(12, pairs, 2, 24, planted=torch.ones(2, 24) / 24**0.5, size=1.5)
    weights = logistic(safe, unsafe)
    y = torch.cat([torch.ones(pairs), torch.zeros(pairs)]).double()
    for layer in range(2):
        x = torch.cat([safe[:, layer], unsafe[:, layer]]).double()
        x = x - x.mean(0)
        x /= x.square().mean().sqrt()
        z = x @ weights[layer]
        # The slope of ½‖w‖² + Σ log(1 + exp(−y (w·x + b))) is 0: w = Σ (y − p) x, with b such that Σ (y − p) = 0.
        intercept = brentq(lambda b, z: float((y - (z + b).sigmoid()).sum()), -50, 50, args=(z,), xtol=1e-12)
        assert torch.allclose(weights[layer], (y - (z + intercept).sigmoid()) @ x, atol=1e-6)
        assert float(weights[layer].norm()) > 0.1
    assert torch.allclose(fit_directions(safe, unsafe, "probe").double(), F.normalize(weights, dim=-1), atol=1e-6)


@pytest.mark.parametrize("method", ["mean", "principal", "principal_centred"])
@pytest.mark.parametrize("cut", [0, 1, 17, 30])
def test_sums_over_pairs_give_the_directions_of_their_states(method, cut):
    safe, unsafe = states(13, 30, 3, 8, planted=torch.ones(3, 8))
    parts = [PairMoments.of(safe[:cut], unsafe[:cut], True), PairMoments.of(safe[cut:], unsafe[cut:], True)]
    fitted = fit_directions_from_sums(parts[0] + parts[1], method)
    assert torch.allclose(fitted, fit_directions(safe, unsafe, method), atol=1e-5)


def test_sums_are_exact_in_float64_on_half_precision_states():
    safe, unsafe = (side.bfloat16() + 300 for side in states(14, 400, 1, 8))
    sums = sum((PairMoments.of(safe[i : i + 1].float(), unsafe[i : i + 1].float(), False) for i in range(1, 400)),
               PairMoments.of(safe[:1].float(), unsafe[:1].float(), False))  # fmt: skip
    assert torch.equal(sums.safe, safe.double().sum(0))


def test_methods_that_need_the_states_refuse_sums():
    safe, unsafe = states()
    with pytest.raises(SettingError, match=r"`--steering.direction probe` needs the states of all pairs"):
        fit_directions_from_sums(PairMoments.of(safe, unsafe, True), "probe")


def test_a_large_matrix_has_the_eigenvector_that_a_full_decomposition_finds():
    rows = torch.randn(60, SMALL + 40, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    matrix = rows.T @ rows
    found, expected = top_eigenvector(matrix), torch.linalg.eigh(matrix).eigenvectors[:, -1]
    assert abs(float(found @ expected)) > 1 - 1e-9


def test_separation_is_one_for_planted_pairs():
    planted = torch.ones(3, 8) / 8**0.5
    safe, unsafe = states(5, 20, planted=planted, size=30.0)
    directions, found = fit_pairs(PairStates(safe, unsafe), "mean", [4, 5, 9])
    assert found["layers"] == [4, 5, 9]
    assert found["separation"] == found["auroc"] == [1.0, 1.0, 1.0]
    assert min(found["gap"]) > 10
    difference = (safe - unsafe).mean(0)
    assert found["difference_norm"] == pytest.approx(difference.norm(dim=-1).tolist(), rel=1e-5)
    along = (difference * directions).sum(-1)
    means = torch.tensor(found["safe_mean"]) - torch.tensor(found["unsafe_mean"])
    assert torch.allclose(means, along, rtol=1e-4)


def test_kept_pairs_are_held_out_for_the_description_and_counted_in_for_the_direction():
    safe, unsafe = states(15, 60, 2, 8, planted=torch.ones(2, 8) / 8**0.5, size=1.0)
    others = PairMoments.of(safe[12:], unsafe[12:], True)
    directions, found = fit_pairs(PairStates(safe[:12], unsafe[:12], others), "principal")
    assert torch.allclose(directions, fit_directions(safe, unsafe, "principal"), atol=1e-5)
    rest = fit_directions(safe[12:], unsafe[12:], "principal")
    from references.steering import wins

    for layer in range(2):
        expected = wins((safe[:12, layer] @ rest[layer]).tolist(), (unsafe[:12, layer] @ rest[layer]).tolist())
        assert found["auroc"][layer] == pytest.approx(expected)
    whole, _ = fit_pairs(PairStates(safe, unsafe), "principal")
    assert len(PairStates(safe[:12], unsafe[:12], others)) == 60
    assert torch.allclose(whole, directions, atol=1e-5)
