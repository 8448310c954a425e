"""TIES: trim several deltas, elect a sign for each entry, and average those that agree."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.delta import Delta, check_alike, check_weights, merged_inputs
from sa_lightning.surgery.selection.top_k import Chosen

__all__ = ["TiesMerge"]


class TiesMerge:
    """The TIES merge of deltas: https://arxiv.org/abs/2306.01708.

    Each delta is trimmed by its own selection; of each entry the sign with the larger total magnitude is
    elected; the entries of that sign are averaged, weighted. Zeros take no part. Where the trimmed entries
    cancel exactly, no sign wins and the entry is dropped; the reference code takes the sign of the majority of
    the whole model there. With one delta this is the trim alone, which is what Safety Arithmetic's
    "HDR (w/ TIES)" uses.

    Args:
        deltas: All over the same names and shapes.
        trims: A selection for each.
        weights: A factor for each; all 1 if not given.
    """

    def __init__(self, deltas: Sequence[Delta], trims: Sequence[Chosen], weights: Sequence[float] | None = None):
        self.deltas, self.trims = check_alike(deltas), list(trims)
        self.weights = check_weights(weights, deltas)
        self.scope, self.names = deltas[0].scope, deltas[0].names
        self.inputs: dict[str, Weights] = merged_inputs(deltas)
        terms = [f"{w:g} ({d.formula})" for w, d in zip(self.weights, deltas, strict=True)]
        self.formula: str = f"TIES of {', '.join(terms)}"

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one parameter."""
        return self.deltas[0].shape(name)

    def rows(self, piece: Slice) -> Float[Tensor, "rows columns"]:
        """The merged delta in some rows."""
        trimmed: list[Tensor] = []
        for delta, trim, weight in zip(self.deltas, self.trims, self.weights, strict=True):
            rows = delta.rows(piece)
            trimmed.append(torch.where(trim.keep(piece, rows), rows * (weight * trim.factor), 0.0))
        return elect_and_average(torch.stack(trimmed), torch.tensor(self.weights))


def elect_and_average(
    trimmed: Float[Tensor, "deltas rows columns"], weights: Float[Tensor, " deltas"]
) -> Float[Tensor, "rows columns"]:
    """Average, for each entry, what has the sign of the sum over the deltas.

    Args:
        trimmed: The trimmed deltas, each multiplied by its weight.
        weights: Those weights; the average divides by the sum of those that agree.
    """
    elected = torch.sign(trimmed.sum(0))
    agrees = (torch.sign(trimmed) == elected) & (elected != 0)
    total = torch.where(agrees, trimmed, 0.0).sum(0)
    shares = (agrees * weights.abs()[:, None, None]).sum(0)
    return torch.where(shares > 0, total / shares.clamp(min=torch.finfo(torch.float32).tiny), 0.0)


class Nonzero:
    """Keep what is not zero: of a merge of trimmed deltas, all that is left of them.

    Args:
        n: Entries in scope.
    """

    k: int | None = None
    factor: float = 1.0
    threshold: float | dict[str, float] | None = None

    def __init__(self, n: int) -> None:
        self.n = n

    def keep(self, piece: Slice, delta: Float[Tensor, "rows columns"]) -> Bool[Tensor, "rows columns"]:
        """Mark the kept entries of a slice."""
        return delta != 0
