"""Rows against rows, on the same prompts of the same seeds: changes, intervals, tests, draws of a control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt

from sa_lightning.errors import DataError
from sa_lightning.evaluation.statistics.comparisons import PAIRED, PairedTest, compare_hits
from sa_lightning.evaluation.statistics.intervals import Rate, clustered, family_sums, middle_95, rate, resampled
from sa_lightning.evaluation.statistics.pareto import DIRECTIONS
from sa_lightning.evaluation.statistics.rates import MEASURES
from sa_lightning.experiments.compare.rows import Row, Rows

__all__ = ["against", "beaten", "over_seeds", "rates", "relative_drop"]

BySeed = Mapping[int, Row]  # seed to a measurement
Entry = tuple[str, str]  # a task, and the kind of its documents


@dataclass(frozen=True)
class Change(PairedTest):
    """Row b against row a over all seeds.

    Attributes:
        by_seed: The same for each seed alone.
        seeds_low: Bound of the 95 % interval of the mean of the seeds' differences by Student's t, which speaks of
            further seeds, not of further prompts; None with one seed.
        seeds_high: The other.
    """

    by_seed: dict[int, PairedTest]
    seeds_low: float | None
    seeds_high: float | None


@dataclass(frozen=True)
class CorrectedChange(Change):
    """With `p_clustered` by Holm's method over `tests` rows."""

    p_holm: float
    tests: int


@dataclass(frozen=True)
class CandidateChange(Change):
    """With `p_clustered` times the number of candidates, at most 1."""

    p_candidates: float


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; None where there is none."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Place:
    """How a row stands among the draws of its control, on the prompts that both were asked.

    Attributes:
        rate: The row's own; None without draws.
        draws: Their rates, sorted.
        beaten: Draws that are worse; equal ones are not beaten.
        of: How many draws.
        p: One-sided: the chance of so good a place among as many draws if the row were one of them; None without.
    """

    rate: float | None
    draws: list[float]
    beaten: int
    of: int
    p: float | None


def rates(rows: Rows, some: Sequence[Row], task: str | None = None, *, draws: bool = False) -> dict[str, Rate]:
    """Return every rate over the prompts of several measurements together; intervals know of families of prompts.

    Args:
        rows: Where the measurements are.
        some: Of different seeds, or of different draws.
        task: Of this task alone.
        draws: Whether several are of the same prompts, so that no interval over prompts can be given.
    """
    found = {}
    for name in MEASURES:
        hits: list[int] = []
        families: list[int] = []
        for row in some:
            entries = [entry for entry in _asked(row) if task in (None, entry[0])]
            over, known = rows.hits(row, name, entries)
            hits += over
            families += known
        found[name] = rate(sum(hits), len(hits))
        if draws:
            found[name] = replace(found[name], low=None, high=None)
        elif any(families):
            bounds = clustered([bool(hit) for hit in hits], families)
            found[name] = replace(found[name], low=bounds.low, high=bounds.high)
    return found


def against(rows: Rows, a: BySeed, b: BySeed, metrics: Sequence[str] = PAIRED) -> dict[str, Change]:
    """Compare row b with row a, measure by measure, on all prompts that both were asked (`comparisons.compare_hits`).

    Raises:
        DataError: If the two were not asked the same prompts of a task.
    """
    found = {}
    for metric in metrics:
        sides = {seed: _sides(rows, a[seed], b[seed], metric) for seed in a if seed in b}
        sides = {seed: side for seed, side in sides.items() if side[0]}
        if not sides:
            continue
        by_seed = {seed: compare_hits(hits, families, seed) for seed, (hits, families) in sides.items()}
        every = [pair for hits, _ in sides.values() for pair in hits]
        total = compare_hits(every, [family for _, families in sides.values() for family in families])
        mean = over_seeds([one.difference for one in by_seed.values()])
        found[metric] = Change(**vars(total), by_seed=by_seed, seeds_low=mean.low, seeds_high=mean.high)
    return found


def relative_drop(rows: Rows, a: BySeed, b: BySeed, metric: str = "attack_success") -> dict[int, Estimate]:
    """Return, seed by seed, by which share of a's rate b's is lower, with its paired bootstrap interval.

    0.5 is half as many; negative is more. Where a has none, there is nothing to lower: all three are None.
    """
    found = {}
    for seed in a:
        if seed not in b:
            continue
        hits, families = _sides(rows, a[seed], b[seed], metric)
        before, after = (sum(side) for side in zip(*hits, strict=True)) if hits else (0, 0)
        low = high = None
        if before:
            drawn = resampled(family_sums([[float(x), float(y)] for x, y in hits], families), seed)
            drawn = drawn[drawn[:, 0] > 0]
            low, high = middle_95(1 - drawn[:, 1] / drawn[:, 0])
        found[seed] = Estimate(1 - after / before if before else None, low, high)
    return found


def over_seeds(values: Sequence[float | None]) -> Estimate:
    """Return the mean and its 95 % interval by Student's t; of one value no interval, of none nothing.

    None is left out.

    Example:
        >>> found = over_seeds([0.4, 0.5, 0.6])
        >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
        (0.5, 0.252, 0.748)
    """
    known = [value for value in values if value is not None]
    if not known:
        return Estimate(None, None, None)
    mean = sum(known) / len(known)
    if len(known) == 1:
        return Estimate(mean, None, None)
    from scipy.stats import t

    spread = sqrt(sum((value - mean) ** 2 for value in known) / (len(known) - 1) / len(known))
    width = float(t.ppf(0.975, len(known) - 1)) * spread
    return Estimate(mean, mean - width, mean + width)


def beaten(rows: Rows, row: Row, draws: Sequence[Row], metric: str = "attack_success") -> Place:
    """Say how a row stands among the draws of its control, on the prompts that both were asked."""
    sides = [hits for draw in draws if (hits := _sides(rows, row, draw, metric)[0])]
    sums = [(sum(own for own, _ in hits), sum(other for _, other in hits), len(hits)) for hits in sides]
    worse = sum(DIRECTIONS[metric] * (own - other) > 0 for own, other, _ in sums)
    return Place(
        rate=sums[0][0] / sums[0][2] if sums else None,
        draws=sorted(other / n for _, other, n in sums),
        beaten=worse,
        of=len(sums),
        p=(1 + len(sums) - worse) / (1 + len(sums)) if sums else None,
    )


def _sides(rows: Rows, a: Row, b: Row, metric: str) -> tuple[list[tuple[bool, bool]], list[int]]:
    """Whether each prompt that two measurements share counts in the one and in the other; and its family."""
    one, other = _asked(a), _asked(b)
    both = [entry for entry in one if entry in other]
    for task, kind in both:
        if one[task, kind] != other[task, kind]:
            raise DataError(
                f"{a['row']} and {b['row']} were asked other prompts of {task} (seed {a['seed']}): "
                f"{one[task, kind]} and {other[task, kind]}.\nA paired test needs both replies to each prompt.\n"
                "Delete the rows of the old prompts, and run again."
            )
    (first, families), (second, _) = (rows.hits(row, metric, both) for row in (a, b))
    return [(bool(x), bool(y)) for x, y in zip(first, second, strict=True)], families


def _asked(row: Row) -> dict[Entry, str]:
    return {(entry["task"], entry["kind"]): entry["prompts"] for entry in row["documents"]}
