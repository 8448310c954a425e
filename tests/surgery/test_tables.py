"""A selection, an operator, a merge, a delta is a row: each is added here, used from sources to disk, and gone."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
from support.small_checkpoints import Write, says, small_tensors, writer
from torch import Tensor

from sa_lightning.errors import SettingError
from sa_lightning.surgery import (
    DELTAS,
    MERGES,
    OPERATORS,
    SELECTIONS,
    Combination,
    EditSettings,
    Minus,
    Sources,
    SurgeryOptions,
    TaskVector,
    open_checkpoint,
    plan_from,
    write_edit,
)
from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.deltas.kind import DeltaKind, Made
from sa_lightning.surgery.deltas.merges import MergeKind
from sa_lightning.surgery.operators.operator import Operator
from sa_lightning.surgery.selection.kind import SelectionKind
from sa_lightning.surgery.selection.top_k import entries


@pytest.fixture
def models(tmp_path: Path) -> dict[str, dict[str, Tensor]]:
    write: Write = writer(tmp_path)
    moves = {"base": 0.0, "harm": 0.1, "other": 0.2}
    made = {name: small_tensors(seed, move=move) for seed, (name, move) in enumerate(moves.items())}
    for name, tensors in made.items():
        write(name, tensors)
    return made


def edited(root: Path, sources: Sources, **settings: object) -> dict[str, Tensor]:
    checkpoint = open_checkpoint(write_edit(plan_from(sources, EditSettings(**settings)), root / "out"))
    return {name: checkpoint.read(name) for name in checkpoint.names}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return all(torch.allclose(found[name], tensor, atol=1e-6) for name, tensor in expected.items())


class Even:
    """Keep the entries at even places."""

    k, factor, threshold = None, 1.0, None

    def __init__(self, n: int) -> None:
        self.n = n

    def keep(self, piece: Slice, delta: Tensor) -> Tensor:
        return (torch.arange(piece.start, piece.start + piece.count) % 2 == 0).reshape(delta.shape)


@pytest.mark.parametrize("minus", [False, True])
def test_a_selection_is_one_row(models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minus: bool):
    monkeypatch.setitem(SELECTIONS, "even", SelectionKind(lambda delta, asked: Even(entries(delta))))
    sources = Sources(str(tmp_path / "base"), str(tmp_path / "harm"))
    how = {"minus": Minus(1.0, select="even"), "density": 1.0} if minus else {"select": "even"}
    found = edited(tmp_path, sources, scale=1.0, **how)
    for name, base in models["base"].items():
        even = (torch.arange(base.numel()) % 2 == 0).reshape(base.shape)
        assert torch.allclose(found[name], torch.where(even != minus, 2 * base - models["harm"][name], base), atol=1e-6)


def test_an_operator_is_one_row(models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(OPERATORS, "halve", Operator(lambda move: (move.weight / 2, move.weight / 2), steps=False))
    found = edited(tmp_path, Sources(str(tmp_path / "base")), operator="halve", density=1.0)
    assert same(found, {name: base / 2 for name, base in models["base"].items()})


def test_a_merge_is_one_row(models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def mean(deltas, weights, trim):
        return Combination(deltas, [1 / len(deltas)] * len(deltas))

    monkeypatch.setitem(MERGES, "mean", MergeKind(mean))
    harms = [str(tmp_path / "harm"), str(tmp_path / "other")]
    found = edited(tmp_path, Sources(str(tmp_path / "base"), harms), merge="mean", density=1.0, scale=1.0)
    halfway = {name: (models["harm"][name] + models["other"][name]) / 2 for name in found}
    assert same(found, {name: 2 * base - halfway[name] for name, base in models["base"].items()})


@dataclass(frozen=True)
class WithDrift(Sources):
    """Sources with one more, as its delta needs."""

    drift: str | None = None


def test_a_delta_is_one_row_and_its_source(models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def make(making):
        return Made(TaskVector(making.base, making.opened(making.sources.drift), making.scope, ("base", "drift")))

    kind = DeltaKind(make, ("drift",), checkpoints=("drift",), operator="add", scale=0.5)
    monkeypatch.setitem(DELTAS, "drift", kind)
    found = edited(tmp_path, WithDrift(str(tmp_path / "base"), drift=str(tmp_path / "other")))
    assert same(found, {name: (base + models["other"][name]) / 2 for name, base in models["base"].items()})


def test_the_choices_of_options_are_the_rows():
    hints = get_type_hints(SurgeryOptions)
    assert get_args(hints["select"]) == tuple(SELECTIONS)
    assert get_args(hints["merge"]) == tuple(MERGES)
    assert get_args(get_args(hints["operator"])[0]) == tuple(OPERATORS)
    assert SurgeryOptions(base="b").split() == (Sources("b"), EditSettings())


@pytest.mark.parametrize("setting", ["select", "operator", "merge"])
def test_what_is_no_row_is_refused_with_those_that_there_are(setting: str):
    with pytest.raises(SettingError) as error:
        EditSettings(**{setting: "toy"})
    says(error, f"`{setting}` is toy", {"select": "magnitude, random", "operator": "subtract", "merge": "sum"}[setting])


def test_a_minus_goes_by_a_density_or_by_scores():
    for minus, fact in ((Minus(0.1, select="heads"), "`heads`"), (Minus(0.1, select="fisher"), "minus.prompts"),
                        (Minus(0.1, select="random", harm="h"), "`minus.harm`")):  # fmt: skip
        with pytest.raises(SettingError) as error:
            EditSettings(minus=minus)
        says(error, fact)
