"""Sections of the report: what of the results stands in which, as plain data for the template."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sa_lightning.evaluation.report.charts import plane
from sa_lightning.evaluation.report.flips import flips
from sa_lightning.evaluation.report.gate_charts import gate_image
from sa_lightning.evaluation.report.results import COLUMNS, pooled
from sa_lightning.evaluation.samples import JUDGED_KINDS, Outcome, Sample
from sa_lightning.evaluation.statistics.intervals import Mean, Rate, macro, rate
from sa_lightning.evaluation.statistics.rates import Summary

Rows = list[dict[str, Any]]
"""What the template goes through; it knows the keys."""

if TYPE_CHECKING:
    from sa_lightning.steering import GateRecord

GROUPS = (("safety", 2), ("over-safety", 2), ("utility", 1), ("broken", 1))
"""Headings over the columns of the main table, and how many each spans."""

MAIN = {
    "harmful": "attack_success",
    "harmless": "harmless_refusal",
    "borderline": "over_refusal",
    "utility": "utility",
}
"""What the prompts of a kind are asked for."""

XSTEST_TYPES = {
    "homonyms": "homonyms",
    "figurative_language": "figurative_language",
    "safe_targets": "safe_targets",
    "safe_contexts": "safe_contexts",
    "definitions": "definitions",
    "nons_group_real_discr": "discr",
    "real_group_nons_discr": "discr",
    "historical_events": "historical_events",
    "privacy_public": "privacy",
    "privacy_fictional": "privacy",
}
"""Types of safe prompts in XSTest (arXiv 2308.01263), and the unsafe type, `contrast_…`, that stands against each."""


def planes(arms: Mapping[str, Any], controls: Sequence[str]) -> list[dict[str, str]]:
    """Return the safety-utility planes that have points: title and image."""
    rates = {name: {measure: pooled(arm, measure) for measure in COLUMNS} for name, arm in arms.items()}
    labels = {measure: name for measure, (name, _) in COLUMNS.items()}
    drawn = [
        {
            "title": f"{labels['attack_success']} × {labels[other]}",
            "image": plane(rates, "attack_success", other, labels, controls),
        }
        for other in ("over_refusal", "harmless_refusal", "utility")
    ]
    return [found for found in drawn if found["image"]]


def outcomes(arms: Mapping[str, Any]) -> Rows:
    """Return, kind by kind, what became of the prompts in every arm: counts and shares in percent."""
    found = []
    for kind in JUDGED_KINDS:
        rows = []
        for name, arm in arms.items():
            counts = arm["outcomes"].get(kind)
            if counts and (total := sum(counts.values())):
                parts = [(o.value, counts[o.value], 100 * counts[o.value] / total) for o in Outcome if counts[o.value]]
                rows.append({"arm": name, "n": total, "parts": parts})
        if rows:
            found.append({"kind": kind, "rows": rows})
    return found


def replies(arms: Mapping[str, Any]) -> Rows:
    """Return, of every arm, how many replies changed and were cut, and what became of those that were cut."""
    rows = []
    for name, arm in arms.items():
        changed, cut = arm.get("changed"), arm.get("cut")
        if (changed and changed.n) or (cut and cut.n):
            counted = arm.get("cut_outcomes", {}).values()
            became = {outcome.value: sum(counts[outcome.value] for counts in counted) for outcome in Outcome}
            within = arm.get("thoughts_cut")
            rows.append({"arm": name, "changed": changed, "cut": cut, "within": within, "outcomes": became})
    return rows


def benchmarks(arms: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return benchmarks with their tasks: one each, but for those that are split into a task a category, as MMLU is."""
    found: dict[str, list[str]] = {}
    for task in dict.fromkeys(task for arm in arms.values() for task in arm["by_task"]):
        named = {category for arm in arms.values() for category in arm.get("by_category", {}).get(task, {})}
        only = named.pop() if len(named) == 1 else ""
        found.setdefault(task.removesuffix(f"_{only}") if only else task, []).append(task)
    # One part alone is not the benchmark.
    return {name if len(tasks) > 1 else tasks[0]: tasks for name, tasks in found.items()}


def categories(arms: Mapping[str, Any]) -> Rows:
    """Return, for every benchmark with two categories or more, the main rate in each, arm by arm."""
    found = []
    for benchmark, tasks in benchmarks(arms).items():
        by_arm = [_merged([arm.get("by_category", {}).get(task, {}) for task in tasks]) for arm in arms.values()]
        names = list(dict.fromkeys(name for each in by_arm for name in each))
        for measure in MAIN.values() if len(names) > 1 else ():
            rows = [{"name": name, "cells": [each.get(name, {}).get(measure) for each in by_arm]} for name in names]
            rows = [row for row in rows if any(row["cells"])]
            if rows:
                means = [_mean(arm, tasks, measure, each) for arm, each in zip(arms.values(), by_arm, strict=True)]
                found.append({"task": benchmark, "measure": measure, "means": means, "rows": rows})
    return found


