"""The trim: which entries of a delta are kept."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sa_lightning.errors import NothingToDoError
from sa_lightning.ranges import check_numbers
from sa_lightning.surgery.checkpoints.slices import Slice, rows_of, slices
from sa_lightning.surgery.checkpoints.streaming import Progress, over
from sa_lightning.surgery.delta import Delta
from sa_lightning.surgery.scope import Granularity, group_of
from sa_lightning.surgery.selection.bracket import guess
from sa_lightning.surgery.selection.kth_largest import HASH_BITS, Keys, kth_largest
from sa_lightning.surgery.selection.ranking import ByMagnitude, ByRandom, Ranking

__all__ = [
    "Chosen",
    "Cut",
    "Granularity",
    "Selection",
    "Ties",
    "entries",
    "entries_to_keep",
    "select",
    "select_exactly",
]

Ties = Literal["split", "keep", "drop"]


@runtime_checkable
class Chosen(Protocol):
    """Which entries of a delta are kept, as a rule that is applied slice by slice.

    `k` is how many of the `n` entries in scope, where that is known before all are seen; `factor` is what the
    kept entries are multiplied by (1, but for DARE).
    """

    @property
    def n(self) -> int:
        """Entries in scope."""
        ...

    @property
    def k(self) -> int | None:
        """Entries that are kept, if it is known beforehand."""
        ...

    @property
    def factor(self) -> float:
        """What kept entries are multiplied by."""
        ...

    @property
    def threshold(self) -> float | dict[str, float] | None:
        """What was large enough to be kept, where there is such a number."""
        ...

    def keep(self, piece: Slice, delta: Float[Tensor, "rows columns"]) -> Bool[Tensor, "rows columns"]:
        """Mark the kept entries of a slice."""
        ...


class Cut(NamedTuple):
    """Keep what ranks at least `value`; of the entries exactly there, those whose lot reaches `tie_value`."""

    value: int
    tie_value: int | None


@dataclass(frozen=True)
class Selection:
    """The entries that rank highest, as a rule that `keep` applies slice by slice.

    `n` counts the entries in scope (tied tensors once), `k` those really selected, which ties
    may make differ from density · n. `threshold` is the smallest magnitude or score kept: one number, one
    per layer or tensor if the cut is made there, 0 where all are kept, none for a random selection.
    """

    ranking: Ranking
    granularity: Granularity
    ties: Ties
    seed: int
    n: int
    k: int
    cuts: dict[str, Cut]
    factor: float = 1.0

    @property
    def density_achieved(self) -> float:
        """The fraction of entries really selected."""
        return self.k / self.n

    @property
    def threshold(self) -> float | dict[str, float] | None:
        """The magnitude on the cut: |entry| ≥ threshold is kept, ties aside."""
        found = {group: self.ranking.value(cut.value) for group, cut in self.cuts.items()}
        values = {group: value for group, value in found.items() if value is not None}
        if not values:
            return None
        return values["global"] if self.granularity == "global" else values

    def keep(self, piece: Slice, delta: Float[Tensor, "rows columns"]) -> Bool[Tensor, "rows columns"]:
        """Mark the kept entries of a slice of one parameter's delta."""
        cut = self.cuts.get(group_of(piece.name, self.granularity))
        if cut is None:
            return torch.zeros(delta.shape, dtype=torch.bool)
        keys = self.ranking.keys(piece, delta)
        if self.ties == "drop":
            return torch.as_tensor(keys > cut.value).reshape(delta.shape)
        kept = keys >= cut.value
        if cut.tie_value is not None:
            places = np.flatnonzero(keys == cut.value)
            kept[places] = ByRandom(self.seed, "ties").at(piece, places) >= cut.tie_value
        return torch.as_tensor(kept).reshape(delta.shape)

    def mask(self, name: str, delta: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        """Mark the kept entries of one parameter, given its whole delta in float32."""
        kept = [self.keep(piece, rows_of(delta, piece)) for piece in slices(name, tuple(delta.shape))]
        return torch.cat(kept).reshape(delta.shape) if kept else torch.zeros(delta.shape, dtype=torch.bool)


def select(
    delta: Delta,
    *,
    density: float,
    ranking: Ranking | None = None,
    granularity: Granularity = "global",
    ties: Ties = "split",
    seed: int = 0,
    progress: Progress | None = None,
) -> Selection:
    """Choose the k = floor(density · n + 0.5) entries of a delta that rank highest.

    Exact over the whole scope, in one streaming pass over the deltas as a rule, or two where there are ties, some
    rows in memory at a time. By magnitude this is the trim step of TIES-Merging
    (https://arxiv.org/abs/2306.01708), taken over the model at once as in Safety Arithmetic
    (https://arxiv.org/abs/2406.11801, Eq. 2-3).

    Deltas of half-precision checkpoints are quantised, so a great many entries lie exactly on
    the cut. `split` lets a seeded hash of name and index pick among them, so that exactly k
    remain and no place in memory is favoured; `keep` takes them all (the authors' code, `>=`),
    `drop` none. Entries that are exactly zero are selected only when k exceeds the number of
    others; they count in k and change nothing. NaN and infinity are refused on reading.

    Args:
        delta: The delta; its scope is what is selected from.
        density: Fraction of entries to keep, in (0, 1].
        ranking: By what; by magnitude if not given.
        granularity: Whether k is shared by the whole scope, or taken per layer or per tensor.
        ties: What happens to entries exactly on the cut.
        seed: Seed of the choice among ties.
        progress: Told how far each pass has come.

    Raises:
        ValueError: If `density` is outside (0, 1].
        NothingToDoError: If nothing would be selected.
    """
    check_density(density)
    groups = _groups(delta, granularity)
    sizes = {group: entries_to_keep(density, entries(delta, names)) for group, names in groups.items()}
    if not any(sizes.values()):
        raise NothingToDoError(
            f"Nothing would be selected of {entries(delta)} entries with `density: {density:g}`.\n"
            "An edit that changes nothing is refused. Raise `density`."
        )
    return select_exactly(
        delta, sizes, ranking or ByMagnitude(), granularity=granularity, ties=ties, seed=seed, progress=progress
    )


def select_exactly(
    delta: Delta,
    sizes: Mapping[str, int],
    ranking: Ranking,
    *,
    granularity: Granularity = "global",
    ties: Ties = "split",
    seed: int = 0,
    progress: Progress | None = None,
) -> Selection:
    """Choose so many entries of each group: see `select`.

    Args:
        delta: The delta; its scope is what is selected from.
        sizes: How many, by `group_of`.
        ranking: By what.
        granularity: What the groups are.
        ties: What happens to entries exactly on the cut.
        seed: Seed of the choice among ties.
        progress: Told how far each pass has come.
    """
    ties = "split" if isinstance(ranking, ByRandom) else ties  # two lots are hardly ever equal
    groups = _groups(delta, granularity)
    cuts: dict[str, Cut] = {}
    selected = 0
    for group, names in groups.items():
        if k := sizes.get(group, 0):
            cuts[group], kept = _find_cut(delta, names, k, ranking, ties, seed, progress)
            selected += kept
    n = sum(entries(delta, names) for names in groups.values())
    if selected == 0:
        raise NothingToDoError(
            f"Nothing would be selected of {n} entries with `ties: drop`, for all the largest are tied.\n"
            "An edit that changes nothing is refused. Use `ties: split`."
        )
    return Selection(ranking, granularity, ties, seed, n, selected, cuts)


def entries_to_keep(density: float, n: int) -> int:
    """The number of entries that a density means: floor(density · n + 0.5).

    Example:
        >>> entries_to_keep(0.1, 25)
        3
    """
    return min(n, math.floor(density * n + 0.5))


def check_density(density: float) -> None:
    """Refuse a density outside (0, 1]."""
    check_numbers("density", density)


def _find_cut(
    delta: Delta,
    names: Sequence[str],
    k: int,
    ranking: Ranking,
    ties: Ties,
    seed: int,
    progress: Progress | None,
) -> tuple[Cut, int]:
    total = entries(delta, names)
    if k == total and ranking.reads_delta and ties != "drop":
        return Cut(0, None), k  # everything: no pass is needed to say so
    passes = 0

    def keys_of(piece: Slice) -> Keys:
        return ranking.keys(piece, delta.rows(piece) if ranking.reads_delta else None)

    def each(work: Callable[[Slice, Keys], Any]) -> Iterable[Any]:
        nonlocal passes
        passes += 1

        def one(piece: Slice) -> Any:
            return work(piece, keys_of(piece))

        stage = f"selecting, pass {passes}"
        return (found for _, found in over(one, names, delta.shape, stage, progress, _bytes(delta)))

    bracket = guess(keys_of, names, [delta.shape(name) for name in names], k, ranking.bits)
    rank = kth_largest(lambda work: each(lambda _, keys: work(keys)), k, ranking.bits, bracket)
    if ties == "drop":
        return Cut(rank.value, None), rank.above
    if ties == "keep" or rank.above + rank.equal == k:
        return Cut(rank.value, None), rank.above + rank.equal
    lots = ByRandom(seed, "ties")
    share, slack = (k - rank.above) / rank.equal, 8 / math.sqrt(rank.equal)
    # Lots are spread evenly, so it is known beforehand where about the cut among them lies.
    low, high = (max(0.0, min(1.0, 1 - share + step)) for step in (-slack, slack))
    size = (1 << HASH_BITS) - 1
    among = (int(low * size), min(size, int(high * size)))

    def tied(work: Callable[[Keys], Any]) -> Iterable[Any]:
        return each(lambda piece, keys: work(lots.at(piece, np.flatnonzero(keys == rank.value))))

    lot = kth_largest(tied, k - rank.above, HASH_BITS, among)
    return Cut(rank.value, lot.value), rank.above + lot.above + lot.equal


def _groups(delta: Delta, granularity: Granularity) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in delta.names:
        groups[group_of(name, granularity)].append(name)
    return groups


def entries(delta: Delta, names: Iterable[str] | None = None) -> int:
    """Count the entries of some parameters of a delta; of all in scope, if no names are given."""
    return sum(math.prod(delta.shape(name)) for name in (delta.names if names is None else names))


def _bytes(delta: Delta) -> int:
    """Bytes that are read for an entry of a delta, about."""
    if not delta.names:
        return 1
    return sum(weights.dtype(delta.names[0]).itemsize for weights in delta.inputs.values())
