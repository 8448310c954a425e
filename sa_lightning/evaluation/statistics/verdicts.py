"""Verdicts: what several judges said of the same replies."""

from collections.abc import Iterable
from itertools import combinations
from typing import Any

from sa_lightning.evaluation.samples import Outcome, Sample
from sa_lightning.evaluation.statistics.agreement import confusion, refusal_kappa


def agreements(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """Compare every two judges of the same replies.

    Args:
        samples: Of any number of arms; those with fewer than two verdicts say nothing.

    Returns:
        One row a pair of judges, in the order in which they come up: `a`, `b`; Cohen's `kappa` of
        whether a reply declines, with `low` and `high`, over the `n` replies that both decide (None where
        it is not defined), and their `agreement` as a rate; and of all replies, the counts of outcomes
        by a (rows) and b (columns), as `confusion`, in the order of `labels`.
    """
    said: dict[tuple[str, str], list[tuple[Outcome, Outcome]]] = {}
    for sample in samples:
        for (a, by_a), (b, by_b) in combinations(sample.verdicts.items(), 2):
            said.setdefault((a, b), []).append((by_a.outcome, by_b.outcome))
    rows = []
    for (a, b), pairs in said.items():
        first, second = [one for one, _ in pairs], [other for _, other in pairs]
        counts = confusion(first, second)
        table = [[counts.get((one, other), 0) for other in Outcome] for one in Outcome]
        labels = [outcome.value for outcome in Outcome]
        rows.append({"a": a, "b": b, **refusal_kappa(first, second), "labels": labels, "confusion": table})
    return rows
