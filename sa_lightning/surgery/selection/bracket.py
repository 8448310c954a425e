"""A small sample of a delta, to guess from before all of it is read."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sa_lightning.surgery.checkpoints.slices import Slice, matrix
from sa_lightning.surgery.selection.kth_largest import Keys

__all__ = ["guess", "sample"]

PIECES = (64, 1024)  # fewest and most
ENTRIES = 1024  # a piece, or one row
SURE = 1 << 20  # entries up to which nothing is guessed: they are held and sorted
MARGIN = 0.3  # share of the entries on both sides, over the root of the pieces: neighbours are alike


def sample(names: Sequence[str], shapes: Sequence[tuple[int, ...]], pieces: int = PIECES[1]) -> Iterator[Slice]:
    """Some rows here and there, evenly over all entries: the same ones every time."""
    total = sum(math.prod(shape) for shape in shapes)
    every, at = max(1, total // pieces), 0
    seen = 0
    for name, shape in zip(names, shapes, strict=True):
        rows, columns = matrix(shape)
        step = max(1, ENTRIES // max(1, columns))
        last = -1
        while at < seen + rows * columns:
            first = (at - seen) // columns
            if first > last:
                last = min(first + step, rows) - 1
                yield Slice(name, first, last + 1, first * columns, (last + 1 - first) * columns)
            at += every
        seen += rows * columns


def guess(
    keys: Callable[[Slice], Keys], names: Sequence[str], shapes: Sequence[tuple[int, ...]], k: int, bits: int
) -> tuple[int, int] | None:
    """Guess a bracket of keys that the k-th largest lies in, from a sample; None where all can be held anyway.

    A guess only saves time: `kth_largest` looks further if it is wrong.
    """
    total = sum(math.prod(shape) for shape in shapes)
    if total <= SURE:
        return None
    pieces = max(PIECES[0], min(PIECES[1], total >> 18))
    margin = MARGIN / math.sqrt(pieces)
    found = np.sort(np.concatenate([keys(piece) for piece in sample(names, shapes, pieces)]))
    below = 1 - k / total
    low, high = (int(len(found) * min(1.0, max(0.0, below + step))) for step in (-margin, margin))
    top = (1 << bits) - 1
    return (0 if low <= 0 else int(found[low])), (top if high >= len(found) - 1 else int(found[high]))
