"""Many settings compared: which are on the Pareto front, which of them to take."""

from collections.abc import Mapping, Sequence
from typing import Any

from sa_lightning.evaluation.statistics.rates import Rate

__all__ = ["DIRECTIONS", "choose", "costs_little", "front"]

#: Whether more of a rate is better (1) or worse (-1).
DIRECTIONS: dict[str, int] = {
    "attack_success": -1,
    "refusal_harmful": 1,
    "harmless_refusal": -1,
    "over_refusal": -1,
    "degenerate": -1,
    "utility": 1,
}


def front(points: Sequence[Sequence[float]], directions: Sequence[int]) -> list[int]:
    """Indices of the points that no other point beats: none is as good in all respects and better in one.

    Equal points are on the front together.

    Example:
        >>> front([(0.1, 0.9), (0.3, 0.95), (0.3, 0.9)], (-1, 1))
        [0, 1]
    """
    signed = [tuple(d * v for d, v in zip(directions, point, strict=True)) for point in points]

    def beaten(one: tuple[float, ...]) -> bool:
        return any(other != one and all(b >= a for a, b in zip(one, other, strict=True)) for other in signed)

    return [index for index, point in enumerate(signed) if not beaten(point)]


def costs_little(metrics: Mapping[str, Rate], before: Mapping[str, Rate], limits: Mapping[str, float]) -> bool:
    """Whether no rate got worse than before by more than its limit; a rate without prompts is not judged."""
    for name, limit in limits.items():
        now, then = metrics[name].rate, before[name].rate
        # Two points are two points, whatever binary fractions make of them.
        if now is not None and then is not None and DIRECTIONS[name] * (then - now) > limit + 1e-9:
            return False
    return True


def choose(
    trials: Sequence[Mapping[str, Any]], objective: str, before: Mapping[str, Rate], limits: Mapping[str, float]
) -> int | None:
    """Index of the trial that is best by one objective among those that cost little; the first of equals.

    Args:
        trials: Each with `metrics`, or None there if it failed.
        objective: A rate of `DIRECTIONS`.
        before: The rates without any change.
        limits: How much worse each rate may get.
    """
    allowed = [
        (-DIRECTIONS[objective] * trial["metrics"][objective].rate, index)
        for index, trial in enumerate(trials)
        if trial["metrics"] is not None
        and trial["metrics"][objective].rate is not None
        and costs_little(trial["metrics"], before, limits)
    ]
    return min(allowed)[1] if allowed else None
