import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from references.surgery import flatten, keep_above, keep_largest
from support.small_checkpoints import says
from torch import Tensor, nn

from sa_lightning.errors import NothingToDoError
from sa_lightning.surgery import ByMagnitude, ByRandom, ModelWeights, Selection, TaskVector, entries_to_keep, select
from sa_lightning.surgery.selection.kth_largest import hash_keys, kth_largest

LIGHT = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def vector_of(deltas: dict[str, Tensor]) -> TaskVector:
    """A task vector with exactly these deltas."""

    def weights(tensors: dict[str, Tensor]) -> ModelWeights:
        module = nn.Module()
        for name, tensor in tensors.items():
            module.register_buffer(name.replace(".", "_"), tensor)
        return ModelWeights(module)

    return TaskVector(weights({n: torch.zeros_like(d) for n, d in deltas.items()}), weights(deltas))


def masks(selection: Selection, vector: TaskVector) -> dict[str, Tensor]:
    return {name: selection.mask(name, vector.delta(name)) for name in vector.names}


@st.composite
def deltas(draw: st.DrawFn) -> dict[str, Tensor]:
    """Some tensors: smooth, rounded to bfloat16, or with hardly any distinct values."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    kind = draw(st.sampled_from(["smooth", "bfloat16", "ties", "zeros"]))
    found = {}
    for index in range(draw(st.integers(1, 4))):
        shape = draw(st.lists(st.integers(1, 9), min_size=0, max_size=3))
        delta = torch.randn(shape, generator=generator)
        if kind == "bfloat16":
            delta = (1 + delta * 0.02).bfloat16().float() - 1
        if kind in ("ties", "zeros"):
            delta = (delta * (1 if kind == "ties" else 0.4)).round()
        found[f"t{index}"] = delta
    return found


densities = st.one_of(st.sampled_from([0.05, 0.1, 0.5, 1.0]), st.floats(1e-3, 1.0))


@LIGHT
@given(deltas(), densities)
def test_keep_equals_the_flattened_reference(tensors: dict[str, Tensor], density: float):
    vector = vector_of(tensors)
    if entries_to_keep(density, flatten(tensors).numel()) == 0:
        return
    found = flatten(masks(select(vector, density=density, ties="keep"), vector))
    assert torch.equal(found, keep_largest(flatten(tensors), density))


@LIGHT
@given(deltas(), densities)
def test_drop_equals_the_flattened_reference(tensors: dict[str, Tensor], density: float):
    vector, expected = vector_of(tensors), keep_above(flatten(tensors), density)
    if expected.any():
        found = select(vector, density=density, ties="drop")
        exact = entries_to_keep(density, expected.numel())
        if int(keep_largest(flatten(tensors), density).sum()) > exact:
            assert torch.equal(flatten(masks(found, vector)), expected)
        assert found.k == int(flatten(masks(found, vector)).sum())


@LIGHT
@given(deltas(), densities, st.integers(0, 3))
def test_split_keeps_exactly_k_between_drop_and_keep(tensors: dict[str, Tensor], density: float, seed: int):
    vector, everything = vector_of(tensors), flatten(tensors)
    k = entries_to_keep(density, everything.numel())
    if k == 0:
        return
    chosen = select(vector, density=density, seed=seed)
    found = flatten(masks(chosen, vector))
    assert int(found.sum()) == k == chosen.k
    assert not (found & ~keep_largest(everything, density)).any()
    assert not (keep_above(everything, density) & ~found).any()


@LIGHT
@given(deltas(), densities)
def test_per_tensor_selection_is_the_reference_on_each_tensor(tensors: dict[str, Tensor], density: float):
    vector = vector_of(tensors)
    if not any(entries_to_keep(density, delta.numel()) for delta in tensors.values()):
        return
    found = masks(select(vector, density=density, granularity="tensor", ties="keep"), vector)
    for name, delta in tensors.items():
        assert torch.equal(found[name], keep_largest(delta, density))


@LIGHT
@given(deltas(), densities)
def test_random_control_has_exactly_k_entries(tensors: dict[str, Tensor], density: float):
    vector = vector_of(tensors)
    if k := entries_to_keep(density, flatten(tensors).numel()):
        chosen = select(vector, density=density, ranking=ByRandom(0), ties="drop")
        assert chosen.k == int(flatten(masks(chosen, vector)).sum()) == k
        assert chosen.threshold is None


def test_small_chunks_and_no_early_collection_change_nothing(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    vector = vector_of({"a": (torch.randn(40, 50) * 3).round(), "b": (torch.randn(999) * 3).round()})
    for ranking in (ByMagnitude(), ByRandom(0)):
        monkeypatch.undo()
        whole = masks(select(vector, density=0.3, ranking=ranking), vector)
        monkeypatch.setattr("sa_lightning.surgery.checkpoints.slices.ENTRIES", 37)
        monkeypatch.setattr("sa_lightning.surgery.selection.kth_largest.COLLECT", 0)
        pieces = masks(select(vector, density=0.3, ranking=ranking), vector)
        assert all(torch.equal(whole[name], pieces[name]) for name in whole)


def test_ties_are_split_evenly_over_memory_and_differently_by_seed():
    vector = vector_of({"a": torch.ones(20_000), "b": torch.ones(20_000)})
    first = masks(select(vector, density=0.25, seed=0), vector)
    for name in ("a", "b"):
        quarters = first[name].reshape(4, -1).float().mean(1)
        assert torch.allclose(quarters, torch.full((4,), 0.25), atol=0.03)
    other = masks(select(vector, density=0.25, seed=1), vector)
    assert not torch.equal(first["a"], other["a"])
    assert not torch.equal(first["a"], first["b"])


def test_hash_keys_are_distinct_non_negative_and_continue_across_chunks():
    keys = hash_keys(123, np.arange(50_000))
    assert int(keys.min()) >= 0
    assert len(np.unique(keys)) == 50_000
    assert np.array_equal(keys[700:900], hash_keys(123, np.arange(700, 900)))
    assert abs(float((keys >> 62).mean()) - 0.5) < 0.02


def test_kth_largest_of_many_keys_is_that_of_sorting():
    keys = torch.randint(0, 2**62, (5000,)).numpy()
    pieces = np.array_split(keys, 77)
    for k in (1, 2500, 5000):
        assert kth_largest(lambda count: map(count, pieces), k, 63).value == int(np.sort(keys)[-k])


def test_threshold_is_the_smallest_magnitude_kept():
    vector = vector_of({"a": torch.tensor([0.5, -3.0, 2.0, 0.25])})
    assert select(vector, density=0.5).threshold == 2.0
    by_tensor = select(vector, density=0.5, granularity="tensor")
    assert by_tensor.threshold == {"a": 2.0}
    assert by_tensor.density_achieved == 0.5


def test_drop_that_leaves_nothing_is_refused():
    with pytest.raises(NothingToDoError) as error:
        select(vector_of({"a": torch.ones(10)}), density=0.5, ties="drop")
    says(error, "`ties: drop`", "`ties: split`")


def test_a_density_that_rounds_to_no_entry_is_refused():
    with pytest.raises(NothingToDoError) as error:
        select(vector_of({"a": torch.ones(10)}), density=0.01)
    says(error, "10 entries", "`density: 0.01`", "Raise `density`")


@pytest.mark.parametrize("density", [10, 0, -0.1, math.nan])
def test_density_outside_its_range_is_refused(density: float):
    with pytest.raises(ValueError, match="must be above 0") as error:
        select(vector_of({"a": torch.ones(10)}), density=density)
    says(error, "`density` must be above 0 and at most 1")
    if density == 10:
        says(error, "but is 10", "To keep ten percent, write 0.1.")
