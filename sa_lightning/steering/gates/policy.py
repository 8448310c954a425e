"""How strongly a score is steered."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sa_lightning.errors import SettingError
from sa_lightning.steering.gates.gate import PerPrompt


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
