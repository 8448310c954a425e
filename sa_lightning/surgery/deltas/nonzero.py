"""All entries of a delta that has been trimmed already."""

from jaxtyping import Bool, Float
from torch import Tensor

from sa_lightning.surgery.checkpoints.slices import Slice

__all__ = ["Nonzero"]


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

    def keep(self, part: Slice, delta: Float[Tensor, "rows columns"]) -> Bool[Tensor, "rows columns"]:
        """Mark the kept entries of a slice."""
        return delta != 0
