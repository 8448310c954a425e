"""The report as one HTML page that fetches nothing and shows no reply."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from sa_lightning.evaluation.charts import COLOURS, bars, lines
from sa_lightning.evaluation.comparisons import paired_difference
from sa_lightning.evaluation.rates import Rate
from sa_lightning.evaluation.report import COLUMNS, arrow, pooled, write_whole
from sa_lightning.evaluation.samples import Outcome

_STYLE = """
:root{--ink:#1d232b;--soft:#667180;--rule:#dde2e8;--back:#fff;--card:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--soft:#98a3b2;--rule:#343c47;--back:#14181d;--card:#1c2229}}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:36px 24px 64px}h1{font-size:26px;line-height:1.25;margin:0 0 6px}
h2{font-size:18px;margin:40px 0 4px}p{margin:4px 0 12px;max-width:76ch}.soft,caption,small{color:var(--soft)}
.lead{font-size:17px;margin-top:14px}.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;margin:8px 0}
th,td{padding:7px 10px;text-align:right;border-bottom:1px solid var(--rule);vertical-align:top;white-space:nowrap;
font-variant-numeric:tabular-nums}th:first-child,td:first-child,td.left{text-align:left}
thead th{font-weight:600;border-bottom:2px solid var(--rule)}small{display:block;font-size:12px;font-weight:400}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:14px}
figure{margin:0;padding:12px 14px;background:var(--card);border-radius:8px}figcaption{font-weight:600}
img{display:block;max-width:100%}
.key i{display:inline-block;width:11px;height:11px;border-radius:2px;margin:0 5px 0 14px}
details{margin:6px 0}summary{cursor:pointer;color:var(--soft)}pre{white-space:pre-wrap;overflow-wrap:anywhere;
background:var(--card);padding:12px;border-radius:8px;font-size:13px}
"""


def write_html(
    results: Mapping[str, Any],
    path: str | Path,
    *,
    directions: Mapping[str, Sequence[float]] | None = None,
    settings: str | Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the report: one file, no network, no replies, no script.

    Args:
        results: From `results_json`.
        path: Where to write it, whole or not at all.
        directions: Name to one number a block: the norm of the fitted direction there.
        settings: What else made the numbers, shown as it is.
        notes: Sentences to show under the headline, such as a limit of the run.
    """
    arms: Mapping[str, Mapping[str, Any]] = results["arms"]
    body = [
        f"<h1>{escape(results['model'])}</h1>",
        f'<p class="soft">Seed {escape(str(results["seed"]))} · judge: {escape(results["judge"])} · '
        f"{len(arms)} arm{'s' * (len(arms) != 1)}, the same prompts, the same decoding</p>",
        f'<p class="lead">{escape(headline(results))}</p>',
        *(f"<p>{escape(note)}</p>" for note in notes),
        _section("Every arm", "Rates over prompts, with Wilson 95 % intervals in brackets.", _arms(arms)),
        _section("Before and after", "Bars are rates in percent; whiskers are 95 % intervals.", _figures(arms)),
        _section("The same prompts, arm against arm", _PAIRED, _paired(results["paired"])),
    ]
    norms = {name: [float(value) for value in values] for name, values in (directions or {}).items() if len(values)}
    if norms:
        about = "Length, block by block, of the safe-minus-unsafe difference that the direction was fitted on."
        key = _key(norms)
        body.append(_section("Directions", about, f"{key}<figure>{lines(norms, 'block', 'norm')}</figure>"))
    body += [
        _section(
            "Task by task",
            "What each task counts, with Wilson 95 % intervals. ↓: lower is better, ↑: higher is better.",
            _by_task(arms),
        ),
        _section("Outcomes", "Prompts by kind and by what became of them.", _outcomes(arms)),
        _section("How these numbers were made", "", _provenance(results, settings)),
    ]
    title = escape(f"{results['model']}: safety report")
    write_whole(
        path,
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n",
    )


def headline(results: Mapping[str, Any]) -> str:
    """Say in a sentence or two what changed from the first arm to the last, and at what price."""
    # Random controls stand beside the arms; the headline is not about them.
    names = [name for name in results["arms"] if not name.startswith("random-")] or list(results["arms"])
    first, last = results["arms"][names[0]], results["arms"][names[-1]]

    def change(measure: str) -> str:
        before, after = pooled(first, measure), pooled(last, measure)
        if before["n"] == 0:
            return f"{COLUMNS[measure][0]} was not measured"
        if len(names) == 1:
            return f"{COLUMNS[measure][0]} is {_percent(before)} ({before['k']} of {before['n']})"
        if before["k"] == after["k"]:
            return f"{COLUMNS[measure][0]} stays at {_percent(after)} (n = {after['n']})"
        return f"{COLUMNS[measure][0]} goes from {_percent(before)} to {_percent(after)} (n = {after['n']})"

    start = f"From {names[0]} to {names[-1]}: " if len(names) > 1 else f"In the one arm, {names[0]}: "
    price = ("harmless_refusal", "over_refusal", "utility", "degenerate")
    return f"{start}{change('attack_success')}. At the same time {'; '.join(map(change, price))}."


