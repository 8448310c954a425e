"""Gates that put others together, or need none."""

import math
from dataclasses import dataclass, replace

import torch

from sa_lightning.steering.gates.gate import Gate, PerPrompt, Reading


@dataclass(frozen=True, eq=False)
class AlwaysGate(Gate):
    """A gate that looks at nothing and gives every prompt a score of 0."""

    layers: tuple[int, ...] = ()

    def __call__(self, reading: Reading) -> PerPrompt:
        """Return zeros."""
        return reading.end.new_zeros(len(reading.end))


@dataclass(frozen=True, eq=False)
class ExemptingGate(Gate):
    """A gate for prompts that another gate leaves: those that reach the threshold of the first have no score (NaN).

    What removes false refusals must leave true ones alone: it asks who is borderline among those who are not harmful.

    Attributes:
        layers: Those of both.
        gate: Gives the scores.
        first: Looks before it.
        threshold: From this score of `first` on, inclusive, a prompt is not for `gate`.
    """

    gate: Gate
    first: Gate
    threshold: float

    @property
    def reads(self) -> frozenset[str]:
        """What one of the two reads."""
        return self.gate.reads | self.first.reads

    def __call__(self, reading: Reading) -> PerPrompt:
        """Return the scores of `gate`, or NaN, which is in no band of a policy."""
        return torch.where(self.first(reading) >= self.threshold, math.nan, self.gate(reading))


@dataclass(frozen=True, eq=False)
class JoinedGate(Gate):
    """Several gates as one, with a threshold each; the score says by how much all of them hold, or one of them does.

    That is how far the score of a gate lies above its threshold: the least of them for AND, the largest for OR (CAST,
    arXiv 2409.05907, section 3.3), so that the joined gate holds from 0 on.

    Attributes:
        layers: Those of all.
        gates: The gates.
        thresholds: From this score on, inclusive, each holds.
        every: Whether all must hold.
    """

    gates: tuple[Gate, ...]
    thresholds: tuple[float, ...]
    every: bool

    @property
    def reads(self) -> frozenset[str]:
        """What any of them reads."""
        return frozenset[str]().union(*(gate.reads for gate in self.gates))

    def to(self, device: torch.device) -> "JoinedGate":
        """The same with the tensors of all on a device."""
        return replace(self, gates=tuple(gate.to(device) for gate in self.gates))

    def __call__(self, reading: Reading) -> PerPrompt:
        """Return by how much it holds; 0 or more where it does."""
        above = torch.stack(
            [gate(reading) - threshold for gate, threshold in zip(self.gates, self.thresholds, strict=True)]
        )
        return above.amin(0) if self.every else above.amax(0)
