"""Intervals: of a rate, of a rate over families of prompts, of a mean of rates, of a score. All are of 95 %."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan, sqrt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Z = 1.959963984540054
"""Two-sided 95 % of a normal distribution."""

RESAMPLES = 2000


@dataclass(frozen=True)
class Between:
    """The two arms or judges that a record compares, by name."""

    a: str
    b: str


class Bounded:
    """A share with its 95 % interval, in [0, 1]; None where there is none. In JSON it is an object of its fields."""

    rate: float | None
    low: float | None
    high: float | None

    @property
    def percent(self) -> tuple[float, float, float]:
        """Share and bounds times 100, for people and plots; NaN for None."""
        value, low, high = (nan if one is None else 100 * one for one in (self.rate, self.low, self.high))
        return value, low, high


@dataclass(frozen=True)
class Rate(Bounded):
    """k of n. Of nothing (n = 0) rate and bounds are None, and of draws that share prompts the bounds alone."""

    rate: float | None
    k: int
    n: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Mean(Bounded):
    """The mean of the rates of `categories`; `left_out` names those without prompts. Of nothing the rest is None."""

    rate: float | None
    low: float | None
    high: float | None
    categories: int
    left_out: list[str]


@dataclass(frozen=True)
class Clustered:
    """Bounds of a rate over prompts in families: `clusters`, prompts on their own among them. None of nothing."""

    low: float | None
    high: float | None
    clusters: int
    design_effect: float | None


def rate(k: int, n: int) -> Rate:
    """Return k of n with its 95 % interval by Wilson's score method (1927).

    The interval stays within [0, 1] and is honest at k = 0 and k = n, where it has a width.
    Of nothing (n = 0) rate and interval are None: no prompts is not no attacks.

    Example:
        >>> [round(value, 1) for value in rate(1, 10).percent]
        [10.0, 1.8, 40.4]
    """
    if not 0 <= k <= n:
        raise ValueError(f"k must lie in 0..n, but {k=} and {n=}.")
    if n == 0:
        return Rate(None, 0, 0, None, None)
    return Rate(k / n, k, n, *wilson(k, n))


def wilson(k: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of k of n; neither need be whole, as an effective number is not."""
    from statsmodels.stats.proportion import proportion_confint

    bounds: Any = proportion_confint(k, n, method="wilson")
    # Exact at the ends, where the formula leaves rounding errors.
    return 0.0 if k == 0 else float(bounds[0]), 1.0 if k == n else float(bounds[1])


def clustered(hits: Sequence[bool], families: Sequence[str | int]) -> Clustered:
    """Return the 95 % interval of a rate over prompts that come in families, such as variants of one question.

    Wilson's interval at the effective number of prompts, n over the design effect: how many times
    larger the variance between families makes that of the rate than n prompts on their own would
    (Kish 1965; with Wilson's interval: Dean and Pagano, Survey Methodology 41:2, 2015), corrected
    for few families as by Korn and Graubard (Survey Methodology 24:193, 1998), with quantiles of t.

    - If no two prompts share a family, it is Wilson's interval of n prompts, to the bit.
    - The design effect is at least 1: families less alike than by chance narrow nothing.
    - At a rate of 0 or 1 nothing shows how alike families are, so they are taken as entirely alike.
    - One family alone counts as one prompt.

    Args:
        hits: Whether each prompt counts.
        families: The family of each prompt; empty, or 0, for one on its own.
    """
    units = family_sums([[float(hit), 1.0] for hit in hits], families)
    n, count = len(hits), len(units)
    if n == 0:
        return Clustered(None, None, 0, None)
    share = sum(hits) / n
    if count == n:
        effect, effective = 1.0, float(n)
    elif count == 1:
        effect, effective = float(n), 1.0
    else:
        from scipy.stats import t

        if 0 < share < 1:
            between = count / (count - 1) * sum((k - size * share) ** 2 for k, size in units) / n**2
            effect = max(1.0, between / (share * (1 - share) / (n - 1)))
        else:
            effect = sum(size**2 for _, size in units) / n
        effective = n / effect * float(t.ppf(0.975, n - 1) / t.ppf(0.975, count - 1)) ** 2
    return Clustered(*wilson(sum(hits) * effective / n, effective), count, effect)


def macro(rates: Mapping[str, Rate]) -> Mean:
    """Return the mean of rates, each with the same weight however many prompts it is over.

    The interval adds the squared distances of each rate to its own bounds (Zou, Huang and Zhang,
    Computational Statistics and Data Analysis 53:1080, 2009). It stays within [0, 1], has a width
    at 0 and 1, and is the rate's own for one rate alone. It speaks of these categories, not of
    others that might have been asked.

    Args:
        rates: By category, with bounds wherever there are prompts.
    """
    measured: list[tuple[Any, ...]] = [(one.rate, one.low, one.high) for one in rates.values() if one.n]
    left_out = [name for name, one in rates.items() if not one.n]
    count = len(measured)
    if not count:
        return Mean(None, None, None, 0, left_out)
    mean = sum(value for value, _, _ in measured) / count
    below = sqrt(sum((value - low) ** 2 for value, low, _ in measured)) / count
    above = sqrt(sum((high - value) ** 2 for value, _, high in measured)) / count
    return Mean(mean, max(0.0, mean - below), min(1.0, mean + above), count, left_out)


def family_sums(rows: Iterable[Sequence[float]], families: Iterable[str | int]) -> list[list[float]]:
    """Add up the rows of each family, column by column; a row whose family is empty stands on its own."""
    alone: list[list[float]] = []
    sums: dict[str | int, list[float]] = {}
    for row, family in zip(rows, families, strict=True):
        if not family:
            alone.append(list(row))
        elif family in sums:
            sums[family] = [a + b for a, b in zip(sums[family], row, strict=True)]
        else:
            sums[family] = list(row)
    return [*sums.values(), *alone]


def resampled(units: Sequence[Sequence[float]], seed: int, resamples: int = RESAMPLES) -> "np.ndarray":
    """Draw as many units as there are, with replacement, again and again, and add up their columns.

    Units that are equal are drawn together, by a multinomial: the same distribution, at the cost of
    the distinct ones alone. Same seed: same numbers, in whatever order the units are.

    Args:
        units: One row a unit, such as a prompt or a family of prompts.
        seed: Of the draws.
        resamples: How often.

    Returns:
        Sums, (resamples, columns).
    """
    import numpy as np

    kinds, counts = np.unique(np.asarray(units, dtype=np.float64), axis=0, return_counts=True)
    draw = np.random.default_rng(seed)
    at_once = max(1, 4_000_000 // len(kinds))
    sums = [
        draw.multinomial(len(units), counts / len(units), size=min(at_once, resamples - start)) @ kinds
        for start in range(0, resamples, at_once)
    ]
    return np.concatenate(sums)


def middle_95(values: "np.ndarray") -> tuple[float, float]:
    """Return the 2.5th and 97.5th percentile: the percentile bootstrap interval (Efron 1979)."""
    import numpy as np

    with np.errstate(invalid="ignore"):  # between two infinite values
        low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
