import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references.steering import wins
from scipy.stats import mannwhitneyu

from sa_lightning.steering import DIRECTIONS, auroc, choose_layers
from sa_lightning.steering.directions.separability import cross_validated

values = st.lists(st.integers(-3, 3), min_size=1, max_size=8)


@given(safe=values, unsafe=values)
@settings(max_examples=80, deadline=None)
def test_auroc_counts_comparisons_won_and_half_of_the_ties(safe, unsafe):
    found = auroc(torch.tensor(safe, dtype=torch.float64)[:, None], torch.tensor(unsafe, dtype=torch.float64)[:, None])
    assert float(found) == pytest.approx(wins(safe, unsafe))
    assert float(found) == pytest.approx(mannwhitneyu(safe, unsafe).statistic / (len(safe) * len(unsafe)))


def noise(pairs, layers, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(pairs, layers, width, generator=generator), torch.randn(
        pairs, layers, width, generator=generator
    )


@pytest.mark.parametrize("method", DIRECTIONS)
def test_where_nothing_tells_the_sides_apart_held_out_auroc_is_chance(method):
    areas, _ = cross_validated(*noise(30, 24, 60), method)
    assert abs(float(areas.mean()) - 0.5) < 0.06


@pytest.mark.parametrize("method", ["mean", "mean_plus_principal", "probe", "whitened"])
def test_in_sample_the_same_noise_would_look_separable(method):
    safe, unsafe = noise(30, 24, 60)
    fitted = DIRECTIONS[method](safe, unsafe)
    in_sample = auroc((safe.double() * fitted).sum(-1), (unsafe.double() * fitted).sum(-1))
    assert float(in_sample.mean()) > 0.65


def test_a_planted_layer_stands_out_however_long_its_states_are():
    safe, unsafe = noise(40, 5, 32, seed=1)
    offset = 1000 * torch.randn(5, 32, generator=torch.Generator().manual_seed(2))  # common to both sides
    safe, unsafe = safe + offset, unsafe + offset
    safe[:, 3] += 1.5 * torch.nn.functional.normalize(torch.ones(32), dim=0) * 32**0.25
    areas, gaps = cross_validated(safe, unsafe, "mean")
    assert int(areas.argmax()) == 3
    assert float(areas[3]) > 0.9
    assert choose_layers(range(5), areas.tolist(), gaps.tolist(), 1) == [3]


def test_a_single_pair_cannot_be_held_out():
    areas, gaps = cross_validated(*noise(1, 2, 4))
    assert areas.isnan().all()
    assert gaps.isnan().all()


def test_among_equal_areas_the_wider_gap_decides_and_then_the_earlier_layer():
    assert choose_layers([2, 4, 6, 8], [1.0, 1.0, 0.7, 1.0], [3.0, 5.0, 9.0, 3.0], 2) == [2, 4]
    assert choose_layers([0, 1], [math.nan, 0.1], [math.nan, 0.0], 1) == [1]
    assert choose_layers([0, 1], [1.0, 1.0], [2.0, math.inf], 1) == [1]
    assert choose_layers([0, 1], [0.6, 0.7], [1.0, 1.0], 5) == [0, 1]
