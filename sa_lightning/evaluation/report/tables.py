"""Results as a table in the terminal, and as Markdown for a model card."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sa_lightning.evaluation.report.results import COLUMNS, arrow, percent, pooled
from sa_lightning.evaluation.statistics.changes import CONTROL
from sa_lightning.evaluation.statistics.intervals import Mean, Rate
from sa_lightning.evaluation.statistics.scores import TaskScore
from sa_lightning.foreign.showing import in_markdown, markdown_table

if TYPE_CHECKING:
    from rich.table import Table


def table(results: Mapping[str, Any]) -> "Table":
    """Return the arms as rows and the measures as columns, each with the way that is better."""
    from rich import box
    from rich.table import Table

    from sa_lightning.foreign.terminal import styled

    shown = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title=styled(f"{results['model']}, seed {results['seed']}"),
        title_justify="left",
        caption="↓ lower is better, ↑ higher is better; intervals and tests are in the report",
        caption_justify="left",
    )
    shown.add_column("arm", no_wrap=True)
    for name, direction in COLUMNS.values():
        # Narrow enough for eighty columns.
        head = name.replace(" ", "\n").replace("-", "-\n").replace("degenerate", "degen-\nerate")
        shown.add_column(f"{head} {arrow(direction)}", justify="right", no_wrap=True)
    for name, arm in results["arms"].items():
        cells = [percent(pooled(arm, measure)) for measure in COLUMNS]
        shown.add_row(styled(name), *(cell.replace(" % ", " %\n") for cell in cells), end_section=True)
    return shown


def reply_lines(results: Mapping[str, Any]) -> list[str]:
    """Say in a line each how many replies of which arm changed, were cut, ended in a thought, or turn late.

    Random controls are left out.

    Example:
        >>> from sa_lightning.evaluation import rate
        >>> original = {"changed": rate(0, 0), "cut": rate(3, 9)}
        >>> steered = {"changed": rate(4, 9), "cut": rate(0, 9)}
        >>> reply_lines({"arms": {"original": original, "steered": steered}})
        ['Replies that changed: steered 4 of 9.', 'Replies cut at the length limit: original 3 of 9, steered 0 of 9.']
    """
    lines = []
    for key, said in (
        ("changed", "Replies that changed"),
        ("cut", "Replies cut at the length limit"),
        ("thoughts_cut", "Replies that end inside their thought"),
        ("late", "Replies that turn behind their beginning"),
    ):
        rates = {name: arm[key] for name, arm in results["arms"].items() if key in arm and not name.startswith(CONTROL)}
        counts = [f"{name} {found.k} of {found.n}" for name, found in rates.items() if found.n]
        if counts and (key in ("changed", "cut") or any(found.k for found in rates.values())):
            lines.append(f"{said}: {', '.join(counts)}.")
    return lines


def markdown(results: Mapping[str, Any]) -> str:
    """Return the same table for a model card, with 95 % intervals; then means over categories, and scores, if any.

    Below stand how many replies changed and were cut, and the warnings.
    """
    arms = results["arms"]
    parts = [
        markdown_table(
            ["arm", *(f"{name} ({direction})" for name, direction in COLUMNS.values())],
            ([name, *(_with_interval(pooled(arm, measure)) for measure in COLUMNS)] for name, arm in arms.items()),
        ),
        "Rates over prompts, with Wilson 95 % intervals.\n",
        *(f"{in_markdown(line)}\n" for line in reply_lines(results)),
        *(f"**Warning.** {in_markdown(warning)}\n" for warning in results.get("warnings", ())),
    ]
    means = {
        measure: [arm.get("macro", {}).get(measure) for arm in arms.values()]
        for measure in COLUMNS
        if any(arm.get("by_category") for arm in arms.values())
    }
    means = {measure: found for measure, found in means.items() if any(each and each.categories > 1 for each in found)}
    if means:
        rows = ([name, *(_mean(found[number]) for found in means.values())] for number, name in enumerate(arms))
        parts += [
            markdown_table(["arm", *(COLUMNS[measure][0] for measure in means)], rows),
            "The same, every category of every task with the same weight: mean, [95 % interval], categories.\n",
        ]
    tasks = list(dict.fromkeys(task for arm in arms.values() for task in arm["scores"]))
    if tasks:
        rows = ([name, *(_score(arm["scores"].get(task)) for task in tasks)] for name, arm in arms.items())
        parts += [markdown_table(["arm", *tasks], rows), "Scores, with bootstrap 95 % intervals over documents.\n"]
    if results.get("missing"):
        parts.append(f"Left out: {in_markdown(', '.join(results['missing']))}.\n")
    return "\n".join(parts)


def _with_interval(found: Rate) -> str:
    _, low, high = found.percent
    return f"{percent(found)} [{low:.1f}, {high:.1f}]" if found.n else percent(found)


def _mean(found: Mean | None) -> str:
    if found is None or found.rate is None:
        return "–"
    value, low, high = found.percent
    return f"{value:.1f} % [{low:.1f}, {high:.1f}] {found.categories}"


def _score(found: TaskScore | None) -> str:
    if found is None or found.value is None:
        return "–"
    interval = "" if found.low is None else f" [{found.low:.4g}, {found.high:.4g}]"
    return f"{found.value:.4g} {found.unit.replace('_', ' ')}{interval}"
