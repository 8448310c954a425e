"""Statements about rows: met, not met, or not measured, each with its interval."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sa_lightning.evaluation.statistics.comparisons import PairedTest
from sa_lightning.evaluation.statistics.pareto import DIRECTIONS
from sa_lightning.experiments.compare.pairs import BySeed, Estimate, against, beaten, over_seeds, rates, relative_drop
from sa_lightning.experiments.compare.plan import Plan
from sa_lightning.experiments.compare.rows import Rows
from sa_lightning.experiments.compare.settings import Criterion

__all__ = ["Judgement", "judged"]

ROUNDING = 1e-9  # two points are two points, whatever binary fractions make of them
Reported = Mapping[tuple[str, str], Mapping[str, Any]]
"""By row and target, what `findings` takes of the measurements for the report."""


@dataclass(frozen=True)
class Found(Estimate):
    """What a statement is about, and whether the statement holds of it."""

    holds: bool


@dataclass(frozen=True)
class FoundAmongDraws(Found):
    """The share of a control's draws that are worse: `beaten` of `of`."""

    beaten: int
    of: int


@dataclass(frozen=True)
class Judgement:
    """What became of a statement.

    Attributes:
        text: The statement.
        signed: Whether it is about a change, rather than a share.
        verdict: met, not met, or not measured.
        why: Where there is nothing to measure.
        value: Over all seeds.
        low: Its bound.
        high: The other.
        by_seed: Seed to what was found there.
        holding: On how many seeds it holds.
        of: On how many there is something to say.
    """

    text: str
    signed: bool
    verdict: str
    why: str
    value: float | None
    low: float | None
    high: float | None
    by_seed: Mapping[int, Found]
    holding: int
    of: int


def judged(criterion: Criterion, plan: Plan, reported: Reported) -> Judgement:
    """Check a statement on the seeds of the report.

    With `seeds_at_least`, it is met if it holds on so many seeds, and not measured while open seeds could change that.
    Without, it is about all seeds: the mean of their relative drops, the change or rate over all their prompts.
    """
    target = criterion.target or plan.targets_of(criterion.row)[0]
    seeds = plan.settings.seeds["report"]
    row = _single(reported, criterion.row, target, criterion.task)
    if criterion.statement == "percentile_of_draws":
        draws = reported.get((criterion.control or "", target), {"draws": {}})["draws"]
        wanted = plan.methods[criterion.control or ""].draws
        # A draw that is still to come could be the one that is lower.
        found: Mapping[int, Found] = {
            seed: _drawn(plan.rows, criterion, row[seed], draws[seed])
            for seed in row
            if len(draws.get(seed, ())) == wanted
        }
        total = _mean(found)
    else:
        other = _single(reported, criterion.against, target, criterion.task)
        found, total = _CHECKS[criterion.statement](plan.rows, criterion, other, row)
    # A method that breaks on a seed has not held there.
    lost = [seed for seed in reported.get((criterion.row, target), {}).get("failed_seeds", ()) if seed not in found]
    open_seeds = len(seeds) - len(found) - len(lost)
    holding = sum(entry.holds for entry in found.values())
    if criterion.seeds_at_least is not None:
        least = criterion.seeds_at_least
        verdict = "met" if holding >= least else "not met" if holding + open_seeds < least else "not measured"
    else:
        verdict = "not measured" if open_seeds or not found else "met" if total.holds else "not met"
    why = ""
    if lost:
        why = f"failed on seed {', '.join(map(str, lost))}"
        verdict = "not met" if criterion.seeds_at_least is None else verdict
    choice = plan.choice(criterion.row, target) if criterion.row in plan.settings.rows else None
    if choice is not None and choice.state == "none":
        verdict, why = "not met", "no setting is within the limits"
    return Judgement(
        text=_text(criterion, target),
        signed=criterion.statement.startswith("change") or criterion.statement == "not_worse",
        verdict=verdict,
        why=why,
        value=total.value,
        low=total.low,
        high=total.high,
        by_seed=found,
        holding=holding,
        of=len(found),
    )


Checked = tuple[dict[int, Found], Found]
"""Seed by seed, and over all seeds."""


