"""A selection within the edit area beside the whole delta outside it: what the authors' code does by mistake."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sa_lightning.errors import SettingError
from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.delta import Delta
from sa_lightning.surgery.scope import Scope, layer_of
from sa_lightning.surgery.selection.top_k import Chosen, entries

__all__ = ["InArea", "WholeOutside", "check_whole_outside"]


class InArea:
    """A delta over the blocks of the edit area alone.

    Args:
        delta: One over more, with a scope whose edit area is known.
    """

    def __init__(self, delta: Delta) -> None:
        self.delta, self.scope = delta, delta.scope
        blocks = delta.scope.blocks or frozenset()
        self.names: tuple[str, ...] = tuple(name for name in delta.names if layer_of(name) in blocks)
        self.inputs: dict[str, Weights] = delta.inputs
        self.formula: str = delta.formula

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one parameter."""
        return self.delta.shape(name)

    def rows(self, piece: Slice) -> Float[Tensor, "rows columns"]:
        """Some rows of the delta."""
        return self.delta.rows(piece)


class WholeOutside:
    """What is kept of a delta in the edit area, and all of it elsewhere.

    Safety Arithmetic (https://arxiv.org/abs/2406.11801) edits nothing outside the area. The authors' code
    trims within it and subtracts the untrimmed vector, as often, from all other parameters.

    Args:
        chosen: What is kept in the area.
        area: The delta there.
        delta: The delta everywhere.
    """

    def __init__(self, chosen: Chosen, area: InArea, delta: Delta) -> None:
        self.chosen, self._area = chosen, frozenset(area.names)
        self.n: int = entries(delta)
        self.k: int | None = None if chosen.k is None else chosen.k + self.n - entries(area)
        self.factor: float = chosen.factor
        self.threshold: float | dict[str, float] | None = chosen.threshold

    def keep(self, piece: Slice, delta: Float[Tensor, "rows columns"]) -> Bool[Tensor, "rows columns"]:
        """Mark the kept entries of a slice."""
        if piece.name in self._area:
            return self.chosen.keep(piece, delta)
        return torch.ones(delta.shape, dtype=torch.bool)


def check_whole_outside(scope: Scope, rescales: bool) -> None:
    """Refuse `scope.outside: whole` where there is no inside, or where a factor is meant for the inside alone.

    Raises:
        SettingError: With the settings that contradict each other.
    """
    if not scope.edit_area:
        raise SettingError(
            "`scope.outside` is whole, and `scope.edit_area` is false.\n"
            "Without an edit area nothing is outside it.\nWrite `scope.edit_area: true`, or leave `outside` out."
        )
    if rescales:
        raise SettingError(
            "`scope.outside` is whole, and what is selected in the edit area is rescaled.\n"
            "The factor would act outside, too, where all is kept.\n"
            "Take a `select` and a `control` that do not rescale, or leave `outside` out."
        )
