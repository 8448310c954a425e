"""Scores: what tasks measure that knows no right or wrong, such as perplexity, with bootstrap intervals."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from sa_lightning.errors import DataError
from sa_lightning.evaluation.samples import Sample
from sa_lightning.evaluation.statistics.intervals import family_sums, middle_95, resampled


def score(samples: Sequence[Sample], seed: int = 0) -> dict[str, Any]:
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
    return {"value": _finite(value), "unit": unit, "n": len(samples), "low": _finite(low), "high": _finite(high)}


def score_difference(a: Sequence[Sample], b: Sequence[Sample], seed: int = 0) -> dict[str, Any]:
    """Return score b minus score a of the same documents in the same order, with its paired bootstrap interval."""
    unit = _unit([*a, *b])
    rows = [[*x.score[:2], *y.score[:2]] for x, y in zip(a, b, strict=True) if x.score and y.score]
    units = family_sums(rows, (sample.cluster for sample in a))
    sums = [sum(column) for column in zip(*units, strict=True)]
    found = {"unit": unit, "n": len(a), "difference": _value(*sums[2:], unit=unit) - _value(*sums[:2], unit=unit)}
    low = high = None
    if len(units) > 1:
        drawn = resampled(units, seed)
        low, high = middle_95(_value(drawn[:, 2], drawn[:, 3], unit=unit) - _value(drawn[:, 0], drawn[:, 1], unit=unit))
    return {**found, "difference": _finite(found["difference"]), "low": _finite(low), "high": _finite(high)}


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
