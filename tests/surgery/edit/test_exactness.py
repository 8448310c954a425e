"""The streamed edit equals the naive one, bit for bit: shapes, data types, ties, densities, slices."""

import json
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from references.surgery import edit_by_hand, flatten, keep_above, keep_largest, keep_split
from support.small_checkpoints import writer
from torch import Tensor

from sa_lightning.errors import NothingToDoError
from sa_lightning.surgery import EditSettings, open_checkpoint, plan_edit, write_edit
from sa_lightning.surgery.checkpoints import slices as slices_module

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@st.composite
def triples(draw: st.DrawFn) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Base, harm and target with the same shapes, each tensor in a data type of its own."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    coarse = draw(st.booleans())  # deltas of few distinct values, so that a great many are tied
    base, harm, target = {}, {}, {}
    for index in range(draw(st.integers(1, 4))):
        shape = draw(st.lists(st.integers(1, 7), min_size=0, max_size=3))
        name = f"model.layers.{index % 2}.t{index}.weight"
        weight = torch.randn(shape, generator=generator)
        step = torch.randn(shape, generator=generator) * 0.1
        step = (step * 10).round() / 16 if coarse else step
        base[name] = weight.to(draw(st.sampled_from(DTYPES)))
        harm[name] = (base[name].float() + step).to(draw(st.sampled_from(DTYPES)))
        target[name] = (weight + 0.3).to(draw(st.sampled_from(DTYPES)))
    return base, harm, target


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    triples(),
    st.one_of(st.sampled_from([0.05, 0.1, 0.5, 1.0]), st.floats(1e-2, 1.0)),
    st.sampled_from(["split", "keep", "drop"]),
    st.sampled_from([1, 5, 1 << 18]),
    st.integers(1, 3),
)
def test_the_written_edit_is_the_naive_one(weights, density, ties, entries, shards):
    base, harm, target = weights
    deltas = {name: harm[name].float() - base[name].float() for name in base}
    whole = flatten(deltas)
    if ties == "split":
        masks = keep_split(deltas, density)
    else:
        rule = keep_largest if ties == "keep" else keep_above
        flat = rule(whole, density)
        if ties == "drop" and int(keep_largest(whole, density).sum()) == int(density * whole.numel() + 0.5):
            # Nothing is tied across the cut, but the entry on the cut itself is dropped, too.
            flat = keep_above(whole, density)
        sizes = [deltas[name].numel() for name in sorted(deltas)]
        parts = dict(zip(sorted(deltas), flat.split(sizes), strict=True))
        masks = {name: parts[name].reshape(deltas[name].shape) for name in deltas}
    expected = {n: edit_by_hand(target[n], deltas[n], masks[n], 1.5) for n in target}
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices_module, "ENTRIES", entries)
        write = writer(Path(directory))
        many = min(shards, len(target))
        paths = [write("base", base), write("harm", harm, many), write("target", target, many)]
        try:
            plan = plan_edit(*map(open_checkpoint, paths), EditSettings(density=density, scale=1.5, ties=ties))
            write_edit(plan, Path(directory) / "out")
        except NothingToDoError:
            assert all(torch.equal(expected[name], target[name]) for name in target)
            return
        edited = open_checkpoint(Path(directory) / "out")
        for name in target:
            found = edited.read(name)
            assert found.dtype == target[name].dtype
            assert torch.equal(found, expected[name])
        report = json.loads((Path(directory) / "out" / "surgery.json").read_text())
        assert report["k"] == sum(int(mask.sum()) for mask in masks.values())
        assert report["n"] == whole.numel()


def test_unselected_entries_keep_their_bits_down_to_the_sign_of_zero(tmp_path: Path):
    write, name = writer(tmp_path), "model.layers.0.w.weight"
    base, harm = torch.tensor([[-0.0, 0.0, 1.0, -0.0]]), torch.tensor([[0.0, -0.0, 1.5, 0.25]])
    for dtype in DTYPES:
        paths = [write(f"{role}-{dtype}", {name: t.to(dtype)}) for role, t in (("base", base), ("harm", harm))]
        plan = plan_edit(*map(open_checkpoint, paths), None, EditSettings(density=0.25, scale=2))
        edited = open_checkpoint(write_edit(plan, tmp_path / f"out-{dtype}")).read(name)
        assert edited.tolist() == [[-0.0, 0.0, 0.0, -0.0]]
        assert torch.signbit(edited).tolist() == [[True, False, False, True]]


def test_a_wrong_guess_from_the_sample_costs_a_pass_and_not_exactness(monkeypatch: pytest.MonkeyPatch):
    from sa_lightning.surgery.selection import kth_largest as module

    keys = torch.randint(0, 2**20, (30_000,), dtype=torch.int32).numpy()
    pieces = [keys[i : i + 777] for i in range(0, len(keys), 777)]
    ordered = sorted(keys.tolist(), reverse=True)
    for collect in (1 << 20, 100):
        monkeypatch.setattr(module, "COLLECT", collect)
        for k in (1, 15_000, 30_000):
            value = ordered[k - 1]
            for bracket in (
                None,
                (0, 5),
                (2**20, 2**30),
                (value, value),
                (value - 3, value + 3),
                (value + 1, 2**31 - 1),
            ):
                found = module.kth_largest(lambda look: map(look, pieces), k, 31, bracket)
                assert found == (value, sum(v > value for v in ordered), ordered.count(value))
