"""From scores to probabilities, and how far these are from what is seen: Platt's fit, calibration error."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

FOLDS = 5


def logistic_fit(scores: "np.ndarray", labels: "np.ndarray") -> tuple[float, float]:
    """Return slope and intercept of the logistic curve through labels over scores (Platt 1999).

    Platt's targets, (n₊ + 1)/(n₊ + 2) and 1/(n₋ + 2) in place of 1 and 0, keep the slope finite where the scores
    separate the labels. Every prompt has the same weight, so that the classes count as often as there are prompts of
    them. Scores that are all the same have slope 0.

    Args:
        scores: One a prompt, finite.
        labels: Whether it is of the class whose probability is asked for.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    n, k = len(labels), int(labels.sum())
    targets = np.where(labels, (k + 1) / (k + 2), 1 / (n - k + 2))
    middle, spread = float(scores.mean()), float(scores.std())
    x = (scores - middle) / spread if spread > 0 else np.zeros(n)
    # A target between 0 and 1 is both labels, weighted. `CalibratedClassifierCV` fits classifiers, not scores.
    model: Any = LogisticRegression(C=np.inf, tol=1e-8)
    model.fit(np.tile(x, 2)[:, None], np.repeat([True, False], n), np.concatenate([targets, 1 - targets]))
    slope = float(model.coef_[0, 0]) / spread if spread > 0 else 0.0
    return slope, float(model.intercept_[0]) - slope * middle


def probability(z: "np.ndarray") -> "np.ndarray":
    """Return 1 / (1 + exp(−z)), which does not overflow."""
    import numpy as np

    return np.exp(-np.logaddexp(0, -z))


def cross_fitted(scores: "np.ndarray", labels: "np.ndarray", folds: int = FOLDS) -> "np.ndarray":
    """Return the probability of each prompt, from a curve that was fitted on the prompts of the other folds.

    Within each class, prompt i is in fold i mod `folds`; fewer prompts of a class than folds are left out one by one.

    Raises:
        ValueError: If a class has fewer than two prompts.
    """
    import numpy as np

    sides = [np.flatnonzero(labels == side) for side in (True, False)]
    folds = min(folds, *map(len, sides))
    if folds < 2:
        raise ValueError(
            f"A curve is fitted on some prompts of a class and read at others: {[*map(len, sides)]} of each."
        )
    fold, found = np.empty(len(scores), dtype=int), np.empty(len(scores))
    for side in sides:
        fold[side] = np.arange(len(side)) % folds
    for number in range(folds):
        out = fold == number
        slope, intercept = logistic_fit(scores[~out], labels[~out])
        found[out] = probability(slope * scores[out] + intercept)
    return found


def equal_mass(values: Sequence[float], bins: int = 10) -> "list[np.ndarray]":
    """Cut values, by size, into bins of as many each as can be; return the indices of those that are not empty.

    Equal values stay together, in the bin of their middle rank, so that the order in which they come changes nothing.

    Example:
        >>> [indices.tolist() for indices in equal_mass([0.9, 0.1, 0.1, 0.8], 2)]
        [[1, 2], [0, 3]]
    """
    import numpy as np
    from scipy.stats import rankdata

    if not len(values):
        return []
    places = ((rankdata(values) - 0.5) * bins / len(values)).astype(int)
    return [np.flatnonzero(places == place) for place in np.unique(places)]


def expected_calibration_error(probabilities: Sequence[float], labels: Sequence[bool], bins: int = 10) -> float:
    """Return the mean distance of what is predicted from what is seen: Σ n_b / n · |share seen − mean probability|.

    Over bins of equal mass (`equal_mass`; Nguyen and O'Connor, EMNLP 2015), each of n_b prompts. With few prompts a bin
    is far from its share by chance alone, so the error of a perfect curve is not 0. Ours, for `calibration_curve` of
    scikit-learn does not say how many prompts a bin has.

    Args:
        probabilities: One a prompt.
        labels: What was seen.
        bins: Most bins.

    Raises:
        ValueError: If there are no prompts, or a probability lies outside [0, 1].

    Example:
        >>> round(expected_calibration_error([0.1, 0.3, 0.6, 0.8], [False, True, True, True], bins=2), 6)
        0.3
    """
    import numpy as np

    p, seen = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if not len(p) or len(p) != len(seen) or not bool(((p >= 0) & (p <= 1)).all()):
        raise ValueError(
            f"{len(p)} probabilities, to lie in [0, 1], and {len(seen)} labels: there must be some, as many."
        )
    return float(sum(abs(seen[found].sum() - p[found].sum()) for found in equal_mass(probabilities, bins)) / len(p))
