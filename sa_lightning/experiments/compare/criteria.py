"""Statements about rows: met, not met, or not measured, each with its interval."""

from collections.abc import Mapping
from typing import Any

from sa_lightning.evaluation.statistics.comparisons import PairedTest
from sa_lightning.evaluation.statistics.pareto import DIRECTIONS
from sa_lightning.experiments.compare.pairs import against, beaten, over_seeds, rates, relative_drop
from sa_lightning.experiments.compare.plan import Plan
from sa_lightning.experiments.compare.rows import Rows
from sa_lightning.experiments.compare.settings import Criterion

__all__ = ["judged"]

ROUNDING = 1e-9  # two points are two points, whatever binary fractions make of them


def judged(criterion: Criterion, plan: Plan, reported: Mapping[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
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
        draws = reported.get((criterion.control or "", target), {"draws": {}})["draws"]
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
    lost = [seed for seed in reported.get((criterion.row, target), {}).get("failed_seeds", ()) if seed not in found]
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
        **{key: total.get(key) for key in ("value", "low", "high")},
        "by_seed": found,
        "holding": holding,
        "of": len(found),
    }


def _drop(rows: Rows, criterion: Criterion, other: Any, row: Any) -> tuple[dict[int, Any], dict[str, Any]]:
    aim = criterion.relative_drop or 0.0
    found = relative_drop(rows, other, row, criterion.metric)
    by_seed = {s: {**e, "holds": e["value"] is not None and e["value"] >= aim - ROUNDING} for s, e in found.items()}
    mean, low, high = over_seeds([entry["value"] for entry in found.values() if entry["value"] is not None])
    return by_seed, {"value": mean, "low": low, "high": high, "holds": mean is not None and mean >= aim - ROUNDING}


def _change(rows: Rows, criterion: Criterion, other: Any, row: Any) -> tuple[dict[int, Any], dict[str, Any]]:
    change = against(rows, other, row, (criterion.metric,)).get(criterion.metric)
    if change is None:
        return {}, {"holds": False}
    entries = {seed: _bounds(entry) for seed, entry in change.by_seed.items()}
    total = _bounds(change)
    for entry in (*entries.values(), total):
        if criterion.not_worse:
            entry["holds"] = (entry["high"] >= 0) if DIRECTIONS[criterion.metric] > 0 else (entry["low"] <= 0)
        elif criterion.change_at_most is not None:
            entry["holds"] = entry["value"] <= criterion.change_at_most + ROUNDING
        else:
            has_zero = criterion.or_includes_zero and entry["low"] <= 0 <= entry["high"]
            entry["holds"] = has_zero or entry["low"] >= (criterion.change_low or 0.0) - ROUNDING
    return entries, total


def _level(rows: Rows, criterion: Criterion, other: Any, row: Any) -> tuple[dict[int, Any], dict[str, Any]]:
    def entry(some: list[Any]) -> dict[str, Any]:
        found = rates(rows, some)[criterion.metric]
        holds = found.rate is not None and found.rate <= (criterion.at_most or 0.0) + ROUNDING
        return {"value": found.rate, "low": found.low, "high": found.high, "holds": holds}

    by_seed = {seed: entry([found]) for seed, found in row.items()}
    return by_seed, entry(list(row.values()))


_CHECKS = {
    "relative_drop": _drop,
    "change_at_most": _change,
    "change_low": _change,
    "not_worse": _change,
    "at_most": _level,
}


def _drawn(rows: Rows, criterion: Criterion, row: Any, draws: Any) -> dict[str, Any]:
    found = beaten(rows, row, draws, criterion.metric)
    share = found["beaten"] / found["of"] if found["of"] else None
    holds = share is not None and share >= (criterion.percentile_of_draws or 0.0) - ROUNDING
    return {"value": share, "low": None, "high": None, "holds": holds, "beaten": found["beaten"], "of": found["of"]}


def _mean(found: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    value, low, high = over_seeds([entry["value"] for entry in found.values() if entry["value"] is not None])
    return {"value": value, "low": low, "high": high, "holds": all(entry["holds"] for entry in found.values())}


def _bounds(test: PairedTest) -> dict[str, Any]:
    low, high = test.interval
    return {"value": test.difference, "low": low, "high": high}


def _single(
    reported: Mapping[tuple[str, str], dict[str, Any]], name: str, target: str, task: str | None
) -> dict[int, Any]:
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
