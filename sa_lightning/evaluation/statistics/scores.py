"""Scores: what tasks measure that knows no right or wrong, such as perplexity, with bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from sa_lightning.errors import DataError
from sa_lightning.evaluation.samples import Sample
from sa_lightning.evaluation.statistics.intervals import Between, family_sums, middle_95, resampled


@dataclass(frozen=True)
class TaskScore:
    """The score of a task over n documents, with bounds. None: not finite, or bounds of one document alone."""

    value: float | None
    unit: str
    n: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ScoreDifference:
    """The score of one arm minus another's over the same n documents of a task, with bounds; None as in `TaskScore`."""

    task: str
    unit: str
    n: int
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PairedScore(ScoreDifference, Between):
    """Score b minus score a."""


def score(samples: Sequence[Sample], seed: int = 0) -> TaskScore:
    """Return the score of one task over its documents, with the 95 % percentile bootstrap interval.

    The value is sum of totals / sum of weights, and its exponential where the unit says perplexity.
    Documents are resampled, families of them together. One document, or one family, shows no
    spread: its bounds are None. So is what is not finite: the perplexity of a model that writes NaN.

    Args:
        samples: Of one task, each with a score of the same unit.
        seed: Of the resampling.

    Raises:
        DataError: If the units differ, or the weights add up to nothing.
    """
    unit = _unit(samples)
    units = family_sums([[s.score.total, s.score.weight] for s in samples if s.score], (s.cluster for s in samples))
    value = _value(*map(sum, zip(*units, strict=True)), unit=unit)
    low = high = None
    if len(units) > 1:
        drawn = resampled(units, seed)
        low, high = middle_95(_value(drawn[:, 0], drawn[:, 1], unit=unit))
    return TaskScore(_finite(value), unit, len(samples), _finite(low), _finite(high))


def score_difference(a: Sequence[Sample], b: Sequence[Sample], seed: int = 0) -> ScoreDifference:
    """Return score b minus score a of the same documents in the same order, with its paired bootstrap interval."""
    unit = _unit([*a, *b])
    rows = [[*x.score[:2], *y.score[:2]] for x, y in zip(a, b, strict=True) if x.score and y.score]
    units = family_sums(rows, (sample.cluster for sample in a))
    sums = [sum(column) for column in zip(*units, strict=True)]
    difference = _value(*sums[2:], unit=unit) - _value(*sums[:2], unit=unit)
    low = high = None
    if len(units) > 1:
        drawn = resampled(units, seed)
        low, high = middle_95(_value(drawn[:, 2], drawn[:, 3], unit=unit) - _value(drawn[:, 0], drawn[:, 1], unit=unit))
    return ScoreDifference(a[0].task, unit, len(a), _finite(difference), _finite(low), _finite(high))


def _unit(samples: Sequence[Sample]) -> str:
    units = {sample.score.unit if sample.score else "none" for sample in samples}
    if len(units) != 1:
        raise DataError(
            f"The documents of {samples[0].task} are measured in {' and '.join(sorted(units))}.\n"
            "Numbers of different units do not add up.\nLet every document of a task give its score in one unit."
        )
    if not sum(sample.score.weight for sample in samples if sample.score) > 0:
        raise DataError(
            f"The scores of {samples[0].task} have no weight: nothing was counted in its {len(samples)} documents.\n"
            "A score is a sum over what was counted.\nLook whether its documents are empty."
        )
    return units.pop()


def _value(total: Any, weight: Any, *, unit: str) -> Any:
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        return np.exp(total / weight) if unit.endswith("perplexity") else total / weight


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and isfinite(value) else None
