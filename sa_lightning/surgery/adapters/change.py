"""What an edit changes of the checkpoint that an adapter is to be over, in float32, before anything is rounded."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sa_lightning.surgery.adapters.low_rank import Factors, LowRank, of_factors
from sa_lightning.surgery.checkpoints.adapted import AdaptedCheckpoint
from sa_lightning.surgery.checkpoints.checkpoint import INPUT_EMBEDDING, Checkpoint
from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.checkpoints.weights import Weights, read_whole
from sa_lightning.surgery.delta import Combination, Delta, Orthogonalised
from sa_lightning.surgery.deltas.task_vector import TaskVector
from sa_lightning.surgery.edit.plan import EditPlan
from sa_lightning.surgery.operators.operator import Move
from sa_lightning.surgery.scope import group_of

__all__ = ["Change"]


class Change:
    """Δ = edited − base, where the base is the target itself, or what the target is an adapter over.

    As weights, it is the target in float32: of an adapter its change is added to the base before any rounding.

    Args:
        plan: The edit.
        target: Its target, on disk.

    Attributes:
        base: What Δ is a change of.
        names: Of all tensors that may differ.
        untied: Whether head and embedding, which the base ties, are two tensors of the target.
    """

    def __init__(self, plan: EditPlan, target: Checkpoint) -> None:
        self.plan, self.target = plan, target
        layers = _layers(target)
        self.base: Checkpoint = layers[-1].base if layers else target
        self.source: str = target.source
        self.aliases: Mapping[str, str] = target.aliases
        self.untied: bool = any(name not in self.base.names for name in target.names)
        changed = {*plan.names, *(name for one in _layers(target) for name in one.changed)}
        self.names: tuple[str, ...] = tuple(name for name in target.names if name in changed)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self.target.shape(name)

    def dtype(self, name: str) -> torch.dtype:
        """Always float32: nothing is rounded."""
        return torch.float32

    def rows(self, piece: Slice) -> Tensor:
        """Some rows of the target."""
        own = _own(self.target, self.base, piece.name) if self.target is not self.base else None
        if own is None:
            return self.target.rows(piece).float()
        base = self.base_rows(piece)
        return base + sum(left[piece.first : piece.last] @ right for left, right in own) if own else base

    def read(self, name: str) -> Tensor:
        """A whole tensor of the target."""
        return read_whole(self, name)

    def fingerprint(self) -> str:
        """Of the target."""
        return self.target.fingerprint()

    def of(self, piece: Slice, edited: Tensor) -> Tensor:
        """Some rows of Δ."""
        return edited - self.base_rows(piece)

    def base_value(self, name: str) -> Tensor:
        """A whole tensor of the base."""
        return self.base.read(self._stored(name))

    def base_dtype(self, name: str) -> torch.dtype:
        """Data type of a tensor of the base."""
        return self.base.dtype(self._stored(name))

    def base_rows(self, piece: Slice) -> Tensor:
        """Some rows of the base, in float32."""
        return self.base.rows(piece._replace(name=self._stored(piece.name))).float()

    def _stored(self, name: str) -> str:
        """What a tensor of the target is called in the base, which may tie what an adapter has made two of."""
        if name in self.base.names or name in self.base.aliases:
            return name
        return next(one for one in self.base.names if INPUT_EMBEDDING.search(one))

    def exact(self, name: str, rank: int | None) -> LowRank | None:
        """The factors of Δ where target and edit show them, at most `rank`; None where they do not.

        A change that is known to be zero has no columns.
        """
        own, step = _own(self.target, self.base, name), _step(self.plan, self.base, name)
        if own is None or step is None or len(self.shape(name)) != 2:
            return None
        rows, columns = self.shape(name)
        found = of_factors([*own, *step], rank) if own or step else None
        return found or LowRank(torch.zeros(rows, 0), torch.zeros(0, columns), 0.0, 0.0)


def _step(plan: EditPlan, base: Checkpoint, name: str) -> list[Factors] | None:
    """The factors of what the edit adds to the target; None where they are not known, nothing where it adds nothing."""
    if name not in plan.names:
        return []
    if not plan.operator.steps:
        return None
    one = torch.ones(1, 1)
    moved, _ = plan.operator.move(Move(0 * one, one, plan.step(name), lambda: 0 * one))
    times = float(moved)
    if not times:
        return []
    found = _products(plan.delta, base, name) if plan.chosen.k == plan.chosen.n else None
    return None if found is None else [(times * left, right) for left, right in found]


def _products(delta: Delta, base: Checkpoint, name: str) -> list[Factors] | None:
    """The products that a delta is a sum of, in one parameter; it may have `factors`, a function or a mapping."""
    if isinstance(delta, Combination | Orthogonalised):
        parts = (
            [(delta.delta, 1.0), (delta.along, -delta.coefficients[group_of(name, delta.granularity)])]
            if isinstance(delta, Orthogonalised)
            else list(zip(delta.deltas, delta.weights, strict=True))
        )
        found = [(_products(part, base, name), weight) for part, weight in parts]
        return None if any(one is None for one, _ in found) else _times(found)
    if isinstance(delta, TaskVector):
        ends = [(_own(delta.finetuned, base, name), 1.0), (_own(delta.base, base, name), -1.0)]
        return None if any(one is None for one, _ in ends) else _times(ends)
    factors: Any = getattr(delta, "factors", None)
    find: Any = getattr(factors, "get", factors)
    known = None if find is None else find(name)
    return None if known is None else [(known[0], known[1])]


def _times(parts: list[tuple[list[Factors] | None, float]]) -> list[Factors]:
    return [(weight * left, right) for products, weight in parts for left, right in products or ()]


def _own(weights: Weights, base: Checkpoint, name: str) -> list[Factors] | None:
    """The products that weights are above a base, in one tensor; None if they are not, or not known to be."""
    found: list[Factors] = []
    for one in _layers(weights):
        products = one.products(name)
        if products is None:
            return None
        found += products
    root = _root(weights)
    same = root is base or (isinstance(root, Checkpoint) and root.path.resolve() == base.path.resolve())
    return found if same else None


def _layers(weights: Weights) -> list[AdaptedCheckpoint]:
    return [weights, *_layers(weights.base)] if isinstance(weights, AdaptedCheckpoint) else []


def _root(weights: Weights) -> Weights:
    """What is under all adapters."""
    layers = _layers(weights)
    return layers[-1].base if layers else weights
