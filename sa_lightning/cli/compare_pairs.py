"""Rows against rows, on the same prompts of the same seeds: changes, intervals, tests, draws of a control."""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

from sa_lightning.cli.compare_rows import samples_of
from sa_lightning.errors import DataError
from sa_lightning.evaluation.comparisons import paired
from sa_lightning.evaluation.intervals import clustered, family_sums, middle_95, rate, resampled
from sa_lightning.evaluation.pareto import DIRECTIONS
from sa_lightning.evaluation.rates import MEASURES
from sa_lightning.evaluation.samples import Sample

__all__ = ["against", "beaten", "over_seeds", "rates", "relative_drop"]

BySeed = Mapping[int, Mapping[str, Any]]  # seed to a measurement


def rates(rows: Sequence[Mapping[str, Any]], tasks: Sequence[str] | None = None) -> dict[str, Any]:
    """Return every rate over the prompts of several measurements together; intervals know of families of prompts."""
    samples = [sample for row in rows for sample in samples_of(row, tasks)]
    found = {}
    for name, (is_over, hits) in MEASURES.items():
        over = [sample for sample in samples if is_over(sample)]
        counted = [hits(sample) for sample in over]
        found[name] = rate(sum(counted), len(counted))
        if any(sample.cluster for sample in over):
            known = clustered(counted, [sample.cluster for sample in over])
            found[name] |= {"low": known["low"], "high": known["high"]}
    return found


def against(a: BySeed, b: BySeed) -> dict[str, dict[str, Any]]:
    """Compare row b with row a: what `comparisons.paired` says of every measure, over all seeds that both have.

    Each measure has besides `by_seed`, the same for each seed alone, and `seeds_low` and `seeds_high`, the 95 %
    interval of the mean of the seeds' differences by Student's t: it speaks of further seeds, not of further prompts.

    Raises:
        DataError: If the two were not asked the same prompts.
    """
    pairs = {seed: _pair(a[seed], b[seed]) for seed in a if seed in b}
    pairs = {seed: sides for seed, sides in pairs.items() if sides[0]}
    if not pairs:
        return {}
    apart = {seed: _paired(*sides) for seed, sides in pairs.items()}
    found = _paired(*([sample for side in pairs.values() for sample in side[which]] for which in (0, 1)))
    for name, entry in found.items():
        by_seed = {seed: entries[name] for seed, entries in apart.items() if name in entries}
        _, low, high = over_seeds([one["difference"] for one in by_seed.values()])
        entry |= {"by_seed": by_seed, "seeds_low": low, "seeds_high": high}
    return found


def relative_drop(a: BySeed, b: BySeed, metric: str = "attack_success") -> dict[int, dict[str, Any]]:
    """Return, seed by seed, by which share of a's rate b's is lower, with its paired bootstrap interval.

    0.5 is half as many; negative is more. Where a has none, there is nothing to lower: `value` and bounds are None.
    """
    found = {}
    for seed in a:
        if seed not in b:
            continue
        one, other = _pair(a[seed], b[seed])
        is_over, hits = MEASURES[metric]
        rows = [[float(hits(x)), float(hits(y))] for x, y in zip(one, other, strict=True) if is_over(x)]
        before, after = (sum(column) for column in zip(*rows, strict=True)) if rows else (0.0, 0.0)
        low = high = None
        if before:
            drawn = resampled(family_sums(rows, [sample.cluster for sample in one if is_over(sample)]), seed)
            drawn = drawn[drawn[:, 0] > 0]
            low, high = middle_95(1 - drawn[:, 1] / drawn[:, 0])
        found[seed] = {"value": 1 - after / before if before else None, "low": low, "high": high}
    return found


def over_seeds(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Return the mean and its 95 % interval by Student's t; of one value no interval, of none nothing.

    Example:
        >>> [round(value, 3) for value in over_seeds([0.4, 0.5, 0.6])]
        [0.5, 0.252, 0.748]
    """
    if not values:
        return None, None, None
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, None, None
    from scipy.stats import t

    spread = sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
    width = float(t.ppf(0.975, len(values) - 1)) * spread
    return mean, mean - width, mean + width


def beaten(
    row: Mapping[str, Any], draws: Sequence[Mapping[str, Any]], metric: str = "attack_success"
) -> dict[str, Any]:
    """Say how a row stands among the draws of its control, on the prompts that both were asked.

    Returns:
        rate, `draws` (their rates, sorted), `beaten` (draws that are worse; equal ones are not beaten), `of`, and `p`,
        one-sided: the chance of so good a place among as many draws if the row were one of them.
    """
    sign, (is_over, hits) = DIRECTIONS[metric], MEASURES[metric]
    own, rated = None, []
    for draw in draws:
        sides = _pair(row, draw)
        values = [sum(map(hits, over)) / len(over) for side in sides if (over := [s for s in side if is_over(s)])]
        if values:
            own = values[0]
            rated.append(values[1])
    worse = sum(sign * value < sign * own for value in rated) if own is not None else 0
    return {
        "rate": own,
        "draws": sorted(rated),
        "beaten": worse,
        "of": len(rated),
        "p": (1 + len(rated) - worse) / (1 + len(rated)) if rated else None,
    }


def _paired(a: list[Sample], b: list[Sample]) -> dict[str, dict[str, Any]]:
    return {entry["metric"]: entry for entry in paired({"a": a, "b": b})}


def _pair(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[list[Sample], list[Sample]]:
    """The documents that two measurements share."""
    prompts = [{(entry["task"], entry["kind"]): entry["prompts"] for entry in row["documents"]} for row in (a, b)]
    both = prompts[0].keys() & prompts[1].keys()
    for task, kind in both:
        if prompts[0][task, kind] != prompts[1][task, kind]:
            raise DataError(
                f"{a['row']} and {b['row']} were asked other prompts of {task} (seed {a['seed']}): "
                f"{prompts[0][task, kind]} and {prompts[1][task, kind]}.\n"
                "A paired test needs both replies to each prompt.\nDelete the rows of the old prompts, and run again."
            )
    tasks = {task for task, _ in both}
    return samples_of(a, tasks), samples_of(b, tasks)
