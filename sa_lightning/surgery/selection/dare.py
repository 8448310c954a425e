"""DARE: drop at random, and rescale what is left."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.selection.kind import SelectionKind
from sa_lightning.surgery.selection.kth_largest import HASH_BITS
from sa_lightning.surgery.selection.ranking import ByRandom
from sa_lightning.surgery.selection.top_k import check_density, entries

__all__ = ["DARE", "Dare"]


class Dare:
    """Keep each entry with probability `density`, independently, and divide what is kept by it.

    The expectation of the result is the delta. DARE: https://arxiv.org/abs/2311.03099, whose drop rate is
    1 − density. The draws are a seeded hash of name and index, so the same whatever the
    shards, threads or machine. How many are kept is known only once they are counted.

    Args:
        n: Entries in scope.
        density: Probability to keep an entry, in (0, 1].
        seed: Of the draws.
    """

    k: int | None = None
    threshold: float | dict[str, float] | None = None

    def __init__(self, n: int, density: float, seed: int = 0) -> None:
        check_density(density)
        self.n = n
        self.factor: float = 1 / density
        self._lots = ByRandom(seed, "dare")
        self._below = int(density * (1 << HASH_BITS))

    def keep(self, piece: Slice, delta: Float[Tensor, "rows columns"]) -> Bool[Tensor, "rows columns"]:
        """Mark the kept entries of a slice."""
        return torch.as_tensor(self._lots.keys(piece, None) < self._below).reshape(delta.shape)


DARE = SelectionKind(lambda delta, asked: Dare(entries(delta), asked.density, asked.seed), rescales=True)
