"""Slow, obvious versions of our statistics, and those of statsmodels."""

from itertools import product
from random import Random

import numpy as np
import statsmodels.api as sm
from scipy.stats import t
from statsmodels.stats.proportion import proportion_confint


def clustered_interval(hits, families):
    """Wilson at n / design effect, the variance between families from statsmodels' cluster-robust regression."""
    n, groups = len(hits), np.unique(families, return_inverse=True)[1]
    count = groups.max() + 1
    fitted = sm.OLS(np.array(hits, float), np.ones(n)).fit(cov_type="cluster", cov_kwds={"groups": groups})
    share = np.mean(hits)
    effect = max(1.0, fitted.cov_params().item() / (share * (1 - share) / (n - 1)))
    effective = n / effect * (t.ppf(0.975, n - 1) / t.ppf(0.975, count - 1)) ** 2
    return proportion_confint(share * effective, effective, method="wilson")


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
