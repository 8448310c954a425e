"""Tables of a comparison, as lines of cells, the head first."""

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

from sa_lightning.evaluation.statistics.comparisons import PairedTest
from sa_lightning.evaluation.statistics.intervals import Rate
from sa_lightning.experiments.compare.pairs import CorrectedChange
from sa_lightning.experiments.compare.settings import ORIGINAL

SHOWN = ("attack_success", "harmless_refusal", "over_refusal", "utility", "degenerate")
NOTES = {
    "none": "no setting is within the limits",
    "waiting": "not chosen yet",
    "fallback": "beyond the limits, the closest",
}
Lines = list[list[str]]


def rate_lines(rows: Mapping[str, Mapping[str, Any]], *, brief: bool = False) -> Lines:
    """Rates over all seeds: attacks together and task by task, and what a row costs; of draws, mean and range."""
    metrics = [m for m in SHOWN if m == "attack_success" or any(row["rates"][m].n for row in rows.values())]
    apart: dict[str, list[str]] = {}  # attacks, and borderline prompts, task by task where there are several
    for metric in ("attack_success", "over_refusal"):
        tasks = [task for task, rates in rows[ORIGINAL]["by_task"].items() if rates[metric].n]
        apart[metric] = tasks if len(tasks) > 1 and not brief else []
    head = [name for metric in metrics for name in (*_named([metric]), *apart.get(metric, ()))]
    lines = [["row", "settings", *head, "seeds"]]
    for name, row in rows.items():
        if row["reported"] is False:
            continue
        write = _brief if brief else _cell
        cells = [write(row["rates"][metric]) for metric in metrics]
        if row.get("of_draws"):
            cells = [_spread(row["rates"][metric], row["of_draws"].get(metric, ())) for metric in metrics]
        whole = dict(zip(metrics, cells, strict=True))
        cells = [
            cell
            for metric in metrics
            for cell in (
                whole[metric],
                *(write(row["by_task"][t][metric]) if t in row["by_task"] else "–" for t in apart.get(metric, ())),
            )
        ]
        said = short_settings(row["settings"]) if row["settings"] is not None else ""
        note = "; ".join([*filter(None, [NOTES.get(row["state"], "")]), *row["failed"]])
        count = f"{len(row['seeds'])}" + (f" × {row['draws']} draws" if row["draws"] else "")
        lines.append([name, f"{said} ({note})" if note else said, *cells, count])
    return lines


def change_lines(changes: Mapping[str, Mapping[str, Any] | None]) -> Lines:
    """Changes of every measure, row by row."""
    known = {name: change for name, change in changes.items() if change}
    metrics = [metric for metric in SHOWN if any(metric in change for change in known.values())]
    lines = [["row", *_named(metrics)]]
    for name, change in known.items():
        lines.append([name, *(_change(change[metric]) if metric in change else "–" for metric in metrics)])
    return lines


def control_lines(rows: Mapping[str, Mapping[str, Any]]) -> Lines:
    """Every row against each of its controls."""
    paired = {
        f"{name} − {other}": control.get("change")
        for name, row in rows.items()
        for other, control in row.get("controls", {}).items()
    }
    lines = [[*line, ""] for line in change_lines(paired)]
    lines[0][-1] = "draws with higher attack success"
    width = len(lines[0])
    for name, row in rows.items():
        for other, control in row.get("controls", {}).items():
            if control.get("draws"):
                found = control["draws"]
                beaten = "; ".join(f"seed {seed}: {e['beaten']} of {e['of']}" for seed, e in found.items() if e["of"])
                lines.append([f"{name} − {other}", *[""] * (width - 2), beaten])
    return lines


def seed_lines(rows: Mapping[str, Mapping[str, Any]], metric: str) -> Lines:
    """One rate, seed by seed; of draws, their mean."""
    seeds = sorted({seed for row in rows.values() for seed in row["by_seed"]})
    lines = [["row", *(f"seed {seed}" for seed in seeds)]]
    for name, row in rows.items():
        cells = [_brief(row["by_seed"][seed][metric]) if seed in row["by_seed"] else "–" for seed in seeds]
        if any(cell != "–" for cell in cells):
            lines.append([name, *cells])
    return lines if len(seeds) > 1 else lines[:1]


def choice_lines(choices: Mapping[str, Mapping[str, Any]]) -> Lines:
    """All that was tried, on the prompts for choosing."""
    lines = [["row", "settings", *_named(SHOWN), ""]]
    for name, choice in choices.items():
        if not lines[1:] and choice["original"]["attack_success"].n:
            lines.append([ORIGINAL, "", *(_brief(choice["original"][metric]) for metric in SHOWN), ""])
        for trial in choice["trials"]:
            taken = "closest to the limits" if choice["state"] == "fallback" else "chosen"
            if choice["aim"] is not None:
                taken = f"chosen, closest to {100 * choice['aim']:.1f} %"
            remark = taken if trial["taken"] else trial["remark"] if choice["rule"] == "best" else ""
            rates = [_brief(trial["rates"][metric]) if trial["rates"] else "–" for metric in SHOWN]
            lines.append([name, short_settings(trial["settings"]), *rates, remark])
    return lines


