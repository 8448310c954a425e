"""What a comparison found: a function of its rows alone, and what compare.json holds."""

from collections.abc import Mapping
from typing import Any

from sa_lightning.evaluation.statistics.comparisons import PAIRED, holm
from sa_lightning.experiments.compare.choice import aim_of, pooled, remark
from sa_lightning.experiments.compare.criteria import judged
from sa_lightning.experiments.compare.pairs import CandidateChange, Change, CorrectedChange, against, beaten, rates
from sa_lightning.experiments.compare.plan import Job, Plan
from sa_lightning.experiments.compare.rows import Row
from sa_lightning.experiments.compare.settings import ORIGINAL
from sa_lightning.experiments.settings import Settings
from sa_lightning.files import Json

__all__ = ["findings"]


def findings(plan: Plan) -> Json:
    """Put together, from the rows that are there, all that tables and plots show.

    Returns:
        `targets`: for each, `choices` (what was tried, what was taken) and `rows` (rates, changes, controls, curves);
        `candidates`, `criteria`, and `missing`: row, target, stage and seeds of what is not measured yet.
    """
    reported = {
        (name, target): _reported(plan, name, target) for name in plan.methods for target in plan.targets_of(name)
    }
    found: Json = {"targets": {}}
    for target in plan.models:
        rows = {name: reported[name, target] for name in plan.methods if (name, target) in reported}
        found["targets"][target] = {
            "model": plan.models[target]["target"],
            "choices": {name: _choice(plan, name, target) for name in rows if plan.chooses(name)},
            "rows": {name: _row(plan, name, target, rows) for name in rows},
        }
        _correct(found["targets"][target]["rows"])
    found["candidates"] = _candidates(plan, reported)
    found["criteria"] = [judged(criterion, plan, reported) for criterion in plan.criteria]
    found["missing"] = _missing(plan)
    return found


def _reported(plan: Plan, name: str, target: str) -> Json:
    """The measurements of a row for the report: `single` or `draws`, by seed, and the points of its `curve`."""
    jobs = plan.reporting(name, target) if plan.is_reported(name) else []
    draws: dict[int, list[Row]] = {}
    curve: list[tuple[Settings, dict[int, Row]]] = []
    for job in jobs:
        row = plan.rows.find(job.key)
        if row is None or "failed" in row:
            continue
        if not job.curve:
            draws.setdefault(job.seed, []).append(row)
            continue
        known = next((rows for settings, rows in curve if settings == job.settings), None)
        if known is None:
            curve.append((job.settings, known := {}))
        known[job.seed] = row
    lost = [(job, row) for job in jobs if (row := plan.rows.find(job.key)) is not None and "failed" in row]
    single = {} if plan.methods[name].draws else {seed: rows[0] for seed, rows in draws.items()}
    return {
        "single": single,
        "draws": draws,
        "curve": curve,
        "failed": sorted({row["failed"] for _, row in lost}),
        "failed_seeds": sorted({job.seed for job, _ in lost if not job.curve}),
    }


def _row(plan: Plan, name: str, target: str, rows: Mapping[str, Json]) -> Json:
    method, own = plan.methods[name], rows[name]
    choice = plan.choice(name, target) if name != ORIGINAL else None
    every = [row for found in own["draws"].values() for row in found]
    drawn = method.draws > 0
    tasks = list(dict.fromkeys(entry["task"] for row in every for entry in row["documents"]))
    found: Json = {
        "arm": method.arm,
        "state": "fixed" if choice is None else choice.state,
        "settings": None if choice is None else choice.settings,
        "reported": plan.is_reported(name),
        "failed": own["failed"],
        "seeds": sorted(own["draws"]),
        "draws": method.draws,
        "rates": rates(plan.rows, every, draws=drawn),
        "by_task": {task: rates(plan.rows, every, task, draws=drawn) for task in tasks},
        "by_seed": {seed: pooled(found) for seed, found in sorted(own["draws"].items())},
    }
    if method.draws:
        numbers = range(1, method.draws + 1)
        complete = [[row for row in every if row.get("draw") == number] for number in numbers]
        spread = [pooled(draw) for draw in complete if draw]
        found["of_draws"] = {
            metric: sorted(r for one in spread if (r := one[metric].rate) is not None) for metric in PAIRED
        }
    else:
        if name != ORIGINAL:
            found["change"] = against(plan.rows, rows[ORIGINAL]["single"], own["single"])
        found["controls"] = {
            other: _control(plan, other, own, rows[other]) for other in method.control if other in rows
        }
    found["curve"] = [
        {"settings": settings, "seeds": sorted(points), "rates": rates(plan.rows, list(points.values()))}
        for settings, points in own["curve"]
    ]
    return found


