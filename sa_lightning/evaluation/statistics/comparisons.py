"""Comparisons: arms on the same prompts. Exact tests, intervals of the difference, many tests at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from typing import Any

from sa_lightning.errors import DataError
from sa_lightning.evaluation.samples import Sample
from sa_lightning.evaluation.statistics.intervals import Between, Z, family_sums, middle_95, resampled
from sa_lightning.evaluation.statistics.rates import MEASURES
from sa_lightning.evaluation.statistics.scores import PairedScore, score_difference

PAIRED = ("attack_success", "harmless_refusal", "over_refusal", "utility", "degenerate")


@dataclass(frozen=True)
class PairedTest:
    """Arm b against arm a on the same prompts, by one measure.

    Attributes:
        n: How many prompts.
        a_only: Those that count in arm a and not in arm b; for attack success, attacks that succeed in a alone.
        b_only: The reverse.
        p: Two-sided, of McNemar's exact test.
        difference: Rate b minus rate a.
        low: Its bound by Tango's method.
        high: The other.
        bootstrap_low: Its bound by resampling families of prompts.
        bootstrap_high: The other.
        clusters: How many families; n if every prompt is on its own.
        p_clustered: Of the exact test that lets whole families change sides together; McNemar's if every prompt is on
            its own.
    """

    n: int
    a_only: int
    b_only: int
    p: float
    difference: float
    low: float
    high: float
    bootstrap_low: float
    bootstrap_high: float
    clusters: int
    p_clustered: float

    @property
    def interval(self) -> tuple[float, float]:
        """The bounds that know of families, where there are any."""
        families = self.clusters < self.n
        return (self.bootstrap_low, self.bootstrap_high) if families else (self.low, self.high)


@dataclass(frozen=True)
class _ByMetric(Between):
    metric: str


@dataclass(frozen=True)
class PairedRow(PairedTest, _ByMetric):
    """A test with what it is of, and `p_clustered` by Holm's method for all `tests` of the run together."""

    p_holm: float
    tests: int


def paired(samples_by_arm: Mapping[str, Sequence[Sample]], seed: int = 0) -> list[PairedRow]:
    """Compare every pair of arms on the same prompts, measure by measure; measures without prompts are left out.

    Raises:
        DataError: If two arms were not asked the same prompts, or a prompt occurs twice.
    """
    found: list[tuple[_ByMetric, PairedTest]] = []
    for a, b, pairs in _same_prompts(samples_by_arm):
        for name in PAIRED:
            is_over, counts = MEASURES[name]
            over = [(one, other) for one, other in pairs if is_over(one)]
            if over:
                hits = [(counts(one), counts(other)) for one, other in over]
                test = compare_hits(hits, [one.cluster for one, _ in over], seed)
                found.append((_ByMetric(a, b, name), test))
    adjusted = holm([test.p_clustered for _, test in found])
    return [
        PairedRow(**vars(what), **vars(test), p_holm=p, tests=len(found))
        for (what, test), p in zip(found, adjusted, strict=True)
    ]


def paired_scores(samples_by_arm: Mapping[str, Sequence[Sample]], seed: int = 0) -> list[PairedScore]:
    """Compare every pair of arms by the scores of their tasks: b minus a, with its paired bootstrap interval.

    Raises:
        DataError: If two arms were not asked the same prompts.
    """
    rows = []
    for a, b, pairs in _same_prompts(samples_by_arm):
        for task in dict.fromkeys(one.task for one, _ in pairs if one.score):
            sides = zip(*(pair for pair in pairs if pair[0].task == task), strict=True)
            rows.append(PairedScore(a, b, **vars(score_difference(*sides, seed=seed))))
    return rows


def _same_prompts(
    samples_by_arm: Mapping[str, Sequence[Sample]],
) -> Iterator[tuple[str, str, list[tuple[Sample, Sample]]]]:
    keyed = {arm: {(sample.task, sample.id): sample for sample in samples} for arm, samples in samples_by_arm.items()}
    for (a, in_a), (b, in_b) in combinations(keyed.items(), 2):
        for arm, found in ((a, in_a), (b, in_b)):
            if len(found) < len(samples_by_arm[arm]):
                raise DataError(
                    f"The arm {arm} has {len(samples_by_arm[arm])} replies to {len(found)} prompts: some ids occur "
                    "twice.\nA paired test must know which reply belongs to which prompt.\n"
                    "Give every document of a task its own id."
                )
        if stray := in_a.keys() ^ in_b.keys():
            raise DataError(
                f"The arms {a} and {b} were not asked the same prompts: {len(stray)} are in one alone, such as "
                f"{min(stray)}.\nA paired test needs both replies to each prompt. "
                "Run them with the same tasks and limit."
            )
        yield a, b, [(in_a[key], in_b[key]) for key in in_a]


