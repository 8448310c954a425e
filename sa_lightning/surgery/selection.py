"""The trim: which entries of a task vector are kept."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sa_lightning.errors import NothingToDoError, SettingError
from sa_lightning.surgery.kth_largest import (
    FLOAT_BITS,
    HASH_BITS,
    float_keys,
    hash_keys,
    key_to_float,
    kth_largest,
)
from sa_lightning.surgery.scope import layer_of
from sa_lightning.surgery.task_vector import TaskVector

__all__ = ["Granularity", "Method", "Progress", "Selection", "Ties", "entries_to_keep", "select"]

Method = Literal["magnitude", "random"]
Granularity = Literal["global", "layer", "tensor"]
Ties = Literal["split", "keep", "drop"]
Progress = Callable[[str, int, int], None]  # what is being done, entries done, entries in all

CHUNK = 1 << 18


class _Cut(NamedTuple):
    value: int
    tie_value: int | None  # of the entries exactly on the cut, keep those whose hash reaches it


@dataclass(frozen=True)
class Selection:
    """Which entries of a task vector are kept, as a rule that `mask` applies tensor by tensor.

    `n` counts the entries in scope (tied tensors once), `k` those really selected, which ties
    may make differ from density · n. `threshold` is the smallest magnitude kept: one number, one
    per layer or tensor if the cut is made there, none for a random selection.
    """

    method: Method
    granularity: Granularity
    ties: Ties
    seed: int
    n: int
    k: int
    cuts: dict[str, _Cut]

    @property
    def density_achieved(self) -> float:
        """The fraction of entries really selected."""
        return self.k / self.n

    @property
    def threshold(self) -> float | dict[str, float] | None:
        """The magnitude on the cut: |entry| ≥ threshold is kept, ties aside."""
        if self.method == "random":
            return None
        values = {group: key_to_float(cut.value) for group, cut in self.cuts.items()}
        return values["global"] if self.granularity == "global" else values

    def mask(self, name: str, delta: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        """Mark the kept entries of one parameter.

        Args:
            name: The parameter, which with the seed decides among ties.
            delta: Its task vector in float32, whole.
        """
        mask = torch.zeros(delta.numel(), dtype=torch.bool)
        cut = self.cuts.get(_group(name, self.granularity))
        if cut is None:
            return mask.reshape(delta.shape)
        for first, part in _chunks(delta):
            kept = mask[first : first + part.numel()]
            keys = _keys(self.method, self.seed, name, first, part)
            if self.ties == "drop" and self.method == "magnitude":
                torch.gt(keys, cut.value, out=kept)
                continue
            torch.ge(keys, cut.value, out=kept)
            if cut.tie_value is not None:
                tied = keys == cut.value
                if bool(tied.any()):
                    lot = hash_keys(_start(self.seed, "ties", name), first, part.numel())
                    kept &= ~tied | (lot >= cut.tie_value)
        return mask.reshape(delta.shape)


def select(
    vector: TaskVector,
    *,
    density: float,
    method: Method = "magnitude",
    granularity: Granularity = "global",
    ties: Ties = "split",
    seed: int = 0,
    progress: Progress | None = None,
) -> Selection:
    """Choose the k = floor(density · n + 0.5) entries of a task vector with the largest magnitude.

    Exact over the whole scope, in a few streaming passes over the deltas, one tensor in memory
    at a time. This is the trim step of TIES-Merging (https://arxiv.org/abs/2306.01708), taken
    over the model at once as in Safety Arithmetic (https://arxiv.org/abs/2406.11801, Eq. 2-3).

    Deltas of half-precision checkpoints are quantised, so a great many entries lie exactly on
    the cut. `split` lets a seeded hash of name and index pick among them, so that exactly k
    remain and no place in memory is favoured; `keep` takes them all (the authors' code, `>=`),
    `drop` none. Entries that are exactly zero are selected only when k exceeds the number of
    others; they count in k and change nothing. NaN and infinity are refused on reading.

    Args:
        vector: The task vector; its scope is what is selected from.
        density: Fraction of entries to keep, in (0, 1].
        method: `magnitude`, or `random` of the same size: the control.
        granularity: Whether k is shared by the whole scope, or taken per layer or per tensor.
        ties: What happens to entries exactly on the cut.
        seed: Seed of the random selection and of the choice among ties.
        progress: Called after every tensor.

    Raises:
        ValueError: If `density` is outside (0, 1].
        NothingToDoError: If nothing would be selected.
    """
    check_density(density)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in vector.names:
        groups[_group(name, granularity)].append(name)
    cuts: dict[str, _Cut] = {}
    n = selected = 0
    for group, names in groups.items():
        size = sum(math.prod(vector.shape(name)) for name in names)
        n += size
        if k := entries_to_keep(density, size):
            cuts[group], kept = _find_cut(vector, names, k, method, ties, seed, progress)
            selected += kept
    if selected == 0:
        raise NothingToDoError(
            f"Nothing would be selected of {n} entries with `density: {density:g}`"
            + (" and `ties: drop`, for all the largest are tied" if cuts else "")
            + ".\nAn edit that changes nothing is refused. "
            + ("Use `ties: split`." if cuts else "Raise `density`.")
        )
    return Selection(method, granularity, ties, seed, n, selected, cuts)


def entries_to_keep(density: float, n: int) -> int:
    """The number of entries that a density means: floor(density · n + 0.5).

    Example:
        >>> entries_to_keep(0.1, 25)
        3
    """
    return min(n, math.floor(density * n + 0.5))


def check_density(density: float) -> None:
    """Refuse a density outside (0, 1], and guess what was meant."""
    if not 0 < density <= 1:
        percent = " To keep ten percent, write 0.1." if density > 1 else ""
        raise SettingError(
            f"`density` is the fraction of entries to keep and must lie in (0, 1], but is {density:g}.{percent}"
        )


def _find_cut(
    vector: TaskVector,
    names: Sequence[str],
    k: int,
    method: Method,
    ties: Ties,
    seed: int,
    progress: Progress | None,
) -> tuple[_Cut, int]:
    passes = 0

    def keys() -> Iterator[tuple[str, int, Tensor]]:
        nonlocal passes
        passes += 1
        total = sum(math.prod(vector.shape(name)) for name in names)
        done = 0
        for name in names:
            count = math.prod(vector.shape(name))
            # A random selection does not look at the values.
            delta = vector.delta(name) if method == "magnitude" else torch.empty(count)
            for first, part in _chunks(delta):
                yield name, first, _keys(method, seed, name, first, part)
            done += count
            if progress:
                progress(f"selecting, pass {passes}", done, total)

    bits = FLOAT_BITS if method == "magnitude" else HASH_BITS
    rank = kth_largest(lambda: (key for _, _, key in keys()), k, bits)
    if method == "random" or ties == "keep" or rank.above + rank.equal == k:
        dropped = rank.equal if ties == "drop" and method == "magnitude" else 0
        return _Cut(rank.value, None), rank.above + rank.equal - dropped
    if ties == "drop":
        return _Cut(rank.value, None), rank.above

    def lots() -> Iterator[Tensor]:
        for name, first, key in keys():
            tied = key == rank.value
            if bool(tied.any()):
                yield hash_keys(_start(seed, "ties", name), first, key.numel())[tied]

    lot = kth_largest(lots, k - rank.above, HASH_BITS)
    return _Cut(rank.value, lot.value), rank.above + lot.above + lot.equal


def _keys(method: Method, seed: int, name: str, first: int, part: Tensor) -> Tensor:
    if method == "magnitude":
        return float_keys(part)
    return hash_keys(_start(seed, "random", name), first, part.numel())


def _start(seed: int, purpose: str, name: str) -> int:
    digest = hashlib.sha256(f"{seed}\t{purpose}\t{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def _chunks(values: Tensor) -> Iterator[tuple[int, Tensor]]:
    flat = values.reshape(-1)
    for first in range(0, flat.numel(), CHUNK):
        yield first, flat[first : first + CHUNK]


def _group(name: str, granularity: Granularity) -> str:
    if granularity == "tensor":
        return name
    if granularity == "layer":
        layer = layer_of(name)
        return "other" if layer is None else str(layer)
    return "global"
