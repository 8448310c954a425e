"""What one selection keeps and another does not."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sa_lightning.errors import NothingToDoError
from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.checkpoints.streaming import Progress, over
from sa_lightning.surgery.delta import Delta
from sa_lightning.surgery.scope import Granularity, group_of
from sa_lightning.surgery.selection.top_k import Chosen

__all__ = ["SetDifference", "count_kept"]


class SetDifference:
    """The entries that `first` keeps and `second` does not: A without B.

    As in Wei et al. (https://arxiv.org/abs/2402.05162), important for safety and not for utility, and in
    SafePatching (https://arxiv.org/abs/2405.13820).

    Args:
        first: What is kept.
        second: What is left out.
        delta: What `first` selects from.
        other: What `second` selects from, if not from the same.
        progress: Told how far the counting has come.

    Raises:
        NothingToDoError: If nothing is left.
    """

    def __init__(
        self,
        first: Chosen,
        second: Chosen,
        delta: Delta,
        other: Delta | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.first, self.second, self.other = first, second, other
        self.n = first.n
        self.factor = first.factor
        self.threshold: float | dict[str, float] | None = first.threshold
        self.k: int | None = None
        self.k = sum(count_kept(self, delta, "global", progress).values())
        if not self.k:
            raise NothingToDoError(
                f"`minus` leaves out all of the entries that were selected of {first.n}.\n"
                "What both selections hold is not edited, so nothing would be.\n"
                "Lower `minus.density`, or raise `density`."
            )

    def keep(self, piece: Slice, delta: Float[Tensor, "rows columns"]) -> Bool[Tensor, "rows columns"]:
        """Mark the kept entries of a slice."""
        other = delta if self.other is None else self.other.rows(piece)
        return self.first.keep(piece, delta) & ~self.second.keep(piece, other)


def count_kept(
    chosen: Chosen, delta: Delta, granularity: Granularity, progress: Progress | None = None
) -> dict[str, int]:
    """Count what is kept in each group, in one pass."""
    counts: dict[str, int] = {}

    def kept(piece: Slice) -> int:
        return int(torch.count_nonzero(chosen.keep(piece, delta.rows(piece))))

    for piece, count in over(kept, delta.names, delta.shape, "counting the selection", progress):
        group = group_of(piece.name, granularity)
        counts[group] = counts.get(group, 0) + count
    return counts
