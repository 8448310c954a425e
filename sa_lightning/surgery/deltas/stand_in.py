"""Another delta in place of one, at its length: the control that says whether the direction matters."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import NothingToDoError
from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.checkpoints.streaming import Progress, over
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.delta import Delta, check_alike, merged_inputs

__all__ = ["StandIn", "norm_ratio"]


class StandIn:
    """A delta at the length of another, whose place it takes: (‖δ‖ / ‖b‖) b.

    With a harmless fine-tune's task vector for b and the harm vector for δ, what an edit then still does is what taking
    back any fine-tuning of that size does. The lengths are over the whole scope, before any selection.

    Args:
        delta: b, what is stepped along.
        place: δ, whose place it takes.
        progress: Told how far the pass over both has come.

    Raises:
        NothingToDoError: If one of the two is zero everywhere in scope.
    """

    def __init__(self, delta: Delta, place: Delta, progress: Progress | None = None) -> None:
        check_alike([place, delta])
        self.delta = delta
        self.scope, self.names = delta.scope, delta.names
        self.inputs: dict[str, Weights] = merged_inputs([place, delta])
        sums = [0.0, 0.0]

        def energies(piece: Slice) -> list[float]:
            rows = (found.rows(piece).reshape(-1).double() for found in (place, delta))
            return [float(torch.dot(one, one)) for one in rows]

        for _, found in over(energies, self.names, self.shape, "comparing lengths", progress):
            sums = [a + b for a, b in zip(sums, found, strict=True)]
        for energy, of in zip(sums, (place, delta), strict=True):
            if not energy:
                raise NothingToDoError(
                    f"({of.formula}) is zero everywhere in scope, so it has no length to give or to take.\n"
                    "A fine-tune that equals its base says nothing about fine-tuning.\nWas the right one given?"
                )
        self.factor: float = norm_ratio(*sums)
        self.formula: str = f"{self.factor:.6g} ({delta.formula}) in place of ({place.formula})"

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one parameter."""
        return self.delta.shape(name)

    def rows(self, piece: Slice) -> Float[Tensor, "rows columns"]:
        """(‖δ‖ / ‖b‖) b in some rows."""
        return self.delta.rows(piece) * self.factor


def norm_ratio(energy: float, other: float) -> float:
    """√(energy / other): what something is multiplied by to get another's length, from sums of squares.

    To nine digits, for the rest depends on where in memory the values lay, and bits should not.
    """
    return float(f"{math.sqrt(energy / other):.9g}")
