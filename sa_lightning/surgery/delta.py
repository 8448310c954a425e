"""Deltas: a direction in the space of weights, formed some rows at a time, and what can be made of several."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import CheckpointError, NothingToDoError, SettingError
from sa_lightning.surgery.checkpoints.slices import Slice, joined, slices
from sa_lightning.surgery.checkpoints.streaming import Progress, over
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.scope import Granularity, Scope, group_of

__all__ = [
    "Combination",
    "Delta",
    "Orthogonalised",
    "OwnWeights",
    "check_finite",
    "coefficient",
    "merged_inputs",
    "whole",
]


@runtime_checkable
class Delta(Protocol):
    """What an edit steps along: one float32 tensor for each parameter in scope.

    `inputs` are the weights it is formed from, by the names that reports give them; `formula` says how.
    """

    @property
    def scope(self) -> Scope:
        """Which parameters are meant."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters in scope, each once."""
        ...

    @property
    def inputs(self) -> dict[str, Weights]:
        """The weights that are read, by their roles."""
        ...

    @property
    def formula(self) -> str:
        """How the delta is formed of them."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one parameter."""
        ...

    def rows(self, piece: Slice) -> Float[Tensor, "rows columns"]:
        """Some rows of one parameter's delta, in float32, on the CPU, all values finite."""
        ...


def whole(delta: Delta, name: str) -> Float[Tensor, "..."]:
    """The whole delta of one parameter, in its shape."""
    shape = delta.shape(name)
    return joined([delta.rows(piece) for piece in slices(name, shape)], shape, torch.float32)


class Combination:
    """A weighted sum of deltas over the same parameters, as in task arithmetic.

    Exact on the products of adapters, too: Σ wᵢ Bᵢ Aᵢ, never a product of sums.

    Args:
        deltas: At least one, all over the same names and shapes.
        weights: A factor for each; all 1 if not given.
    """

    def __init__(self, deltas: Sequence[Delta], weights: Sequence[float] | None = None) -> None:
        self.deltas = check_alike(deltas)
        self.weights = check_weights(weights, deltas)
        self.scope, self.names = deltas[0].scope, deltas[0].names
        self.inputs: dict[str, Weights] = merged_inputs(deltas)
        self.formula: str = " + ".join(f"{w:g} ({d.formula})" for w, d in zip(self.weights, deltas, strict=True))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one parameter."""
        return self.deltas[0].shape(name)

    def rows(self, piece: Slice) -> Float[Tensor, "rows columns"]:
        """Σ wᵢ δᵢ in some rows."""
        total = self.deltas[0].rows(piece) * self.weights[0]
        for delta, weight in zip(self.deltas[1:], self.weights[1:], strict=True):
            total += delta.rows(piece) * weight
        return total


class Orthogonalised:
    """A delta without its component along another: δ − (⟨δ, a⟩ / ⟨a, a⟩) a.

    With a benign fine-tune's task vector as `along`, what any fine-tuning does is taken out of the harm
    vector, and what is peculiar to harm stays. The products are taken in float64 over the whole scope, or
    over each layer or tensor by itself. Where `along` is zero, nothing is taken out.

    Args:
        delta: What is kept.
        along: What is taken out.
        granularity: Over what the products are taken.
        progress: Told how far the pass over both has come.
    """

    def __init__(
        self, delta: Delta, along: Delta, granularity: Granularity = "global", progress: Progress | None = None
    ) -> None:
        check_alike([delta, along])
        self.delta, self.along = delta, along
        self.granularity: Granularity = granularity
        self.scope, self.names = delta.scope, delta.names
        self.inputs: dict[str, Weights] = merged_inputs([delta, along])
        self.formula: str = f"({delta.formula}) without its part along ({along.formula})"
        products: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])

        def both(piece: Slice) -> list[float]:
            one, other = (found.rows(piece).reshape(-1).double() for found in (delta, along))
            return [float(torch.dot(a, b)) for a, b in ((one, other), (other, other), (one, one))]

        for piece, found in over(both, self.names, self.shape, "comparing deltas", progress):
            sums = products[group_of(piece.name, granularity)]
            products[group_of(piece.name, granularity)] = [a + b for a, b in zip(sums, found, strict=True)]
        if not any(along_energy for _, along_energy, _ in products.values()):
            raise NothingToDoError(
                f"({along.formula}) is zero everywhere in scope, so nothing can be taken out along it.\n"
                "A benign fine-tune that equals its base says nothing about fine-tuning. Was the right one given?"
            )
        self.coefficients: dict[str, float] = {group: coefficient(p[0], p[1]) for group, p in products.items()}
        total = [math.fsum(p[i] for p in products.values()) for i in range(3)]
        self.cosine: float = total[0] / math.sqrt(total[1] * total[2]) if total[2] else 0.0

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one parameter."""
        return self.delta.shape(name)

    def rows(self, piece: Slice) -> Float[Tensor, "rows columns"]:
        """δ − c a in some rows."""
        coefficient = self.coefficients[group_of(piece.name, self.granularity)]
        return self.delta.rows(piece) - self.along.rows(piece) * coefficient


