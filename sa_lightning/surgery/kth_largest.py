"""The exact k-th largest of a stream that is too long to hold.

A radix selection: histogram the leading 16 bits, descend into the bin that holds the k-th
entry, histogram the next 16 bits of its members, and so on; once the members are few, collect
and sort them. Memory is one chunk and one histogram, and the result depends on neither the
order of the stream nor the number of threads.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["Rank", "float_keys", "hash_keys", "key_to_float", "kth_largest"]

DIGIT = 16
FLOAT_BITS = 31
HASH_BITS = 63
COLLECT = 1 << 20
_GOLDEN = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


class Rank(NamedTuple):
    """The k-th largest key, how many are strictly larger, and how many equal it."""

    value: int
    above: int
    equal: int


def kth_largest(keys: Callable[[], Iterable[Int[Tensor, " _"]]], k: int, bits: int) -> Rank:
    """Find the k-th largest of non-negative integer keys in a few passes over a stream.

    Args:
        keys: Starts one pass; every pass must give the same keys, in chunks, in any order.
        k: Rank of the wanted key, from 1, at most the number of keys.
        bits: Number of bits that a key may use.

    Example:
        >>> kth_largest(lambda: [torch.tensor([5, 1, 7]), torch.tensor([5])], k=2, bits=31)
        Rank(value=5, above=1, equal=2)
    """
    prefix, above, equal, shift = 0, 0, 0, bits
    while shift > 0:
        width = min(DIGIT, shift)
        shift -= width
        counts = torch.zeros(1 << width, dtype=torch.int64)
        for chunk in keys():
            digits = chunk >> shift
            if shift + width < bits:
                digits = digits[(digits >> width) == prefix] & ((1 << width) - 1)
            if digits.numel():
                counts += torch.bincount(digits, minlength=1 << width)
        at_least = counts.flip(0).cumsum(0)
        if int(at_least[-1]) < k - above:
            raise ValueError(f"asked for the {k}-th largest of {int(at_least[-1]) + above} keys")
        place = int(torch.searchsorted(at_least, k - above))
        digit = (1 << width) - 1 - place
        equal = int(counts[digit])
        above += int(at_least[place]) - equal
        prefix = (prefix << width) | digit
        if shift and equal <= COLLECT:
            members = torch.cat([chunk[(chunk >> shift) == prefix] for chunk in keys()])
            value = int(members.sort(descending=True).values[k - above - 1])
            larger = int((members > value).sum())
            return Rank(value, above + larger, int((members == value).sum()))
    return Rank(prefix, above, equal)


def float_keys(values: Tensor) -> Int[Tensor, " _"]:
    """Order-preserving integer keys of |values|: the bits of a non-negative float32."""
    return values.reshape(-1).abs().view(torch.int32)


def key_to_float(key: int) -> float:
    """The magnitude that a key of `float_keys` stands for."""
    return float(torch.tensor(key, dtype=torch.int32).view(torch.float32))


def hash_keys(start: int, first: int, count: int) -> Int[Tensor, " _"]:
    """Keys that look random: SplitMix64 of a start value and the indices first, first + 1, ...

    The stream of one start value is a bijection of the index up to its last bit, so equal keys
    are about as rare as 63 bits allow. SplitMix: Steele, Lea and Flood, OOPSLA 2014.
    """
    index = torch.arange(first, first + count, dtype=torch.int64)
    z = index.mul_(_signed(_GOLDEN)).add_(_signed(start))
    z = _xor_shift(z, 30).mul_(_signed(_MIX[0]))
    z = _xor_shift(z, 27).mul_(_signed(_MIX[1]))
    return _xor_shift(z, 31).bitwise_and_((1 << HASH_BITS) - 1)


def _xor_shift(z: Tensor, bits: int) -> Tensor:
    return z.bitwise_xor_((z >> bits).bitwise_and_((1 << (64 - bits)) - 1))


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