def _control(plan: Plan, name: str, own: Mapping[str, Any], other: Mapping[str, Any]) -> Json:
    """A row against a control: paired with its one measurement, or standing among its draws."""
    if not plan.methods[name].draws:
        return {"change": against(plan.rows, other["single"], own["single"])}
    found = {seed: beaten(plan.rows, row, other["draws"].get(seed, ())) for seed, row in sorted(own["single"].items())}
    return {"draws": found}


def _correct(rows: Mapping[str, Json]) -> None:
    """Correct p-values by Holm's method, measure by measure: over all rows against the original, over all controls."""
    first: list[dict[str, Change]] = [row["change"] for row in rows.values() if row.get("change")]
    second: list[dict[str, Change]] = [
        control["change"]
        for row in rows.values()
        for control in row.get("controls", {}).values()
        if control.get("change")
    ]
    for changes in (first, second):
        for metric in PAIRED:
            holders = [change for change in changes if metric in change]
            adjusted = holm([change[metric].p_clustered for change in holders])
            for change, p in zip(holders, adjusted, strict=True):
                change[metric] = CorrectedChange(**vars(change[metric]), p_holm=p, tests=len(holders))


def _choice(plan: Plan, name: str, target: str) -> Json:
    """What was tried on the prompts for choosing, with the original's rates there."""
    choice = plan.choice(name, target)
    before = plan.before(target) or pooled([])
    method = plan.methods[name]
    trials = [
        {
            "settings": trial.settings,
            "rates": trial.metrics,
            "remark": trial.failed or remark(trial.metrics, before, plan.settings.limits),
            "taken": number == choice.taken,
        }
        for number, trial in enumerate(choice.trials)
    ]
    aim = None
    if method.rule == "matched":
        aim = aim_of(method, before[plan.settings.objective])
    return {"state": choice.state, "rule": method.rule, "aim": aim, "original": before, "trials": trials}


def _candidates(plan: Plan, reported: Mapping[tuple[str, str], Json]) -> Json | None:
    """The candidate that was chosen, tested against the baseline, also as if all candidates had been tested there."""
    if plan.candidates is None:
        return None
    names, baseline = plan.candidates.names, plan.candidates.baseline
    winner = plan.winner()
    found: Json = {
        "names": names,
        "baseline": baseline,
        "on": plan.candidates.target or next(iter(plan.models)),
    }
    found |= {"chosen": winner or None, "waiting": winner is None, "against": {}}
    for target in plan.targets_of(winner) if winner else ():
        if (baseline, target) in reported:
            change = against(plan.rows, reported[baseline, target]["single"], reported[winner or "", target]["single"])
            found["against"][target] = {
                metric: CandidateChange(**vars(one), p_candidates=min(1.0, len(names) * one.p_clustered))
                for metric, one in change.items()
            }
    return found


def _missing(plan: Plan) -> list[Json]:
    jobs, waiting = plan.jobs()
    lacking: dict[tuple[str, str, str], list[Job]] = {}
    for job in jobs:
        if plan.rows.find(job.key) is None:
            lacking.setdefault((job.row, job.target, job.stage), []).append(job)
    found = [
        {"row": row, "target": target, "stage": stage, "seeds": sorted({job.seed for job in some}), "count": len(some)}
        for (row, target, stage), some in lacking.items()
    ]
    return found + [
        {"row": row, "target": target, "stage": "waiting for a choice", "seeds": [], "count": count}
        for row, target, count in waiting
    ]
