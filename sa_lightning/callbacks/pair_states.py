"""PairStatesMetric: the states of all pairs, or of some and the sums of the others, over any number of processes."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric
from typing_extensions import override

from sa_lightning.errors import DataError
from sa_lightning.steering import PairMoments, PairStates

TOGETHER = 256  # pairs that are summed at a time: a second moment costs as much for one as for many
SUMS = ("count", "safe", "unsafe", "norms", "second")


class PairStatesMetric(Metric):
    """States of pairs, in float32 on the host; of pairs that are not kept only sums, in float64.

    Each process holds what it has read, so that the memory for states is shared out among them. Rows come in any
    order, and a repeated pair that does not count is dropped.

    Args:
        pairs: Number of pairs.
        layers: Number of sites read.
        d_model: Width.
        kept: Which pairs' states are kept; all if not set.
        second: Whether the sums include the second moment of the differences.
    """

    full_state_update = False
    seen: Tensor

    def __init__(
        self, pairs: int, layers: int, d_model: int, kept: Sequence[int] | None = None, second: bool = False
    ) -> None:
        # Synchronised by `collected`: torchmetrics would copy all states to every process, twice.
        super().__init__(sync_on_compute=False)
        self.layers, self.d_model = layers, d_model
        self.kept = torch.ones(pairs, dtype=torch.bool)
        if kept is not None:
            self.kept = torch.zeros(pairs, dtype=torch.bool)
            self.kept[list(kept)] = True
        self.add_state("seen", torch.zeros(pairs, dtype=torch.long), dist_reduce_fx="sum")
        self.rows: list[tuple[Tensor, Tensor]] = []  # indices, and states of shape (n, 2, layers, d_model)
        self.sums = PairMoments.zero(layers, d_model, second and not bool(self.kept.all()))
        self.waiting: list[Tensor] = []  # rows of `states` that are still to be summed, some hundred at a time

    @override
    def reset(self) -> None:
        super().reset()
        self.rows, self.waiting = [], []
        self.sums = PairMoments.zero(self.layers, self.d_model, len(self.sums.second) > 0)

    @override
    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> "PairStatesMetric":
        return self  # what is kept stays on the host, and in its own precision, whatever the model does

    @override
    def update(
        self,
        states: Float[Tensor, "two_batch layers d_model"],
        pairs: Int[Tensor, " batch"],
        counted: Bool[Tensor, " batch"],
    ) -> None:
        """Take in a batch: safe sides first, then unsafe ones, in the order of `pairs`."""
        both = torch.stack(states.chunk(2), dim=1)
        host, counts = pairs.cpu(), counted.cpu()
        both = both[counts.to(both.device)].cpu()
        keep = self.kept[host[counts]]
        if bool(keep.any()):
            self.rows.append((host[counts][keep], both[keep]))
        if not bool(keep.all()):
            self.waiting.append(both[~keep])
        # Last, so that an interruption anywhere before shows: see `is_whole`.
        self.seen[host[counts]] += 1
        if sum(map(len, self.waiting)) >= TOGETHER:
            self._sum_up()

    def _sum_up(self) -> None:
        if self.waiting:
            both, self.waiting = torch.cat(self.waiting), []
            self.sums.take_in(both[:, 0], both[:, 1])

    def is_whole(self) -> bool:
        """Whether all that was seen is held: not where an interruption fell into the taking in of a batch."""
        held = sum(len(pairs) for pairs, _ in self.rows) + sum(map(len, self.waiting)) + int(self.sums.count)
        return int(self.seen.sum()) == held

    @override
    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the kept states of one process, safe and unsafe, as torchmetrics would have it."""
        states = self.collected()
        assert states is not None
        return states.safe, states.unsafe

    def collected(self, device: torch.device | None = None) -> PairStates | None:
        """Return the states of all pairs; of several processes, all of which must call, to the first alone.

        Layer by layer, so that no process but the first ever holds them all.

        Args:
            device: Where this process communicates from; None for a process on its own.

        Raises:
            DataError: If a pair was seen by no process, or by more than one; in every process.
        """
        together = (lambda tensor: tensor) if device is None else partial(_summed, device=device)
        seen = together(self.seen)
        if not bool((seen == 1).all()):
            raise DataError(
                f"{int((seen != 1).sum())} of {len(seen)} pairs were not read exactly once.\n"
                "A direction is fitted on all pairs. Were batches limited with `--trainer.limit_train_batches`?\n"
                "Use `--data.limit` to read fewer pairs."
            )
        first = device is None or dist.get_rank() == 0
        found = torch.empty(2, int(self.kept.sum()), self.layers, self.d_model) if first else None
        for layer in range(self.layers):
            states = together(self._layer(layer))
            if found is not None:
                found[:, :, layer] = states
        self._sum_up()
        sums = None
        if not bool(self.kept.all()):
            sums = PairMoments(*(_by_slices(together, tensor) for tensor in self.sums.tensors()))
        return None if found is None else PairStates(found[0], found[1], sums)

    def tensors(self) -> dict[str, Tensor]:
        """What this process holds, for a file."""
        found = {"seen": self.seen.clone()}
        if self.rows:
            found["pairs"] = torch.cat([pairs for pairs, _ in self.rows])
            found["states"] = torch.cat([states for _, states in self.rows])
        self._sum_up()
        if not bool(self.kept.all()):
            found |= {f"sum.{name}": tensor for name, tensor in zip(SUMS, self.sums.tensors(), strict=True)}
        return found

    def add(self, tensors: dict[str, Tensor]) -> None:
        """Count in what a process held before."""
        self.seen += tensors["seen"]
        if "states" in tensors:
            self.rows.append((tensors["pairs"], tensors["states"]))
        if "sum.count" in tensors:
            self.sums = self.sums + PairMoments(*(tensors[f"sum.{name}"] for name in SUMS))

    def _layer(self, layer: int) -> Float[Tensor, "two kept d_model"]:
        """One layer's states of the kept pairs, those of other processes 0."""
        place = self.kept.cumsum(0) - 1
        found = torch.zeros(2, int(self.kept.sum()), self.d_model)
        for pairs, states in self.rows:
            found[:, place[pairs]] = states[:, :, layer].transpose(0, 1)
        return found


def _by_slices(together: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
    """Sum over processes, second moments one layer at a time, as a device may have no room for all."""
    if tensor.dim() < 3:
        return together(tensor)
    return torch.stack([together(layer) for layer in tensor]) if len(tensor) else tensor


def _summed(tensor: Tensor, device: torch.device) -> Tensor:
    moved = tensor.to(device, copy=True)
    dist.all_reduce(moved)
    return moved.cpu()