def _drop(rows: Rows, criterion: Criterion, other: BySeed, row: BySeed) -> Checked:
    def checked(one: Estimate) -> Found:
        aim = (criterion.relative_drop or 0.0) - ROUNDING
        return Found(one.value, one.low, one.high, one.value is not None and one.value >= aim)

    found = relative_drop(rows, other, row, criterion.metric)
    mean = over_seeds([one.value for one in found.values()])
    return {seed: checked(one) for seed, one in found.items()}, checked(mean)


def _change(rows: Rows, criterion: Criterion, other: BySeed, row: BySeed) -> Checked:
    def checked(test: PairedTest) -> Found:
        low, high = test.interval
        if criterion.not_worse:
            holds = (high >= 0) if DIRECTIONS[criterion.metric] > 0 else (low <= 0)
        elif criterion.change_at_most is not None:
            holds = test.difference <= criterion.change_at_most + ROUNDING
        else:
            has_zero = criterion.or_includes_zero and low <= 0 <= high
            holds = has_zero or low >= (criterion.change_low or 0.0) - ROUNDING
        return Found(test.difference, low, high, holds)

    change = against(rows, other, row, (criterion.metric,)).get(criterion.metric)
    if change is None:
        return {}, Found(None, None, None, False)
    return {seed: checked(one) for seed, one in change.by_seed.items()}, checked(change)


def _level(rows: Rows, criterion: Criterion, other: BySeed, row: BySeed) -> Checked:
    def checked(some: list[Any]) -> Found:
        one = rates(rows, some)[criterion.metric]
        holds = one.rate is not None and one.rate <= (criterion.at_most or 0.0) + ROUNDING
        return Found(one.rate, one.low, one.high, holds)

    return {seed: checked([one]) for seed, one in row.items()}, checked(list(row.values()))


_CHECKS = {
    "relative_drop": _drop,
    "change_at_most": _change,
    "change_low": _change,
    "not_worse": _change,
    "at_most": _level,
}


def _drawn(rows: Rows, criterion: Criterion, row: Any, draws: Any) -> Found:
    place = beaten(rows, row, draws, criterion.metric)
    share = place.beaten / place.of if place.of else None
    holds = share is not None and share >= (criterion.percentile_of_draws or 0.0) - ROUNDING
    return FoundAmongDraws(share, None, None, holds, place.beaten, place.of)


def _mean(found: Mapping[int, Found]) -> Found:
    mean = over_seeds([one.value for one in found.values()])
    return Found(mean.value, mean.low, mean.high, all(one.holds for one in found.values()))


def _single(reported: Reported, name: str, target: str, task: str | None) -> dict[int, Any]:
    """The measurements of a row, by seed; of one task alone, if it is named."""
    found = reported.get((name, target), {"single": {}})["single"]
    if task is None:
        return found
    narrowed = {seed: [e for e in row["documents"] if e["task"] == task] for seed, row in found.items()}
    return {seed: {**found[seed], "documents": entries} for seed, entries in narrowed.items() if entries}


def _text(criterion: Criterion, target: str) -> str:
    metric, row = criterion.metric.replace("_", " "), f"{criterion.row} on {target}"
    metric += f" on {criterion.task}" if criterion.task else ""
    made = {
        "relative_drop": lambda v: f"lowers {metric} by at least {100 * v:g} % of {criterion.against}'s",
        "percentile_of_draws": lambda v: f"has lower {metric} than at least {100 * v:g} % of {criterion.control}",
        "change_at_most": lambda v: f"raises {metric} over {criterion.against} by at most {100 * v:g} points",
        "change_low": lambda v: (
            f"changes {metric} from {criterion.against} with an interval above {100 * v:g} points"
            + (", or one that includes 0" if criterion.or_includes_zero else "")
        ),
        "not_worse": lambda v: f"is not shown to do worse than {criterion.against} in {metric}",
        "at_most": lambda v: f"has {metric} of at most {100 * v:g} %",
    }[criterion.statement](getattr(criterion, criterion.statement))
    where = f", on at least {criterion.seeds_at_least} seeds" if criterion.seeds_at_least else ", over all seeds"
    return f"{row} {made}{where}"
