"""Slow, obvious versions of our statistics, and the robust regression of statsmodels."""

from fractions import Fraction
from itertools import combinations, product
from math import comb
from random import Random
from statistics import NormalDist

import numpy as np
import statsmodels.api as sm
from scipy.stats import t

Z = NormalDist().inv_cdf(0.975)


def wilson(k, n):
    """The two shares p at which k of n is Z standard errors of p away: (k/n − p)² = Z² p (1 − p) / n, solved."""
    share = k / n
    return sorted(np.roots([1 + Z**2 / n, -2 * share - Z**2 / n, share**2]).real)


def mcnemar(a_only, b_only):
    """Of all ways in which so many fair coins fall, the share that is at least as uneven, by whole numbers."""
    n, gap = a_only + b_only, abs(a_only - b_only)
    return float(Fraction(sum(comb(n, heads) for heads in range(n + 1) if abs(2 * heads - n) >= gap), 2**n))


def holm(p_values):
    """The closed test (Marcus, Peritz and Gabriel 1976): Bonferroni's worst p over all sets with this hypothesis."""
    numbers = range(len(p_values))
    sets = [some for size in numbers for some in combinations(numbers, size + 1)]
    bonferroni = {some: min(1.0, len(some) * min(p_values[i] for i in some)) for some in sets}
    return [max(bonferroni[some] for some in sets if i in some) for i in numbers]


def kappa(table):
    """Cohen's κ of a table of counts, and its standard error by the delta method with numerical slopes."""
    n = table.sum()

    def of(cells):
        by_chance = (cells.sum(0) * cells.sum(1)).sum() / cells.sum() ** 2
        return (np.trace(cells) / cells.sum() - by_chance) / (1 - by_chance)

    cells, step = table / n, 1e-6
    nudges = [step * nudge.reshape(table.shape) for nudge in np.eye(table.size)]
    slopes = [(of(cells + nudge) - of(cells - nudge)) / (2 * step) for nudge in nudges]
    p = cells.ravel()
    return of(cells), np.sqrt((p @ np.square(slopes) - (p @ slopes) ** 2) / n)


def clustered_interval(hits, families):
    """Wilson at n / design effect, the variance between families from statsmodels' cluster-robust regression."""
    n, groups = len(hits), np.unique(families, return_inverse=True)[1]
    count = groups.max() + 1
    fitted = sm.OLS(np.array(hits, float), np.ones(n)).fit(cov_type="cluster", cov_kwds={"groups": groups})
    share = np.mean(hits)
    effect = max(1.0, fitted.cov_params().item() / (share * (1 - share) / (n - 1)))
    effective = n / effect * (t.ppf(0.975, n - 1) / t.ppf(0.975, count - 1)) ** 2
    return wilson(share * effective, effective)


def sign_flip(changes):
    """All signs, one after another."""
    observed = abs(sum(changes))
    sums = [
        abs(sum(s * c for s, c in zip(signs, changes, strict=True))) for signs in product((-1, 1), repeat=len(changes))
    ]
    return sum(total >= observed for total in sums) / len(sums)


def bootstrap(units, statistic, resamples=4000, seed=0):
    """Draw units one by one, and compute the statistic of the drawn list."""
    draw = Random(seed)
    values = [statistic([draw.choice(units) for _ in units]) for _ in range(resamples)]
    return tuple(np.percentile(values, [2.5, 97.5]))