_PAIRED = (
    "Prompts that count in one arm alone, McNemar's exact two-sided p (not corrected for the number of comparisons), "
    "and the difference b − a with Tango's 95 % interval for paired proportions. "
    "↓: lower is better, ↑: higher is better."
)


def _section(title: str, about: str, content: str) -> str:
    return f"<section><h2>{title}</h2><p class='soft'>{about}</p>{content}</section>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def _percent(found: Rate) -> str:
    return "–" if found["n"] == 0 else f"{100 * found['rate']:.1f} %"


def _cell(found: Rate | None) -> str:
    if not found or found["n"] == 0:
        return "–"
    interval = f"[{100 * found['low']:.1f}, {100 * found['high']:.1f}]"
    return f"{_percent(found)}<small>{found['k']}/{found['n']} {interval}</small>"


def _titles() -> list[str]:
    return [f"{name}<small>{direction}</small>" for name, direction in COLUMNS.values()]


def _arms(arms: Mapping[str, Any]) -> str:
    return _table(
        ["arm", *_titles()],
        ([escape(name), *(_cell(pooled(arm, measure)) for measure in COLUMNS)] for name, arm in arms.items()),
    )


def _figures(arms: Mapping[str, Any]) -> str:
    figures = [
        f"<figure><figcaption>{name} <small>{direction}</small></figcaption>"
        f"{bars({arm: pooled(found, measure) for arm, found in arms.items()})}</figure>"
        for measure, (name, direction) in COLUMNS.items()
    ]
    return f'<div class="cards">{"".join(figures)}</div>'


def _key(names: Iterable[str]) -> str:
    marks = (f'<i style="background:{COLOURS[i % len(COLOURS)]}"></i>{escape(name)}' for i, name in enumerate(names))
    return f'<p class="key">{"".join(marks)}</p>'


def _paired(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "<p>One arm alone has nothing to be compared with.</p>"

    def cells(row: Mapping[str, Any]) -> list[str]:
        difference, low, high = paired_difference(row["b_only"], row["a_only"], row["n"])
        name, direction = COLUMNS[row["metric"]]
        if difference is None or low is None or high is None:
            shown = "–"
        else:
            shown = f"{100 * difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
        p = "&lt; 0.0001" if row["p"] < 1e-4 else f"{row['p']:.4f}"
        return [
            f"{escape(row['a'])} → {escape(row['b'])}", f'{name} <span class="soft">{arrow(direction)}</span>',
            *(str(row[key]) for key in ("n", "a_only", "b_only")), shown, p,
        ]  # fmt: skip

    head = ["a → b", "measure", "n", "only a", "only b", "b − a, points", "p"]
    first = [row for row in rows if row["a"] == rows[0]["a"]]
    others = [row for row in rows if row["a"] != rows[0]["a"]]
    shown = _table(head, map(cells, first))
    if others:
        shown += (
            f"<details><summary>The other {len(others)} pairs</summary>{_table(head, map(cells, others))}</details>"
        )
    return shown


def _by_task(arms: Mapping[str, Any]) -> str:
    rows = []
    for task in dict.fromkeys(task for arm in arms.values() for task in arm["by_task"]):
        found = [arm["by_task"].get(task, {}) for arm in arms.values()]
        measures = [measure for measure in COLUMNS if any(measure in each for each in found)]
        for number, measure in enumerate(measures):
            name, direction = COLUMNS[measure]
            rows.append(
                [
                    escape(task) if number == 0 else "",
                    f'{name} <span class="soft">{arrow(direction)}</span>',
                    *(_cell(each.get(measure)) for each in found),
                ]
            )
    return _table(["task", "measure", *map(escape, arms)], rows)


def _outcomes(arms: Mapping[str, Any]) -> str:
    rows = (
        [escape(name) if number == 0 else "", kind, *(str(counts[outcome.value]) for outcome in Outcome)]
        for name, arm in arms.items()
        for number, (kind, counts) in enumerate(arm["outcomes"].items())
    )
    return _table(["arm", "prompts", *(outcome.value for outcome in Outcome)], rows)


def _provenance(results: Mapping[str, Any], settings: str | Mapping[str, Any] | None) -> str:
    command = results["command"]
    parts = [f"<pre>{escape(command if isinstance(command, str) else ' '.join(command))}</pre>"]
    if settings and settings not in (command, json.dumps(command)):
        text = settings if isinstance(settings, str) else json.dumps(settings, indent=2, ensure_ascii=False)
        parts.append(f"<pre>{escape(text)}</pre>")
    seconds = results["seconds"].items()
    parts.append(_table(["stage", "seconds"], ([escape(stage), f"{value:.1f}"] for stage, value in seconds)))
    versions = results["versions"].items()
    parts.append(_table(["package", "version"], ([escape(name), escape(str(value))] for name, value in versions)))
    return "".join(parts)
