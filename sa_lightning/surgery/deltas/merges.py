"""The ways of making one delta of several, by the names that `merge` has for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sa_lightning.surgery.delta import Combination, Delta
from sa_lightning.surgery.deltas.ties_merge import TiesMerge
from sa_lightning.surgery.selection.top_k import Chosen

__all__ = ["MERGES", "Merge", "MergeKind", "Trim"]

# (delta, its number from 0) -> what the settings select of it, with draws of its own
Trim = Callable[[Delta, int], Chosen]


@dataclass(frozen=True)
class MergeKind:
    """A way to merge deltas: a row of `MERGES`.

    Attributes:
        merge: Returns one delta of several, of factors for each if they were given, and of a way to trim each.
        trims: Whether each is trimmed first. What is selected of the merge is then what is left of them.
    """

    merge: Callable[[Sequence[Delta], Sequence[float] | None, Trim], Delta]
    trims: bool = False


def summed(deltas: Sequence[Delta], weights: Sequence[float] | None, trim: Trim) -> Delta:
    """Σ wᵢ δᵢ."""
    return deltas[0] if len(deltas) == 1 and weights is None else Combination(deltas, weights)


def ties(deltas: Sequence[Delta], weights: Sequence[float] | None, trim: Trim) -> Delta:
    """The TIES merge of what is selected of each."""
    return TiesMerge(deltas, [trim(delta, number) for number, delta in enumerate(deltas)], weights)


MERGES: dict[str, MergeKind] = {"sum": MergeKind(summed), "ties": MergeKind(ties, trims=True)}

if TYPE_CHECKING:
    Merge = str
else:
    Merge = Literal[tuple(MERGES)]  # the choices of options are the rows
