"""Deal whole batches to processes, so that any number of them computes what one would."""

from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler


class ShardedBatchSampler(Sampler[list[tuple[int, bool]]]):
    """Yield batches of (index, counted) pairs for one of several processes.

    Process r takes batches r, r + W, r + 2W, … of the same list that one process would walk, so a
    batch has the same rows, and the same padding, however many processes there are. Lightning
    2.6 broadcasts a signal in every training batch, and a process without a batch would leave the
    others waiting for ever: where the list does not divide, the last processes repeat its first
    batch, marked as not counted. (The sampler that Lightning would insert repeats rows that do count.)

    Args:
        batches: Lists of row indices.
        rank: Of this process, from 0.
        world_size: Number of processes.
    """

    def __init__(self, batches: Sequence[Sequence[int]], rank: int = 0, world_size: int = 1) -> None:
        self.batches = batches
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        """Return the number of batches per process, the same for all."""
        return -(-len(self.batches) // self.world_size)

    def __iter__(self) -> Iterator[list[tuple[int, bool]]]:
        """Yield this process's batches in order."""
        for step in range(len(self)):
            number = step * self.world_size + self.rank
            counted = number < len(self.batches)
            yield [(index, counted) for index in self.batches[number if counted else 0]]
