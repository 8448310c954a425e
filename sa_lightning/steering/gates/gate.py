"""Gates: what they read of a prompt, the score they give it, and how strongly a score is steered."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from sa_lightning.errors import SettingError
from sa_lightning.steering.gates.transition import transition_scores

PerPrompt = Float[Tensor, " batch"]


@dataclass(frozen=True, eq=False)
class Reading:
    """States of a batch of prompts, before anything is steered, in float32.

    Attributes:
        layers: Which layers they are of.
        end: At the last token of the prompt, shape (batch, layers, d_model).
        appended: The same at the last token of an appended text, if a gate asks for one.
        mean: Mean over the prompt's tokens, padding left out, if a gate asks for it.
    """

    layers: tuple[int, ...]
    end: Float[Tensor, "batch layers d_model"]
    appended: Float[Tensor, "batch layers d_model"] | None = None
    mean: Float[Tensor, "batch layers d_model"] | None = None

    def of(self, states: Tensor, layers: Sequence[int]) -> Tensor:
        """Return the states of some of the layers, in that order."""
        return states[:, [self.layers.index(layer) for layer in layers]]


@dataclass(frozen=True, eq=False)
class Gate(ABC):
    """A score for each prompt, higher where it is more harmful.

    Attributes:
        layers: Whose outputs it reads.
    """

    layers: tuple[int, ...]

    @property
    def appends(self) -> bool:
        """Whether it reads the states behind an appended text."""
        return False

    @property
    def averages(self) -> bool:
        """Whether it reads the mean over the prompt."""
        return False

    def to(self, device: torch.device) -> "Gate":
        """The same gate with its tensors on a device, so that none has to be brought there at every prompt."""
        moved = {
            item.name: value.to(device)
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), Tensor | Gate)
        }
        return replace(self, **moved)

    @abstractmethod
    def __call__(self, reading: Reading) -> PerPrompt:
        """Score every prompt, on the device of its states, without waiting for it."""


@dataclass(frozen=True, eq=False)
class TransitionGate(Gate):
    """SCANS: the mean cosine of a prompt's transition with that of harmful anchors (`transition_scores`).

    Attributes:
        layers: Whose transitions are compared; the paper takes the middle and latter ones.
        reference: From `transition_reference`, shape (layers, d_model).
    """

    reference: Float[Tensor, "layers d_model"]

    @property
    def appends(self) -> bool:
        """It does."""
        return True

    def __call__(self, reading: Reading) -> PerPrompt:
        """Return the scores, in [−1, 1]."""
        assert reading.appended is not None, "the reader has appended what the gate asks for"
        end, appended = (reading.of(states, self.layers) for states in (reading.end, reading.appended))
        return transition_scores(end, appended, self.reference)


@dataclass(frozen=True, eq=False)
class AlwaysGate(Gate):
    """A gate that looks at nothing and gives every prompt a score of 0."""

    layers: tuple[int, ...] = ()

    def __call__(self, reading: Reading) -> PerPrompt:
        """Return zeros."""
        return reading.end.new_zeros(len(reading.end))


@dataclass(frozen=True, eq=False)
class SparingGate(Gate):
    """A gate for prompts that another gate leaves: whatever reaches the threshold of the first has no score (NaN).

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
    def appends(self) -> bool:
        """Whether one reads behind an appended text."""
        return self.gate.appends or self.first.appends

    @property
    def averages(self) -> bool:
        """Whether one reads the mean over the prompt."""
        return self.gate.averages or self.first.averages

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
    def appends(self) -> bool:
        """Whether one reads behind an appended text."""
        return any(gate.appends for gate in self.gates)

    @property
    def averages(self) -> bool:
        """Whether one reads the mean over the prompt."""
        return any(gate.averages for gate in self.gates)

    def to(self, device: torch.device) -> "JoinedGate":
        """The same with the tensors of all on a device."""
        return replace(self, gates=tuple(gate.to(device) for gate in self.gates))

    def __call__(self, reading: Reading) -> PerPrompt:
        """Return by how much it holds; 0 or more where it does."""
        above = torch.stack(
            [gate(reading) - threshold for gate, threshold in zip(self.gates, self.thresholds, strict=True)]
        )
        return above.amin(0) if self.every else above.amax(0)


@dataclass(frozen=True)
class Band:
    """Scores from `low` (included) up to `high` (excluded), and the factor of the strength there.

    With `to`, the factor goes evenly from `weight` at `low` to `to` at `high`, both finite: a ramp.
    """

    low: float
    high: float
    weight: float
    to: float | None = None


@dataclass(frozen=True)
class Policy:
    """What is done at which score: nothing outside its bands.

    Two bands, −1 below a threshold and +1 from it on, are SCANS; a gap between them is a dead zone; a ramp between them
    is the clamped line of AdaSteer (arXiv 2504.09466). A score that is not a number is in no band.
    """

    bands: tuple[Band, ...]

    def __post_init__(self) -> None:
        """Refuse bands that overlap: a score has one weight."""
        ordered = sorted(self.bands, key=lambda band: band.low)
        for band, following in itertools.pairwise(ordered):
            if band.high > following.low:
                raise SettingError(
                    f"Scores from {following.low} to {band.high} are in two bands.\nA score has one weight.\n"
                    "Let each begin where the one before ends, or later."
                )
        if any(math.isnan(edge) for band in self.bands for edge in (band.low, band.high, band.weight)):
            raise SettingError("A band has a bound, or a weight, that is not a number.\nSet a threshold.")
        if any(band.to is not None and not math.isfinite(band.high - band.low) for band in self.bands):
            raise SettingError("A ramp has no end.\nIts slope would be 0.\nGive it finite bounds.")

    @classmethod
    def threshold(cls, at: float, below: float = -1.0, above: float = 1.0) -> "Policy":
        """One weight below a threshold and another from it on; SCANS: −1 and +1."""
        return cls((Band(-math.inf, at, below), Band(at, math.inf, above)))

    def weights(self, scores: PerPrompt) -> PerPrompt:
        """Return the weight of each score, on its device, in float32."""
        found = torch.zeros_like(scores, dtype=torch.float32)
        for band in self.bands:
            weight: Tensor | float = band.weight
            if band.to is not None:
                weight = weight + (scores.float() - band.low) * ((band.to - band.weight) / (band.high - band.low))
            found = torch.where((scores >= band.low) & (scores < band.high), weight, found)
        return found