def criteria_lines(criteria: Sequence[Mapping[str, Any]]) -> Lines:
    """Statements, what was found, and whether they are met."""
    lines = [["statement", "found", "by seed", "verdict"]]
    for found in criteria:
        write = _points if found["signed"] else _percent

        def bounded(entry: Mapping[str, Any], write: Any = write) -> str:
            if entry["value"] is None:
                return "–"
            bounds = "" if entry["low"] is None else f" [{write(entry['low'])}, {write(entry['high'])}]"
            return f"{write(entry['value'])}{bounds}"

        value, by_seed = bounded(found), []
        for seed, entry in found["by_seed"].items():
            said = f"{entry['beaten']} of {entry['of']}" if "of" in entry else bounded(entry)
            by_seed.append(f"seed {seed}: {said}{'' if entry['holds'] else ' ✗'}")
        verdict = f"{found['verdict']} ({found['holding']} of {found['of']} seeds)"
        why = f"{found['verdict']}: {found['why']}" if found["why"] else verdict
        lines.append([found["text"], value, "; ".join(by_seed), why])
    return lines


def candidate_lines(candidates: Mapping[str, Any] | None) -> Lines:
    """The candidate that was chosen against the baseline, target by target and measure by measure."""
    if candidates is None:
        return []
    lines = [["chosen", "target", "measure", f"change from {candidates['baseline']}", "p", "p × candidates"]]
    if candidates["chosen"] is None:
        reason = "not decided yet" if candidates["waiting"] else "none is within the limits"
        return [*lines, [f"{reason}, of {', '.join(candidates['names'])}", *[""] * 5]]
    for target, change in candidates["against"].items():
        for metric, entry in change.items():
            ps = [_p(entry.p_clustered), _p(entry.p_candidates)]
            lines.append([candidates["chosen"], target, metric.replace("_", " "), _interval(entry), *ps])
    if not lines[1:]:
        lines.append([candidates["chosen"], "", "not measured yet", "", "", ""])
    return lines


def missing_lines(missing: Sequence[Mapping[str, Any]]) -> Lines:
    """What is not measured yet."""
    lines = [["row", "target", "stage", "seeds", "measurements"]]
    for one in missing:
        seeds = f"seeds {', '.join(map(str, one['seeds']))}" if one["seeds"] else ""
        lines.append([one["row"], one["target"], one["stage"], seeds, str(one["count"])])
    return lines


def short_settings(settings: Mapping[str, Any] | None) -> str:
    """Settings without the name of their part; paths by their ends, instructions by their beginnings."""
    found = []
    for name, value in (settings or {}).items():
        if name == "prompting.instruction":
            found.append(f"instruction “{shorten(str(value), 40, placeholder=' …')}”")
            continue
        said = f"{value:.4g}" if isinstance(value, float) else str(value)
        if isinstance(value, dict):  # a gate says its kind, parts their names
            said = str(value.get("kind") or ", ".join(value))
        found.append(f"{name.split('.')[-1]} {said.split('/')[-1] if isinstance(value, str) else said}")
    return ", ".join(found)


def _named(metrics: Sequence[str]) -> list[str]:
    return [metric.replace("_", " ") for metric in metrics]


def _cell(rate: Rate) -> str:
    value, low, high = rate.percent
    return _brief(rate) if rate.low is None else f"{value:.1f} [{low:.1f}, {high:.1f}] ({rate.k}/{rate.n})"


def _brief(rate: Rate) -> str:
    return f"{rate.percent[0]:.1f} ({rate.k}/{rate.n})" if rate.n else "–"


def _spread(rate: Rate, draws: Sequence[float]) -> str:
    if not rate.n or not draws:
        return "–"
    return f"{rate.percent[0]:.1f}, draws {100 * min(draws):.1f} to {100 * max(draws):.1f}"


def _change(change: CorrectedChange) -> str:
    seeds = ""
    if change.seeds_low is not None and change.seeds_high is not None:
        seeds = f" {{{_points(change.seeds_low)}, {_points(change.seeds_high)}}}"
    return f"{_interval(change)}{seeds}, p {_p(change.p_holm)}"


def _interval(test: PairedTest) -> str:
    low, high = test.interval
    return f"{_points(test.difference)} [{_points(low)}, {_points(high)}]"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