def compare_hits(hits: Sequence[tuple[bool, bool]], families: Sequence[str | int], seed: int = 0) -> PairedTest:
    """Compare two arms by which prompts count in each.

    Args:
        hits: Of each prompt, whether it counts in a, and in b; at least one.
        families: Of each prompt; empty, or 0, for one on its own.
        seed: Of the resampling.
    """
    a_only, b_only = hits.count((True, False)), hits.count((False, True))
    of_rates: Any = paired_difference(b_only, a_only, len(hits))
    difference, low, high = of_rates
    units = family_sums([[float(b) - float(a), 1.0] for a, b in hits], families)
    drawn = resampled(units, seed)
    bootstrap_low, bootstrap_high = middle_95(drawn[:, 0] / drawn[:, 1])
    return PairedTest(
        n=len(hits),
        a_only=a_only,
        b_only=b_only,
        p=mcnemar(a_only, b_only),
        difference=difference,
        low=low,
        high=high,
        bootstrap_low=bootstrap_low,
        bootstrap_high=bootstrap_high,
        clusters=len(units),
        p_clustered=sign_flip([int(change) for change, _ in units]),
    )


def mcnemar(a_only: int, b_only: int) -> float:
    """Return the two-sided p of McNemar's exact test; 1 if the arms never differ.

    Given that a prompt tells the arms apart, either way is equally likely if they are equal:
    a binomial test of the discordant pairs (McNemar 1947).
    """
    from statsmodels.stats import contingency_tables

    result: Any = contingency_tables.mcnemar([[0, a_only], [b_only, 0]], exact=True)
    return float(result.pvalue)


def sign_flip(changes: Sequence[int]) -> float:
    """Return the two-sided p of the exact sign-flip test (Fisher 1935): does each family change as often up as down?

    If the arms are equal, the net change of a family of prompts is as likely of either sign. p is
    the probability that random signs give a sum at least as far from zero as the one that is there.
    It is exact: the distribution of the sum is computed, not drawn. With changes of -1, 0 and 1
    alone this is McNemar's exact test. Without any change p is 1.

    Args:
        changes: One net change a family: prompts that count in b alone minus those in a alone.
    """
    import numpy as np
    from scipy.stats import binom

    sizes, counts = np.unique(np.abs([change for change in changes if change]), return_counts=True)
    chances = np.ones(1)  # of the sum of all changes with a positive sign
    for size, count in zip(sizes.astype(int), counts, strict=True):
        spread = np.zeros(size * count + 1)
        spread[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, spread)
    sums = 2 * np.arange(len(chances)) - (len(chances) - 1)
    return min(1.0, float(chances[np.abs(sums) >= abs(sum(changes))].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm's step-down method (1979), in the order given.

    If all below 0.05 are called different, the chance that any of them is not is at most 5 %,
    whether or not the tests depend on each other. Not `multipletests` of statsmodels: it collects garbage at
    every call, 0.3 s in a process with torch and lm-eval in it, and a comparison makes forty.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def paired_difference(a_only: int, b_only: int, n: int) -> tuple[float | None, float | None, float | None]:
    """Return the difference of two paired rates (a minus b) and its 95 % interval, in [-1, 1].

    Tango's score interval (Statistics in Medicine 17:891, 1998; recommended by Fagerland,
    Lydersen and Laake, Statistics in Medicine 33:2850, 2014): all differences that the score test
    does not reject. It needs the discordant pairs and n alone, and has a width when there are none.
    Of nothing (n = 0) all three are None.

    Example:
        >>> [round(value, 3) for value in paired_difference(1, 7, 21)]
        [-0.286, -0.517, -0.026]
    """
    if n == 0:
        return None, None, None
    difference = (a_only - b_only) / n

    def score(delta: float) -> float:
        # The nuisance probability of b_only pairs at its maximum likelihood given delta.
        first = -a_only - b_only + (2 * n - a_only + b_only) * delta
        last = -b_only * delta * (1 - delta)
        nuisance = (sqrt(max(first * first - 8 * n * last, 0.0)) - first) / (4 * n)
        variance = n * (2 * nuisance + delta * (1 - delta))
        distance = a_only - b_only - n * delta
        if variance <= 0:
            return 0.0 if distance == 0 else distance * float("inf")
        return distance / sqrt(variance)

    def bound(far: float, level: float) -> float:
        near = difference
        for _ in range(60):  # bisection: the score falls steadily as delta moves away
            middle = (near + far) / 2
            near, far = (middle, far) if abs(score(middle)) < level else (near, middle)
        return near

    return difference, bound(-1.0, Z), bound(1.0, Z)
