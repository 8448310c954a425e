"""Statements about rows: met, not met, or not measured, each with its interval."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NotRequired

from sa_lightning.evaluation.statistics.comparisons import PairedTest
from sa_lightning.evaluation.statistics.pareto import DIRECTIONS
from sa_lightning.experiments.compare.pairs import Bounds, BySeed, against, beaten, over_seeds, rates, relative_drop
from sa_lightning.experiments.compare.plan import Plan
from sa_lightning.experiments.compare.rows import Row, Rows
from sa_lightning.experiments.compare.settings import Criterion
from sa_lightning.experiments.settings import Settings

__all__ = ["Reported", "Statement", "judged"]

ROUNDING = 1e-9  # two points are two points, whatever binary fractions make of them


@dataclass
class Reported:
    """The measurements of a row for the report.

    Attributes:
        single: By seed; none of a row with draws.
        draws: By seed; of a row without draws, the single one.
        curve: The points of its curve: settings, and measurements by seed.
        failed: Why some failed.
        failed_seeds: Seeds on which it failed, its curve aside.
    """

    single: dict[int, Row] = field(default_factory=dict)
    draws: dict[int, list[Row]] = field(default_factory=dict)
    curve: list[tuple[Settings, dict[int, Row]]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    failed_seeds: list[int] = field(default_factory=list)


class Held(Bounds):
    """What was found, and whether the statement holds there; of draws, also how many are beaten."""

    holds: bool
    beaten: NotRequired[int]
    of: NotRequired[int]


class Statement(Bounds):
    """A statement that was checked: see `judged`."""

    text: str
    signed: bool
    verdict: Literal["met", "not met", "not measured"]
    why: str
    by_seed: dict[int, Held]
    holding: int
    of: int


Checked = tuple[dict[int, Held], Held]  # by seed, and over all
_NOTHING: Held = {"value": None, "low": None, "high": None, "holds": False}


def judged(criterion: Criterion, plan: Plan, reported: Mapping[tuple[str, str], Reported]) -> Statement:
    """Check a statement on the seeds of the report.

    With `seeds_at_least`, it is met if it holds on so many seeds, and not measured while open seeds could change that.
    Without, it is about all seeds: the mean of their relative drops, the change or rate over all their prompts.

    Returns:
        `text`, `verdict` (met, not met, not measured), `why` where there is nothing to measure, `value`, `low`, `high`
        over all seeds, and `by_seed`: value, low, high and `holds`.
    """
    target = criterion.target or plan.targets_of(criterion.row)[0]
    seeds = plan.settings.seeds["report"]
    row = _single(reported, criterion.row, target, criterion.task)
    if criterion.statement == "percentile_of_draws":
        draws = reported.get((criterion.control or "", target), Reported()).draws
        wanted = plan.methods[criterion.control or ""].draws
        # A draw that is still to come could be the one that is lower.
        found = {
            seed: _drawn(plan.rows, criterion, row[seed], draws[seed])
            for seed in row
            if len(draws.get(seed, ())) == wanted
        }
        total = _mean(found)
    else:
        other = _single(reported, criterion.against, target, criterion.task)
        found, total = _CHECKS[criterion.statement](plan.rows, criterion, other, row)
    # A method that breaks on a seed has not held there.
    lost = [seed for seed in reported.get((criterion.row, target), Reported()).failed_seeds if seed not in found]
    open_seeds = len(seeds) - len(found) - len(lost)
    holding = sum(entry["holds"] for entry in found.values())
    if criterion.seeds_at_least is not None:
        least = criterion.seeds_at_least
        verdict = "met" if holding >= least else "not met" if holding + open_seeds < least else "not measured"
    else:
        verdict = "not measured" if open_seeds or not found else "met" if total["holds"] else "not met"
    why = ""
    if lost:
        why = f"failed on seed {', '.join(map(str, lost))}"
        verdict = "not met" if criterion.seeds_at_least is None else verdict
    choice = plan.choice(criterion.row, target) if criterion.row in plan.settings.rows else None
    if choice is not None and choice.state == "none":
        verdict, why = "not met", "no setting is within the limits"
    return {
        "text": _text(criterion, target),
        "signed": criterion.statement.startswith("change") or criterion.statement == "not_worse",
        "verdict": verdict,
        "why": why,
        "value": total["value"],
        "low": total["low"],
        "high": total["high"],
        "by_seed": found,
        "holding": holding,
        "of": len(found),
    }


def _drop(rows: Rows, criterion: Criterion, other: BySeed, row: BySeed) -> Checked:
    def held(bounds: Bounds) -> Held:
        value = bounds["value"]
        return {**bounds, "holds": value is not None and value >= (criterion.relative_drop or 0.0) - ROUNDING}

    found = relative_drop(rows, other, row, criterion.metric)
    mean, low, high = over_seeds([entry["value"] for entry in found.values() if entry["value"] is not None])
    by_seed = {seed: held(entry) for seed, entry in found.items()}
    return by_seed, held({"value": mean, "low": low, "high": high})


def _change(rows: Rows, criterion: Criterion, other: BySeed, row: BySeed) -> Checked:
    def held(test: PairedTest) -> Held:
        low, high = test.interval
        if criterion.not_worse:
            holds = high >= 0 if DIRECTIONS[criterion.metric] > 0 else low <= 0
        elif criterion.change_at_most is not None:
            holds = test.difference <= criterion.change_at_most + ROUNDING
        else:
            has_zero = criterion.or_includes_zero and low <= 0 <= high
            holds = has_zero or low >= (criterion.change_low or 0.0) - ROUNDING
        return {"value": test.difference, "low": low, "high": high, "holds": holds}

    change = against(rows, other, row, (criterion.metric,)).get(criterion.metric)
    if change is None:
        return {}, _NOTHING
    return {seed: held(test) for seed, test in change.by_seed.items()}, held(change)


def _level(rows: Rows, criterion: Criterion, other: BySeed, row: BySeed) -> Checked:
    def held(some: list[Row]) -> Held:
        found = rates(rows, some)[criterion.metric]
        holds = found.rate is not None and found.rate <= (criterion.at_most or 0.0) + ROUNDING
        return {"value": found.rate, "low": found.low, "high": found.high, "holds": holds}

    return {seed: held([found]) for seed, found in row.items()}, held(list(row.values()))


_CHECKS = {
    "relative_drop": _drop,
    "change_at_most": _change,
    "change_low": _change,
    "not_worse": _change,
    "at_most": _level,
}


def _drawn(rows: Rows, criterion: Criterion, row: Row, draws: list[Row]) -> Held:
    found = beaten(rows, row, draws, criterion.metric)
    share = found["beaten"] / found["of"] if found["of"] else None
    holds = share is not None and share >= (criterion.percentile_of_draws or 0.0) - ROUNDING
    return {"value": share, "low": None, "high": None, "holds": holds, "beaten": found["beaten"], "of": found["of"]}


def _mean(found: Mapping[int, Held]) -> Held:
    value, low, high = over_seeds([entry["value"] for entry in found.values() if entry["value"] is not None])
    return {"value": value, "low": low, "high": high, "holds": all(entry["holds"] for entry in found.values())}


def _single(reported: Mapping[tuple[str, str], Reported], name: str, target: str, task: str | None) -> dict[int, Row]:
    """The measurements of a row, by seed; of one task alone, if it is named."""
    found = reported.get((name, target), Reported()).single
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
