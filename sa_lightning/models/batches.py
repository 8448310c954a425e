"""Pairs of passages as batches under a token budget, both members of a pair in one batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sa_lightning.models.passages import PassagePair

WORTH = 0.8  # prefixes are shared where at most this fraction of the tokens is left


@dataclass  # Lightning takes no frozen ones
class PairBatch:
    """Pairs as tensors: first members first, then second ones, in the order of `pairs`.

    Sequences are padded on the right. Attention is causal, so no real token sees the padding, and no
    mask is needed. With shared prefixes, `prefix` is what the members of each pair have in common, padded
    on the left, and `input_ids` only what follows; between the two no padding lies.

    Attributes:
        input_ids: Token ids.
        read: Where states are read, as indices into `input_ids`, padded with index 0.
        valid: Which of these are meant.
        pairs: Index of each pair.
        counted: Whether it counts; a process without work of its own repeats another's.
        prefix: Token ids of the common beginnings, or None.
        prefix_mask: 1 at their real tokens, or None.
        suffix_mask: 1 at real tokens of `input_ids`, or None.
    """

    input_ids: Int[Tensor, "two_batch pos"]
    read: Int[Tensor, "two_batch count"]
    valid: Bool[Tensor, "two_batch count"]
    pairs: Int[Tensor, " batch"]
    counted: Bool[Tensor, " batch"]
    prefix: Int[Tensor, "batch prefix_pos"] | None = None
    prefix_mask: Int[Tensor, "batch prefix_pos"] | None = None
    suffix_mask: Int[Tensor, "two_batch pos"] | None = None

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    @property
    def tokens(self) -> int:
        """How many tokens run, padding included."""
        return self.input_ids.numel() + (0 if self.prefix is None else self.prefix.numel())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "PairBatch":
        """Return the batch on a device."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def chunks(self, count: int) -> Iterator["PairBatch"]:
        """Yield the batch in so many parts, whole pairs each."""
        for part in torch.arange(len(self), device=self.pairs.device).chunk(count):
            both = torch.cat([part, part + len(self)])
            yield self._mapped(lambda tensor, part=part, both=both: tensor[both if len(tensor) != len(self) else part])

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> "PairBatch":
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        found: Any = {name: None if value is None else change(value) for name, value in values.items()}
        return PairBatch(**found)


def common_prefix(pair: PassagePair) -> int:
    """Return how many tokens both members begin with, before the first that is read in either."""
    first, second = (member.ids for member in pair)
    most = min(min(member.read) for member in pair)
    return next((i for i in range(most) if first[i] != second[i]), most)


def plan_batches(
    pairs: Sequence[PassagePair], budget: int, most: int | None = None, share: bool | None = None
) -> tuple[list[list[int]], bool]:
    """Deal pairs to batches, alike in length, in an order that no seed changes.

    Args:
        pairs: What is to be run.
        budget: Most tokens a batch may have, padding included; a single pair may have more.
        most: Most pairs a batch may have.
        share: Whether the common prefix of a pair runs once. If not set, where it saves at least a fifth of all
            tokens, padding included: the answer is the same for all batches, so that all processes run as many
            forwards.

    Returns:
        Indices of pairs, batch by batch, and whether prefixes are shared.
    """
    whole = [(0, 2 * max(len(member.ids) for member in pair)) for pair in pairs]
    apart = [(start, size - 2 * start) for start, (_, size) in zip(map(common_prefix, pairs), whole, strict=True)]
    if share is not None:
        return _deal(apart if share else whole, budget, most), share
    batches, shared = (_deal(sizes, budget, most) for sizes in (whole, apart))
    if _padded(apart, shared) <= WORTH * _padded(whole, batches):
        return shared, True
    return batches, False


def _deal(sizes: Sequence[tuple[int, int]], budget: int, most: int | None) -> list[list[int]]:
    """Fill batches with pairs alike in size; sizes are the tokens of a pair's prefix, and of both suffixes."""
    batches: list[list[int]] = []
    widest = (0, 0)
    for index in _alike(sizes, budget):
        wider = (max(widest[0], sizes[index][0]), max(widest[1], sizes[index][1]))
        if not batches or len(batches[-1]) == most or (len(batches[-1]) + 1) * sum(wider) > budget:
            batches.append([])
            wider = sizes[index]
        batches[-1].append(index)
        widest = wider
    return batches


def _alike(sizes: Sequence[tuple[int, int]], budget: int) -> list[int]:
    """Order pairs so that neighbours have prefixes and suffixes of like length.

    By prefix in bands of as many tokens each, and within a band by suffix, up in one and down in the next: as many
    bands as there are batches in a band.
    """
    total = sum(map(sum, sizes))
    bands = max(1, round((total / budget) ** 0.5)) if any(prefix for prefix, _ in sizes) else 1
    ordered: list[list[int]] = [[] for _ in range(bands)]
    before = 0
    for index in sorted(range(len(sizes)), key=lambda index: (sizes[index], index)):
        ordered[before * bands // max(1, total)].append(index)
        before += sum(sizes[index])
    for number, band in enumerate(ordered):
        band.sort(key=lambda index: (sizes[index][::-1], index), reverse=number % 2 == 1)
    return [index for band in ordered for index in band]


def _padded(sizes: Sequence[tuple[int, int]], batches: Sequence[Sequence[int]]) -> int:
    """How many tokens run, padding included."""
    return sum(
        len(batch) * (max(sizes[index][0] for index in batch) + max(sizes[index][1] for index in batch))
        for batch in batches
    )


def collate(pairs: Sequence[PassagePair], indices: Sequence[int], counted: Sequence[bool], share: bool) -> PairBatch:
    """Make the tensors of a batch."""
    prefixes = [common_prefix(pair) if share else 0 for pair in pairs]
    rows = [(pair[side], start) for side in (0, 1) for pair, start in zip(pairs, prefixes, strict=True)]
    reads = [[index - start for index in member.read] for member, start in rows]
    tensors = {
        "input_ids": _right([member.ids[start:] for member, start in rows]),
        "read": _right(reads),
        "valid": _right([[1] * len(read) for read in reads]).bool(),
        "pairs": torch.tensor(list(indices)),
        "counted": torch.tensor(list(counted)),
    }
    if share and max(prefixes):
        reversed_ids = [pair[0].ids[:start][::-1] for pair, start in zip(pairs, prefixes, strict=True)]
        tensors["prefix"] = _right(reversed_ids).flip(1)
        tensors["prefix_mask"] = _right([[1] * start for start in prefixes]).flip(1)
        tensors["suffix_mask"] = _right([[1] * (len(member.ids) - start) for member, start in rows])
    return PairBatch(**tensors)


def _right(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of different length as one tensor, padded on the right with 0."""
    tensors = [torch.tensor(list(row), dtype=torch.long) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)
