"""Rankings: by what the entries of a delta are put in order."""

import hashlib
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from sa_lightning.surgery.checkpoints.slices import Slice
from sa_lightning.surgery.checkpoints.weights import Weights
from sa_lightning.surgery.delta import check_finite
from sa_lightning.surgery.selection.kth_largest import FLOAT_BITS, HASH_BITS, Keys, float_keys, hash_keys, key_to_float

__all__ = ["ByFisher", "ByMagnitude", "ByRandom", "ByScore", "Ranking"]


@runtime_checkable
class Ranking(Protocol):
    """An order of entries: a non-negative integer key for each, the larger the better.

    `reads_delta` says whether the delta decides; if not, `keys` may be given None for it.
    """

    @property
    def bits(self) -> int:
        """Most bits of a key."""
        ...

    @property
    def reads_delta(self) -> bool:
        """Whether the keys follow from the delta."""
        ...

    def keys(self, piece: Slice, delta: Float[Tensor, "rows columns"] | None) -> Keys:
        """The keys of a slice, in row-major order."""
        ...

    def value(self, key: int) -> float | None:
        """What a key stands for, if it stands for a number that means something."""
        ...


class ByMagnitude:
    """By |δ|."""

    bits: int = FLOAT_BITS
    reads_delta: bool = True

    def keys(self, piece: Slice, delta: Float[Tensor, "rows columns"] | None) -> Keys:
        """The bit patterns of |δ|, which are in the order of the numbers."""
        assert delta is not None
        return float_keys(delta)

    def value(self, key: int) -> float | None:
        """The magnitude."""
        return key_to_float(key)


class ByScore:
    """By a score of one's own for every entry, such as SNIP's |w · ∂L/∂w|; its sign does not count.

    Args:
        scores: A score for every entry, under the names and in the shapes of the parameters.
    """

    bits: int = FLOAT_BITS
    reads_delta: bool = False

    def __init__(self, scores: Weights) -> None:
        self.scores = scores

    def keys(self, piece: Slice, delta: Float[Tensor, "rows columns"] | None) -> Keys:
        """The bit patterns of |score|."""
        rows = self.scores.rows(piece).float()
        check_finite(piece.name, rows, self.scores.source)
        return float_keys(rows)

    def value(self, key: int) -> float | None:
        """The score."""
        return key_to_float(key)


class ByFisher:
    """By F · δ² with a diagonal F: twice what taking the step δ back costs in loss, to second order, entry by entry.

    Unlike SNIP it asks about the step, not about the weight. Ranked by its root, √F · |δ|, in float32.

    Args:
        roots: √F for every entry (`saliency_scores`), under the names and in the shapes of the parameters.
    """

    bits: int = FLOAT_BITS
    reads_delta: bool = True

    def __init__(self, roots: Weights) -> None:
        self.roots = roots

    def keys(self, piece: Slice, delta: Float[Tensor, "rows columns"] | None) -> Keys:
        """The bit patterns of √F · |δ|."""
        assert delta is not None
        rows = self.roots.rows(piece).float() * delta
        check_finite(piece.name, rows, self.roots.source)
        return float_keys(rows)

    def value(self, key: int) -> float | None:
        """√F · |δ|."""
        return key_to_float(key)


class ByRandom:
    """At random: a hash of seed, purpose, parameter name and index, so that no place in memory is favoured."""

    bits: int = HASH_BITS
    reads_delta: bool = False

    def __init__(self, seed: int, purpose: str = "random") -> None:
        self.seed, self.purpose = seed, purpose

    def keys(self, piece: Slice, delta: Float[Tensor, "rows columns"] | None) -> Keys:
        """A hash for each entry of the slice."""
        return hash_keys(self._start(piece.name), np.arange(piece.start, piece.start + piece.count))

    def at(self, piece: Slice, places: Keys) -> Keys:
        """A hash for some entries of the slice, by their places in it."""
        return hash_keys(self._start(piece.name), places + piece.start)

    def value(self, key: int) -> float | None:
        """Nothing: a lot means nothing."""
        return None

    def _start(self, name: str) -> int:
        digest = hashlib.sha256(f"{self.seed}\t{self.purpose}\t{name}".encode()).digest()
        return int.from_bytes(digest[:8], "little")
