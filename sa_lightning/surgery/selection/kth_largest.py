"""The exact k-th largest of a stream that is too long to hold.

Each pass counts the keys above a bracket and looks at those inside: few are collected and sorted, many
are counted in bins, and the bin that holds the k-th is the next bracket. A bracket guessed from a sample
makes one pass enough as a rule; a wrong guess costs a pass, never exactness. Memory is one piece
of the stream and one histogram, and the result depends on neither its order nor the number of threads.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Keys", "Rank", "float_keys", "hash_keys", "key_to_float", "kth_largest"]

DIGIT = 20  # bits of a histogram
COLLECT = 1 << 20  # keys that may be held
FLOAT_BITS = 31
HASH_BITS = 63
_GOLDEN = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)

Keys = NDArray[np.integer]


class Rank(NamedTuple):
    """The k-th largest key, how many are strictly larger, and how many equal it."""

    value: int
    above: int
    equal: int


def kth_largest(
    each: Callable[[Callable[[Keys], Any]], Iterable[Any]], k: int, bits: int, bracket: tuple[int, int] | None = None
) -> Rank:
    """Find the k-th largest of non-negative integer keys in a few passes over a stream.

    Args:
        each: Makes one pass: applies a function to every piece of the stream (in several threads, if it likes)
            and yields the results. Every pass must see the same keys, in any pieces and order.
        k: Rank of the wanted key, from 1, at most the number of keys.
        bits: Number of bits that a key may use.
        bracket: A guess of a smallest and a largest key that it lies between.

    Example:
        >>> import numpy as np
        >>> stream = [np.array([5, 1, 7]), np.array([5])]
        >>> kth_largest(lambda count: map(count, stream), k=2, bits=31)
        Rank(value=5, above=1, equal=2)
    """
    low, high = bracket or (0, (1 << bits) - 1)
    while True:
        shift = max(0, (high - low).bit_length() - DIGIT)
        inside = _Inside(low, shift, ((high - low) >> shift) + 1)
        above = 0
        for larger, members in each(lambda keys, low=low, high=high: _look(keys, low, high)):
            above += larger
            inside.add(members)
        if k <= above:
            low, high = high + 1, (1 << bits) - 1
            continue
        if k > above + inside.count:
            if low == 0:
                raise ValueError(f"asked for the {k}-th largest of {above + inside.count} keys")
            low, high = 0, low - 1
            continue
        if inside.counts is None:
            keys = np.sort(inside.collected())[::-1]
            value = int(keys[k - above - 1])
            larger = int(np.count_nonzero(keys > value))
            return Rank(value, above + larger, int(np.count_nonzero(keys == value)))
        first, last, larger = inside.find(k - above)
        if first == last:
            return Rank(first, above + larger, inside.at(first))
        low, high = first, last


def _look(keys: Keys, low: int, high: int) -> tuple[int, Keys | int]:
    """Count the keys above the bracket and take those inside; of a bracket of one key, only their number."""
    larger = int(np.count_nonzero(keys > high)) if high < np.iinfo(keys.dtype).max else 0
    if low == high:
        return larger, int(np.count_nonzero(keys == low))
    if low == 0:
        return larger, keys[keys <= high] if larger else keys
    offset = (keys - keys.dtype.type(low)).view(np.dtype(f"u{keys.itemsize}"))
    return larger, keys[offset <= offset.dtype.type(high - low)]


class _Inside:
    """The keys inside a bracket: collected while they are few, counted in bins once they are many."""

    def __init__(self, low: int, shift: int, bins: int) -> None:
        self.low, self.shift, self.bins = low, shift, bins
        self.count = 0
        self.counts: NDArray[np.int64] | None = None
        self._pieces: list[Keys] = []
        self._held = 0

    def add(self, members: Keys | int) -> None:
        if isinstance(members, int):  # of a bracket of one key
            self.count += members
            self.counts = np.array([self.count])
            return
        self.count += len(members)
        self._held += len(members)
        self._pieces.append(members)
        if self._held > COLLECT:
            self._count_in_bins()

    def collected(self) -> Keys:
        return np.concatenate(self._pieces) if self._pieces else np.empty(0, np.int64)

    def find(self, k: int) -> tuple[int, int, int]:
        """First and last key of the bin that holds the k-th largest, and how many are in the bins above."""
        self._count_in_bins()
        assert self.counts is not None
        at_least = self.counts[::-1].cumsum()
        place = int(np.searchsorted(at_least, k))
        digit = len(self.counts) - 1 - place
        first = self.low + (digit << self.shift)
        return first, first + (1 << self.shift) - 1, int(at_least[place] - self.counts[digit])

    def at(self, key: int) -> int:
        assert self.counts is not None
        return int(self.counts[(key - self.low) >> self.shift])

    def _count_in_bins(self) -> None:
        if self._pieces:
            found = np.bincount((self.collected() - self.low) >> self.shift, minlength=self.bins)
            self.counts = found if self.counts is None else self.counts + found
            self._pieces, self._held = [], 0


def float_keys(values: Tensor) -> Keys:
    """Order-preserving integer keys of |values|: the bits of a non-negative float32."""
    return values.reshape(-1).abs().view(torch.int32).numpy()


def key_to_float(key: int) -> float:
    """The magnitude that a key of `float_keys` stands for."""
    return float(torch.tensor(key, dtype=torch.int32).view(torch.float32))


def hash_keys(start: int, index: NDArray[np.integer]) -> NDArray[np.int64]:
    """Keys that look random: SplitMix64 of a start value and of indices.

    The stream of one start value is a bijection of the index up to its last bit, so equal keys
    are about as rare as 63 bits allow. SplitMix: Steele, Lea and Flood, OOPSLA 2014.
    """
    z = index.astype(np.uint64)
    shifted = np.empty_like(z)
    z *= np.uint64(_GOLDEN)
    z += np.uint64(start & ((1 << 64) - 1))
    for bits, factor in ((30, _MIX[0]), (27, _MIX[1]), (31, None)):
        z ^= np.right_shift(z, np.uint64(bits), out=shifted)
        if factor is not None:
            z *= np.uint64(factor)
    z &= np.uint64((1 << HASH_BITS) - 1)
    return z.view(np.int64)