class OwnWeights:
    """The weights themselves as a delta: to choose among them by their own magnitude."""

    def __init__(self, weights: Weights, scope: Scope | None = None, role: str = "target") -> None:
        self.weights = weights
        self.scope = scope or Scope()
        self.names: tuple[str, ...] = tuple(self.scope.names(weights))
        self.inputs: dict[str, Weights] = {role: weights}
        self.formula: str = role

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one parameter."""
        return self.weights.shape(name)

    def rows(self, piece: Slice) -> Float[Tensor, "rows columns"]:
        """Some rows of the weights, in float32."""
        rows = self.weights.rows(piece).float()
        check_finite(piece.name, rows, self.weights.source)
        return rows


def check_finite(name: str, values: Float[Tensor, "..."], source: str) -> None:
    """Raise if a tensor has NaN or infinite values, which no ordering by magnitude can place."""
    # A sum is far faster than to look at every entry, and is finite only if they all are.
    if math.isfinite(float(values.sum())):
        return
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise CheckpointError(
            f"`{name}` has {bad} NaN or infinite values in {source}.\n"
            "No arithmetic on them is meaningful: training probably diverged. Take an earlier "
            f"checkpoint, or leave the parameter out: `scope.exclude: ['{name}']`."
        )


def coefficient(along: float, energy: float) -> float:
    """How much of one vector lies along another: ⟨a, b⟩ / ⟨b, b⟩, or 0 if b is zero.

    To nine digits, for the rest depends on where in memory the values lay, and bits should not.
    """
    return float(f"{along / energy:.9g}") if energy else 0.0


def merged_inputs(deltas: Sequence[Delta]) -> dict[str, Weights]:
    """The inputs of several deltas; a second one under a taken name gets a number: `harm-2`."""
    found: dict[str, Weights] = {}
    for delta in deltas:
        for role, weights in delta.inputs.items():
            name, number = role, 1
            while name in found and found[name] is not weights:
                number += 1
                name = f"{role}-{number}"
            found[name] = weights
    return found


def check_alike(deltas: Sequence[Delta]) -> Sequence[Delta]:
    """Raise unless all are over the same parameters."""
    first = deltas[0]
    for delta in deltas[1:]:
        if delta.names != first.names or any(delta.shape(n) != first.shape(n) for n in first.names):
            raise SettingError(
                f"({first.formula}) and ({delta.formula}) are not over the same parameters.\n"
                "Deltas are combined entry by entry.\nGive them the same scope and base."
            )
    return deltas


def check_weights(weights: Sequence[float] | None, deltas: Sequence[Delta]) -> list[float]:
    """One factor for each delta."""
    if weights is not None and len(weights) != len(deltas):
        raise SettingError(
            f"`weights` has {len(weights)} factors, but there are {len(deltas)} deltas.\n"
            "Each is multiplied by its own.\nWrite one number for each, such as [1, 0.5]."
        )
    return [float(weight) for weight in weights] if weights is not None else [1.0] * len(deltas)
