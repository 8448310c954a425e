"""Passages as batches under a token budget; those of a group, such as the two of a pair, in one batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sa_lightning.models.passages import Passage

Group = Sequence[Passage]  # what is dealt to batches as one: a single passage, or the two of a pair
WORTH = 0.8  # prefixes are shared where at most this fraction of the tokens is left


@dataclass  # Lightning takes no frozen ones
class PassageBatch:
    """Groups of passages as tensors: first members first, then second ones, in the order of `groups`.

    Sequences are padded on the right. Attention is causal, so no real token sees the padding, and no
    mask is needed. With shared prefixes, `prefix` is what the members of each group have in common, padded
    on the left, and `input_ids` only what follows; between the two no padding lies.

    Attributes:
        input_ids: Token ids.
        read: Where states are read, as indices into `input_ids`, padded with index 0.
        valid: Which of these are meant.
        groups: Index of each group.
        counted: Whether it counts; a process without work of its own repeats another's.
        prefix: Token ids of the common beginnings, or None.
        prefix_mask: 1 at their real tokens, or None.
        suffix_mask: 1 at real tokens of `input_ids`, or None.
    """

    input_ids: Int[Tensor, "passages pos"]
    read: Int[Tensor, "passages count"]
    valid: Bool[Tensor, "passages count"]
    groups: Int[Tensor, " batch"]
    counted: Bool[Tensor, " batch"]
    prefix: Int[Tensor, "batch prefix_pos"] | None = None
    prefix_mask: Int[Tensor, "batch prefix_pos"] | None = None
    suffix_mask: Int[Tensor, "passages pos"] | None = None

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self.groups)

    @property
    def members(self) -> int:
        """How many passages a group has."""
        return len(self.input_ids) // len(self.groups)

    @property
    def tokens(self) -> int:
        """How many tokens run, padding included."""
        return self.input_ids.numel() + (0 if self.prefix is None else self.prefix.numel())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "PassageBatch":
        """Return the batch on a device."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def chunks(self, count: int) -> Iterator["PassageBatch"]:
        """Yield the batch in so many parts, whole groups each."""
        places = torch.arange(len(self), device=self.groups.device)
        for part in places.chunk(count):
            rows = torch.cat([part + side * len(self) for side in range(self.members)])
            yield self._mapped(lambda tensor, part=part, rows=rows: tensor[rows if len(tensor) != len(self) else part])

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> "PassageBatch":
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        found: Any = {name: None if value is None else change(value) for name, value in values.items()}
        return PassageBatch(**found)


def common_prefix(group: Group) -> int:
    """Return how many tokens all members begin with, before the first that is read in any; 0 of one on its own."""
    if len(group) < 2:
        return 0
    most = min(min(member.read) for member in group)
    return next((i for i in range(most) if len({member.ids[i] for member in group}) > 1), most)


def plan_batches(
    groups: Sequence[Group], budget: int, most: int | None = None, share: bool | None = None
) -> tuple[list[list[int]], bool]:
    """Deal groups of passages to batches, alike in length, in an order that no seed changes.

    Args:
        groups: What is to be run.
        budget: Most tokens a batch may have, padding included; a single group may have more.
        most: Most groups a batch may have.
        share: Whether the common prefix of a group runs once. If not set, where it saves at least a fifth of all
            tokens, padding included: the answer is the same for all batches, so that all processes run as many
            forwards.

    Returns:
        Indices of groups, batch by batch, and whether prefixes are shared.
    """
    whole = [(0, len(group) * max(len(member.ids) for member in group)) for group in groups]
    starts = list(map(common_prefix, groups))
    apart = [(start, size - len(group) * start) for start, (_, size), group in zip(starts, whole, groups, strict=True)]
    if share is not None:
        return _deal(apart if share else whole, budget, most), share
    batches, shared = (_deal(sizes, budget, most) for sizes in (whole, apart))
    if _padded(apart, shared) <= WORTH * _padded(whole, batches):
        return shared, True
    return batches, False


def _deal(sizes: Sequence[tuple[int, int]], budget: int, most: int | None) -> list[list[int]]:
    """Fill batches with groups alike in size; sizes are the tokens of a group's prefix, and of all its suffixes."""
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
    """Order groups so that neighbours have prefixes and suffixes of like length.

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


def collate(groups: Sequence[Group], indices: Sequence[int], counted: Sequence[bool], share: bool) -> PassageBatch:
    """Make the tensors of a batch of groups, which have as many members each."""
    prefixes = [common_prefix(group) if share else 0 for group in groups]
    sides = range(len(groups[0]))
    rows = [(group[side], start) for side in sides for group, start in zip(groups, prefixes, strict=True)]
    reads = [[index - start for index in member.read] for member, start in rows]
    tensors = {
        "input_ids": _right([member.ids[start:] for member, start in rows]),
        "read": _right(reads),
        "valid": _right([[1] * len(read) for read in reads]).bool(),
        "groups": torch.tensor(list(indices)),
        "counted": torch.tensor(list(counted)),
    }
    if share and max(prefixes):
        reversed_ids = [group[0].ids[:start][::-1] for group, start in zip(groups, prefixes, strict=True)]
        tensors["prefix"] = _right(reversed_ids).flip(1)
        tensors["prefix_mask"] = _right([[1] * start for start in prefixes]).flip(1)
        tensors["suffix_mask"] = _right([[1] * (len(member.ids) - start) for member, start in rows])
    return PassageBatch(**tensors)


def _right(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of different length as one tensor, padded on the right with 0."""
    tensors = [torch.tensor(list(row), dtype=torch.long) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)