def tasks(arms: Mapping[str, Any]) -> Rows:
    """Return every rate of every benchmark, arm by arm, over the prompts of all its tasks."""
    found = []
    for benchmark, parts in benchmarks(arms).items():
        rows = []
        for measure in COLUMNS:
            cells = [
                _pooled([arm["by_task"][part] for part in parts if part in arm["by_task"]], measure)
                for arm in arms.values()
            ]
            if any(cells):
                rows.append({"measure": measure, "cells": cells})
        found.append({"task": benchmark, "parts": len(parts), "rows": rows})
    return [each for each in found if each["rows"]]


def _mean(arm: Mapping[str, Any], tasks: Sequence[str], measure: str, cells: Mapping[str, Any]) -> Mean:
    if len(tasks) == 1:  # its own mean knows of families
        return arm["by_task"].get(tasks[0], {}).get("macro", {}).get(measure) or macro({})
    return macro({name: cell[measure] for name, cell in cells.items() if measure in cell})


def _merged(parts: Sequence[Mapping[str, Any]]) -> Summary:
    return {name: cell for part in parts for name, cell in part.items()}


def _pooled(found: Sequence[Mapping[str, Any]], measure: str) -> Rate | None:
    rates: list[Rate] = [each[measure] for each in found if measure in each]
    return rate(sum(one.k for one in rates), sum(one.n for one in rates)) if rates else None


def xstest_types(arms: Mapping[str, Any]) -> Rows:
    """Return, for every type of XSTest, how much each arm declines of it and of its contrast.

    Declined is refused or partial, on either side, so that the two can be compared.
    """
    safe = [_declined(arm, "borderline") for arm in arms.values()]
    unsafe = [_declined(arm, "harmful") for arm in arms.values()]
    rows = [
        {
            "safe": name,
            "contrast": f"contrast {contrast}",
            "cells": [(one.get(name), other.get(contrast)) for one, other in zip(safe, unsafe, strict=True)],
        }
        for name, contrast in XSTEST_TYPES.items()
    ]
    return [row for row in rows if any(one or other for one, other in row["cells"])]


def _declined(arm: Mapping[str, Any], kind: str) -> dict[str, Rate]:
    counts: dict[str, list[int]] = {}
    for task, by_category in arm.get("by_category", {}).items():
        if "xstest" in task and arm["by_task"][task]["kind"] == kind:
            for category, cell in by_category.items():
                pair = counts.setdefault(category.removeprefix("contrast_"), [0, 0])
                pair[0] += cell["outcomes"]["refused"] + cell["outcomes"]["partial"]
                pair[1] += cell["n"]
    return {category: rate(k, n) for category, (k, n) in counts.items()}


def weighings(arms: Mapping[str, Any]) -> Rows:
    """Return rates that can be weighed otherwise than prompt by prompt: over categories, or over families."""
    rows = []
    for name, arm in arms.items():
        for measure in COLUMNS:
            mean = arm.get("macro", {}).get(measure)
            families = arm.get("clustered", {}).get(measure)
            if families or (mean and mean.categories > 1):
                rows.append(
                    {
                        "arm": name,
                        "measure": measure,
                        "micro": pooled(arm, measure),
                        "macro": mean,
                        "families": families,
                    }
                )
    return rows


def differing(samples: Mapping[str, Sequence[Sample]], named: Sequence[str], show_replies: bool) -> Rows:
    """Return, for the first arm against each other one, the prompts in which they differ."""
    there = [name for name in named if name in samples]
    pairs = [(there[0], other) for other in there[1:]] if there else []
    return [
        {"a": a, "b": b, "rows": rows}
        for a, b in pairs
        if (rows := flips(samples[a], samples[b], show_replies=show_replies))
    ]


def gates(records: Mapping[str, "GateRecord"]) -> Rows:
    """What gates make of prompts: how many of each class they find, with intervals, and a plot."""
    return [
        {
            "name": name,
            "positive": rate(*record.positive),
            "negative": rate(*record.negative),
            "auroc": record.auroc,
            "threshold": record.threshold,
            "held_out": record.held_out,
            "exempted": [count for count, _ in record.exempt.exempted.values()] if record.exempt else [],
            "image": gate_image(record, name),
        }
        for name, record in records.items()
    ]


def words(vocabulary: Mapping[str, Mapping[str, Any]]) -> Rows:
    """The words that the directions of each segment of layers write, of both signs, and which segment is steered."""
    from sa_lightning.steering.directions.vocabulary import visible  # here, for a report without it needs no torch

    return [
        {
            "weights": name,
            "layers": f"{one['layers'][0]} to {one['layers'][-1]}",
            "score": f"{100 * one['score']:.0f} %",
            "tokens": [(visible(token), said) for token, said in zip(one["tokens"], one["refusal"], strict=True)],
            "opposite": [visible(token) for token in one["opposite"]],
            "steered": number == found["steered"],
        }
        for name, found in vocabulary.items()
        for number, one in enumerate(found["segments"])
    ]


def ranges(arms: Mapping[str, Any], controls: Sequence[str]) -> dict[str, tuple[Any, Any] | None]:
    """Return, of each rate, the least and the greatest among the controls, or nothing if there are none."""
    found = {}
    for measure in COLUMNS if controls else ():
        values = [one.rate for name in controls if (one := pooled(arms[name], measure)).rate is not None]
        found[measure] = (min(values), max(values)) if values else None
    return found
